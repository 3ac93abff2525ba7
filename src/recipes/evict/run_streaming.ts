/**
 * A cache that StreamingLLM keeps while a model generates: the sinks, and a window that moves on.
 *
 * @module
 */
import { castCache } from "../../cache/cast.ts";
import { KvCache } from "../../cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type CacheSource, type DType, KINDS } from "../../cache/types.ts";
import { requireNext } from "../require_next.ts";
import type { RunningCache } from "../running.ts";
import { capacityOf, tooFew } from "./select_tokens.ts";
import type { StreamingLlmOptions } from "./streamingllm.ts";

/**
 * Goes on with as many tokens as the prompt kept: those of `capacity`, or the share `keep` of the prompt's, whatever comes
 * after it. Positions stay those of the sequence, as in the file.
 *
 * @throws {RangeError} The sinks leave no room for newest tokens.
 */
// deno-lint-ignore require-await -- part of the recipe's interface
export async function runStreaming(
  source: CacheSource,
  restored: KvCache,
  options: StreamingLlmOptions,
): Promise<RunningCache> {
  const { sinks } = options;
  const capacity = options.capacity ?? capacityOf(options, source.tokens);
  if (sinks >= capacity) throw tooFew("sinks", sinks, capacity);
  return new RunningStream(
    castCache(restored, "f32"),
    source.dtype,
    capacity,
    sinks,
    source.tokens === 0 ? 0 : source.positions[source.tokens - 1] + 1,
  );
}

class RunningStream implements RunningCache {
  readonly needsQueries = false;
  /** All heads hold the same tokens. */
  #held: KvCache;
  readonly #stored: DType;
  readonly #capacity: number;
  readonly #sinks: number;
  #next: number;

  constructor(held: KvCache, stored: DType, capacity: number, sinks: number, next: number) {
    this.#held = held;
    this.#stored = stored;
    this.#capacity = capacity;
    this.#sinks = sinks;
    this.#next = next;
  }

  /** Elements of the type that the file has. */
  get bytes(): number {
    const { layers, kvHeads, keyDim, valueDim } = this.#held.model;
    return this.#held.tokens * layers * kvHeads * (keyDim + valueDim) * BYTES_PER_ELEMENT[this.#stored];
  }

  append(read: KvCache): void {
    const held = this.#held;
    requireNext("streamingllm", read, held.model, this.#next);
    this.#next += read.tokens;
    const tokens = held.tokens + read.tokens;
    const sinks = Math.min(this.#sinks, tokens);
    const newest = Math.min(tokens - sinks, this.#capacity - sinks);
    const stays = (t: number) => t < sinks || t >= tokens - newest;
    const coming = castCache(read, "f32");
    const kept = (mine: Uint8Array, theirs: Uint8Array) => {
      const row = (mine.length + theirs.length) / tokens;
      const out = new Uint8Array((sinks + newest) * row);
      for (let t = 0, at = 0; t < tokens; t++) {
        if (!stays(t)) continue;
        const [from, begin] = t < held.tokens ? [mine, t] : [theirs, t - held.tokens];
        out.set(from.subarray(begin * row, (begin + 1) * row), at);
        at += row;
      }
      return out;
    };
    const { layers, kvHeads } = held.model;
    const positions = Int32Array.from([...held.positions, ...coming.positions]).filter((_, t) => stays(t));
    const blocks = Array.from({ length: layers }, (_, layer) =>
      Array.from({ length: kvHeads }, (_, head) => {
        const [key, value] = KINDS.map((kind) => kept(held[kind](layer, head), coming[kind](layer, head)));
        return { key, value, positions };
      }));
    this.#held = new KvCache({ model: held.model, dtype: "f32", blocks });
  }

  cache(): KvCache {
    return this.#held;
  }
}
