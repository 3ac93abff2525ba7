/**
 * Transformers.js and a model. The library comes from where `deno task model` has installed it; in a project that
 * depends on it, all of `loadTransformers` is `import * as transformers from "@huggingface/transformers"`.
 *
 * @module
 */
import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { TensorLike } from "@kvz/kvz";
import type { ModelLike, TokenizerLike } from "@kvz/kvz/transformers";
import { Chat } from "./chat.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MAKE_MODEL = "make it with: npx -y deno@2.9.6 task model";

/** A tensor of Transformers.js. */
export interface Tensor extends TensorLike {
  readonly data: unknown;
}

/** Its cache. */
export type DynamicCache = Record<string, Tensor> & { get_seq_length(): number };

/** One message of a chat. */
export interface Message {
  readonly role: "user" | "assistant";
  readonly content: string;
}

/** The part of a tokenizer that is used here. */
export interface Tokenizer extends TokenizerLike {
  apply_chat_template(messages: readonly Message[], options: { tokenize: false; add_generation_prompt: true }): string;
  encode(text: string, options: { add_special_tokens: boolean }): number[];
  decode(ids: readonly number[], options: { skip_special_tokens: boolean }): string;
}

/** The part of a model that is used here. */
export interface Model extends ModelLike {
  readonly generation_config: { readonly eos_token_id: number | readonly number[] };
  generate(inputs: object): Promise<{ sequences: Tensor; past_key_values: DynamicCache }>;
}

/** The part of the library that is used here. */
export interface Transformers {
  readonly env: { version: string; localModelPath: string; allowRemoteModels: boolean; allowLocalModels: boolean };
  readonly AutoTokenizer: { from_pretrained(name: string): Promise<Tokenizer> };
  readonly AutoModelForCausalLM: { from_pretrained(name: string, options: object): Promise<Model> };
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => Tensor;
  readonly DynamicCache: new (entries: Record<string, Tensor>) => DynamicCache;
  readonly TextStreamer: new (tokenizer: Tokenizer, options: object) => object;
}

/** Everything that a chat runs on. */
export interface Runtime {
  readonly transformers: Transformers;
  readonly tokenizer: Tokenizer;
  readonly model: Model;
  /** Folder or name that the model was loaded by. */
  readonly name: string;
}

/** Loads the library. `KVZ_TRANSFORMERS` names another folder with a node_modules that has it. */
function loadTransformers(): Transformers {
  const folder = Deno.env.get("KVZ_TRANSFORMERS") ?? `${ROOT}.cache/eval`;
  try {
    return createRequire(`${resolve(folder)}/package.json`)("@huggingface/transformers");
  } catch (cause) {
    throw new Error(`Cannot load Transformers.js from ${folder}; ${MAKE_MODEL}`, { cause });
  }
}

/** Loads a model by folder, or by its name on the Hugging Face hub, in float32 on the CPU. */
export async function loadRuntime(name = `${ROOT}models/smollm2`): Promise<Runtime> {
  const local = existsSync(name) && statSync(name).isDirectory();
  if (local && !existsSync(`${name}/config.json`)) {
    throw new Error(`Cannot load model: ${name} has no config.json; ${MAKE_MODEL}`);
  }
  if (!local && !/^[\w.-]+\/[\w.-]+$/.test(name)) {
    throw new Error(`Cannot load model: there is no folder ${name}; ${MAKE_MODEL}`);
  }
  const transformers = loadTransformers();
  const { env, AutoTokenizer, AutoModelForCausalLM } = transformers;
  env.allowRemoteModels = !local;
  if (local) env.localModelPath = dirname(resolve(name));
  const id = local ? basename(resolve(name)) : name;
  const [tokenizer, model] = await Promise.all([
    AutoTokenizer.from_pretrained(id),
    AutoModelForCausalLM.from_pretrained(id, { dtype: "fp32", device: "cpu" }),
  ]);
  const runtime = { transformers, tokenizer, model, name };
  // The first run of a session is slower than all others: before the first question, not in its time.
  await new Chat(runtime, 1).ask("Hello", () => {});
  return runtime;
}
