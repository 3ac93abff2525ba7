/**
 * Loads what the server has: model, tokenizer, profile.
 *
 * @module
 */
import { KvzMismatchError, type ModelSpec, type Profile } from "@kvz/kvz";

/** Called with bytes so far and in all. */
export type OnBytes = (done: number, total: number) => void;

/** A file of the server. */
async function fetchFile(path: string, hint: string): Promise<Response> {
  const response = await fetch(path);
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`Cannot load ${path}: the server answers ${response.status}; ${hint}`);
  }
  return response;
}

const MODEL_HINT = 'make the model with "deno task model" in the repository, or serve another folder with --model';

/** A JSON file of the model. */
export async function fetchModelJson(name: string): Promise<Record<string, unknown>> {
  return await (await fetchFile(`/model/${name}`, MODEL_HINT)).json();
}

/** The model's graph. */
export async function fetchGraph(onBytes: OnBytes): Promise<Uint8Array> {
  const response = await fetchFile("/model/onnx/model.onnx", MODEL_HINT);
  const total = Number(response.headers.get("content-length"));
  const bytes = new Uint8Array(total);
  let done = 0;
  for await (const part of response.body!) {
    bytes.set(part, done);
    done += part.length;
    onBytes(done, total);
  }
  return bytes;
}

/** The profile and the name of its file. */
export async function fetchProfile(): Promise<{ readonly response: Response; readonly name: string }> {
  const hint = "serve a profile with --profile";
  const { name } = await (await fetchFile("/profile.json", hint)).json();
  return { response: await fetchFile("/profile.kvzp", hint), name };
}

/**
 * Checks at once what compressing would find out after the prompt was read.
 *
 * @throws {KvzMismatchError} The profile is of another model.
 */
export function requireProfile(profile: Profile, name: string, model: ModelSpec): void {
  const facts = ({ layers, kvHeads, keyDim, valueDim, rope }: ModelSpec) =>
    `${layers} layers, ${kvHeads} KV heads, keys of ${keyDim}, values of ${valueDim}, ` +
    (rope === null ? "no RoPE" : `RoPE θ = ${rope.theta}`);
  const [found, wanted] = [facts(profile.model), facts(model)];
  if (found !== wanted) {
    throw new KvzMismatchError(`Cannot use profile ${name}: it is of a model with ${found}, expected ${wanted}`);
  }
}
