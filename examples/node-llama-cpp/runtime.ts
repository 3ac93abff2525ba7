/**
 * node-llama-cpp, loaded by path, and contexts whose form is known: what a state has to look like to be loaded.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type GgmlType, type GgufModel, type LlamaContextFacts, readGgufModel } from "@kvz/kvz";
import { openFile } from "@kvz/kvz/fs";
import { runtimeEntry } from "./install.ts";

/** The part of node-llama-cpp's interface that is used here; its own types come only with the package. */
export interface Sequence {
  readonly nextTokenIndex: number;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  evaluate(tokens: readonly number[], options: { temperature: number }): AsyncGenerator<number, void, void>;
  controlledEvaluate(
    input: readonly (number | [number, object])[],
  ): Promise<({ next: { logits?: Map<number, number>; probabilities?: Map<number, number> } } | undefined)[]>;
  saveStateToFile(path: string): Promise<{ fileSize: number }>;
  loadStateFromFile(path: string, risk: { acceptRisk: true }): Promise<void>;
}

interface Context {
  readonly contextSize: number;
  readonly totalSequences: number;
  readonly flashAttention: boolean | "auto";
  getSequence(): Sequence;
  dispose(): Promise<void>;
}

interface Model {
  readonly fileInsights: { readonly trainContextSize?: number };
  tokenize(text: string): number[];
  detokenize(tokens: readonly number[]): string;
  iterateAllTokens(): Iterable<number>;
  createContext(options: object): Promise<Context>;
}

interface Llama {
  loadModel(options: { modelPath: string }): Promise<Model>;
  dispose(): Promise<void>;
}

interface RuntimeModule {
  getLlama(options: object): Promise<Llama>;
}

/** How a context keeps its cache. */
export interface ContextForm {
  /** Element type of keys and values. */
  readonly cacheType: GgmlType;
  /** Without it values lie transposed, and llama.cpp takes no quantized ones. */
  readonly flashAttention: boolean;
}

/** One sequence in a context of its own. */
export interface OpenSequence extends AsyncDisposable {
  readonly sequence: Sequence;
  /** What a state must be to be loaded into the sequence. */
  readonly facts: LlamaContextFacts;
}

/** A model in the runtime. */
export interface Runtime extends AsyncDisposable {
  /** What the GGUF says. */
  readonly gguf: GgufModel;
  /** Number of token ids. */
  readonly vocabulary: number;
  tokenize(text: string): number[];
  detokenize(tokens: readonly number[]): string;
  /**
   * Opens a context of one sequence of at most so many tokens.
   *
   * @throws {RangeError} More tokens than the model was trained for.
   * @throws {Error} llama.cpp refuses the form; the message is llama.cpp's.
   */
  open(tokens: number, form: ContextForm): Promise<OpenSequence>;
}

/** The GGUF that `deno task model` makes, from here. */
const MODEL_PATH = "models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/**
 * The model's file: the one given, else KVZ_GGUF, else that of `deno task model`.
 *
 * @throws {Error} It is missing.
 */
export function findModel(given?: string): string {
  const named = given ?? Deno.env.get("KVZ_GGUF");
  const path = named ?? fileURLToPath(new URL(`../../${MODEL_PATH}`, import.meta.url));
  if (existsSync(path)) return path;
  throw new Error(
    `Cannot open model: ${path} is missing; deno task model makes it in the repository, --model or KVZ_GGUF names ` +
      "another GGUF",
  );
}

/**
 * Loads runtime and model.
 *
 * @throws {Error} The runtime is not installed.
 */
export async function openRuntime(modelPath: string): Promise<Runtime> {
  if (!existsSync(runtimeEntry())) {
    throw new Error(`Cannot load node-llama-cpp: ${runtimeEntry()} is missing; deno task install installs it`);
  }
  const { getLlama } = await import(pathToFileURL(runtimeEntry()).href) as RuntimeModule;
  // Read first: it refuses by name what is no GGUF.
  const file = await openFile(modelPath);
  const gguf = await readGgufModel(file).finally(() => file[Symbol.asyncDispose]());
  const errors: string[] = [];
  const llama = await getLlama({
    build: "never",
    gpu: false,
    // On a busy machine llama.cpp's threads spin for each other: one is the faster choice there.
    maxThreads: 1,
    logLevel: "error",
    logger: (_: string, message: string) => void errors.push(message.trim()),
  });
  const model = await llama.loadModel({ modelPath });
  let vocabulary = 0;
  for (const _ of model.iterateAllTokens()) vocabulary++;
  return {
    gguf,
    vocabulary,
    tokenize: (text) => model.tokenize(text),
    detokenize: (tokens) => model.detokenize(tokens),
    open: async (tokens, form) => {
      checkContext(tokens, gguf);
      errors.length = 0;
      const context = await createContext(model, tokens, form).catch((error) => {
        throw errors.length > 0 ? new Error(`Cannot create context: ${errors.at(-1)}`, { cause: error }) : error;
      });
      return {
        sequence: context.getSequence(),
        facts: {
          model: gguf.model,
          contextSize: Math.min(tokens, context.contextSize), // llama.cpp rounds up; what was asked for counts
          streams: context.totalSequences,
          transposedValues: context.flashAttention === false,
          keyType: form.cacheType,
          valueType: form.cacheType,
          vocabulary,
        },
        [Symbol.asyncDispose]: () => context.dispose(),
      };
    },
    [Symbol.asyncDispose]: () => llama.dispose(),
  };
}

function checkContext(tokens: number, { contextLength = Infinity }: GgufModel): void {
  if (tokens > contextLength) {
    throw new RangeError(
      `Cannot create context: ${tokens} tokens are asked for, the model takes at most ${contextLength}`,
    );
  }
}

function createContext(model: Model, tokens: number, { cacheType, flashAttention }: ContextForm): Promise<Context> {
  const type = cacheType.toUpperCase();
  return model.createContext({
    contextSize: tokens,
    sequences: 1,
    flashAttention,
    experimentalKvCacheKeyType: type,
    experimentalKvCacheValueType: type,
  });
}
