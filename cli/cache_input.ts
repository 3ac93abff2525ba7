/**
 * Caches for commands: llama.cpp states, told apart by their first bytes, and .safetensors, either ours or prompt caches
 * of mlx-lm, told apart by the names of their tensors.
 *
 * @module
 */
import { readGgufModel } from "../src/adapters/gguf.ts";
import { isLlamaState, type LlamaStateLayout, readLlamaState } from "../src/adapters/llama_state.ts";
import { isMlxPromptCache, openMlxPromptCache } from "../src/adapters/mlx_prompt_cache.ts";
import { openSafetensors } from "../src/adapters/safetensors.ts";
import { readSafetensorsHeader } from "../src/adapters/safetensors_file.ts";
import type { CacheSource, ModelSpec } from "../src/cache/types.ts";
import type { ByteSource } from "../src/container/bytes.ts";
import { UsageError } from "./exit_codes.ts";
import { type Input, openFileSource } from "./files.ts";
import { type CacheFlags, safetensorsOptions } from "./options.ts";
import { scoped } from "./scope.ts";

/** A cache of a command. */
export interface OpenedCache {
  readonly cache: CacheSource;
  /** True when the cache is read from disk during the work. */
  readonly streamed: boolean;
  /** How the llama.cpp state that it came from was laid out. */
  readonly layout?: LlamaStateLayout;
}

/** Key of a file's user metadata that holds a {@linkcode LlamaStateLayout}. */
export const LAYOUT_KEY = "llamaState";

/**
 * Opens a cache of any known format. A llama.cpp state does not say its model: that comes from the GGUF, or geometry
 * from `known` (the profile's model) and the rotation from `--rope`.
 */
export async function openCache(input: Input, flags: CacheFlags, known?: ModelSpec): Promise<OpenedCache> {
  const { source } = input;
  const head = await source.read(0, Math.min(source.size, 16));
  if (!isLlamaState(head)) {
    if (flags.gguf !== undefined) {
      throw new UsageError(`Cannot use --gguf with ${input.path}: it is no llama.cpp state`);
    }
    const { tensors } = await readSafetensorsHeader(source);
    const open = isMlxPromptCache(tensors.keys()) ? openMlxPromptCache : openSafetensors;
    return { cache: await open(source, safetensorsOptions(flags)), streamed: input.streamed };
  }
  const model = await stateModel(input.path, flags, known);
  const bytes = input.bytes ?? await source.read(0, source.size);
  const { cache, layout } = readLlamaState(bytes, { model });
  return { cache, streamed: false, layout };
}

/** Opens the file of a cache for ranged reads only; nothing is held. */
export async function openCacheFile(
  path: string,
  source: ByteSource & AsyncDisposable,
  flags: CacheFlags,
): Promise<CacheSource> {
  const input = { path, source, streamed: true, [Symbol.asyncDispose]: () => source[Symbol.asyncDispose]() };
  return (await openCache(input, flags)).cache;
}

async function stateModel(path: string, flags: CacheFlags, known: ModelSpec | undefined): Promise<ModelSpec> {
  const { gguf, rope, modelId, architecture } = flags;
  let model: ModelSpec;
  if (gguf !== undefined) {
    const facts = await scoped(async (scope) =>
      await readGgufModel(scope.use(await openFileSource(gguf)), {
        ...(rope?.rope ? { pairing: rope.rope.pairing } : {}),
      })
    );
    model = facts.model;
  } else if (known !== undefined && rope !== undefined) {
    model = known;
  } else {
    throw new UsageError(
      `Cannot read ${path}: a llama.cpp state does not say its model; --gguf names the model's file` +
        (known === undefined ? "" : ", or --rope says how its keys are rotated (with their pairing)"),
    );
  }
  return {
    ...model,
    ...(rope === undefined ? {} : { rope: rope.rope }),
    ...(modelId === undefined ? {} : { id: modelId }),
    ...(architecture === undefined ? {} : { architecture }),
  };
}
