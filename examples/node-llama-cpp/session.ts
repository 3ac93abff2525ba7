/**
 * A llama.cpp sequence as a .kvz file and back.
 *
 * @module
 */
import {
  checkLlamaState,
  type Codec,
  type CompressReport,
  type GgufModel,
  inspect,
  type JsonObject,
  KvzFormatError,
  type KvzHeader,
  KvzMismatchError,
  type LlamaContextFacts,
  type LlamaStateLayout,
  modelFingerprint,
  parseLlamaStateLayout,
  readLlamaState,
  writeLlamaState,
} from "@kvz/kvz";
import type { OpenSequence } from "./runtime.ts";

/** Options of {@linkcode compressState}. */
export interface StateOptions {
  /** Target ratio. */
  readonly ratio: number;
  /** Newest tokens kept bit-exact. */
  readonly window?: number;
  /** Keep the quantized elements exactly: through f32 instead of f16. Only useful where nothing is coded. */
  readonly exact?: boolean;
  /** JSON to keep with the cache. */
  readonly user?: JsonObject;
}

/** The state of a sequence, as the runtime writes it. */
export async function takeState({ sequence }: OpenSequence): Promise<Uint8Array> {
  return await inTemporaryFile(async (path) => {
    await sequence.saveStateToFile(path);
    return await Deno.readFile(path);
  });
}

/**
 * Gives a sequence a state: the next token is evaluated after it. The state is checked first, since llama.cpp ends the
 * process on one that it cannot read.
 *
 * @throws what {@linkcode checkLlamaState} throws
 */
export async function giveState({ sequence, facts }: OpenSequence, state: Uint8Array): Promise<void> {
  checkLlamaState(state, facts);
  await inTemporaryFile(async (path) => {
    await Deno.writeFile(path, state);
    await sequence.loadStateFromFile(path, { acceptRisk: true });
  });
}

/**
 * State → .kvz. Its layout goes into the file's user metadata under the name that `kvz decompress` reads, and the
 * model's name beside it.
 */
export async function compressState(
  state: Uint8Array,
  gguf: GgufModel,
  codec: Codec,
  options: StateOptions,
): Promise<{ bytes: Uint8Array; report: CompressReport }> {
  const { ratio, window, exact, user } = options;
  const { cache, layout } = readLlamaState(state, { model: gguf.model, ...(exact ? { dtype: "f32" } : {}) });
  return await codec.compress(cache, {
    ratio,
    ...(window === undefined ? {} : { window }),
    user: {
      ...user,
      llamaState: { ...layout } as unknown as JsonObject,
      ...(gguf.name === undefined ? {} : { gguf: gguf.name }),
    },
  });
}

/**
 * .kvz → state, in the form that a context takes, whatever the form it was saved in.
 *
 * @throws {KvzFormatError} The file is damaged or was not made from a state.
 * @throws {KvzMismatchError} The file is of another model or profile.
 */
export async function restoreState(
  bytes: Uint8Array,
  gguf: GgufModel,
  facts: LlamaContextFacts,
  codec: Codec,
): Promise<{ state: Uint8Array; header: KvzHeader }> {
  const { header } = await inspect(bytes);
  await checkSameModel(header, gguf);
  if (header.user?.llamaState === undefined) {
    throw new KvzFormatError("Cannot restore state: the .kvz file was not made from a llama.cpp state");
  }
  const layout = layoutFor(facts, parseLlamaStateLayout(header.user.llamaState));
  const { cache } = await codec.decompress(bytes);
  return { state: writeLlamaState(cache, layout), header };
}

/** The codec compares file and profile; here the file is compared with the model that will go on from it. */
async function checkSameModel(header: KvzHeader, gguf: GgufModel): Promise<void> {
  const { id } = header.model; // a GGUF states none; the file has the profile's
  const own = await modelFingerprint({ ...gguf.model, ...(id === undefined ? {} : { id }) });
  const name = header.user?.gguf;
  if (own !== header.modelFingerprint || (name !== undefined && name !== gguf.name)) {
    const told = ({ architecture, layers, kvHeads, keyDim }: LlamaContextFacts["model"], called: unknown) =>
      `${called ?? "unnamed"} (${architecture}, ${layers} layers, ${kvHeads} KV heads of ${keyDim})`;
    throw new KvzMismatchError(
      `Cannot restore state: the file is of ${told(header.model, name)}, the model is ${told(gguf.model, gguf.name)}`,
    );
  }
}

/** A layout with the types and the order that a context wants. */
function layoutFor({ keyType, valueType, transposedValues, streams }: LlamaContextFacts, stored: LlamaStateLayout) {
  const quantized = [keyType, valueType].some((type) => type.startsWith("q"));
  const same = keyType === stored.keyType && valueType === stored.valueType;
  return {
    ...stored,
    keyType,
    valueType,
    transposedValues,
    hadamard: same ? stored.hadamard : quantized,
    streams,
    stream: 0,
    sequence: 0,
  };
}

async function inTemporaryFile<T>(work: (path: string) => Promise<T>): Promise<T> {
  const dir = await Deno.makeTempDir({ prefix: "kvz-" });
  try {
    return await work(`${dir}/sequence.state`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
