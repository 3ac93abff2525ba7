/**
 * A cache that DiffKV keeps while a model generates.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { requireFinite } from "../../cache/finite.ts";
import { KvCache } from "../../cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type CacheSource, KINDS, type ModelSpec } from "../../cache/types.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../errors.ts";
import { SCORED_QUERIES } from "../../stages/diffkv/classes.ts";
import type { PageShape } from "../../stages/diffkv/pages.ts";
import { PRECISIONS } from "../../stages/diffkv/presets.ts";
import { RunningHead } from "../../stages/diffkv/running_head.ts";
import { requireQueries } from "../../stages/tokens/attention.ts";
import { requireNext } from "../require_next.ts";
import type { RunningCache } from "../running.ts";
import type { DiffKvOptions } from "./diffkv.ts";
import { selectClasses } from "./select_classes.ts";

/**
 * Goes on where the prompt's rule ended: with its classes and scores, and what came back of the file.
 *
 * @throws {KvzMismatchError} The restored cache is not of this source and these options.
 * @throws {KvzUnsupportedError} The source has no queries of its last 64 tokens.
 */
export async function runDiffKv(
  source: CacheSource,
  restored: KvCache,
  options: DiffKvOptions,
): Promise<RunningCache> {
  const { model, model: { keyDim, valueDim }, tokens } = source;
  // A short prompt is kept without; the rule needs its scores all the same.
  if (tokens > 0) await requireQueries(source, { recipe: "diffkv", window: Math.min(SCORED_QUERIES, tokens) });
  const { marks, plan } = await selectClasses(source, options);
  const scores = new Float32Array(plan!.slice().buffer);
  const shapeOf = (name: DiffKvOptions["high"]): PageShape => ({ keyDim, valueDim, precision: PRECISIONS[name] });
  const shapes = [shapeOf(options.high), shapeOf(options.low)] as const;
  const heads = Array.from({ length: model.layers * model.kvHeads }, (_, block) => {
    const [layer, head] = [Math.floor(block / model.kvHeads), block % model.kvHeads];
    const classes = marks!.subarray(block * tokens, (block + 1) * tokens);
    const positions = restored.positionsOf(layer, head);
    const kept = source.positions.filter((_, t) => classes[t] !== 0);
    if (positions.length !== kept.length || positions.some((position, i) => position !== kept[i])) {
      throw new KvzMismatchError(
        `Cannot go on with recipe diffkv: layer ${layer}, head ${head} of the restored cache holds other tokens than ` +
          "these options keep of the source",
      );
    }
    return new RunningHead(shapes, options, {
      tokens,
      classes,
      scores: scores.subarray(block * tokens, (block + 1) * tokens),
      positions,
      keys: toFloat32(restored.key(layer, head), restored.dtype),
      values: toFloat32(restored.value(layer, head), restored.dtype),
    });
  });
  const next = tokens === 0 ? 0 : source.positions[tokens - 1] + 1;
  return new RunningDiffKv(model, heads, next);
}

class RunningDiffKv implements RunningCache {
  readonly needsQueries = true;
  readonly #model: ModelSpec;
  /** [layers][kvHeads]. */
  readonly #heads: readonly RunningHead[];
  #next: number;

  constructor(model: ModelSpec, heads: readonly RunningHead[], next: number) {
    this.#model = model;
    this.#heads = heads;
    this.#next = next;
  }

  get bytes(): number {
    return this.#heads.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  append(read: KvCache): void {
    requireNext("diffkv", read, this.#model, this.#next);
    const { kvHeads, keyDim, valueDim } = this.#model;
    const { tokens, queries } = read;
    if (queries === undefined || queries.tokens !== tokens) {
      throw new KvzUnsupportedError(
        `Cannot go on with recipe diffkv: it needs the queries of ${tokens} new tokens, found those of ${
          queries?.tokens ?? 0
        }`,
      );
    }
    for (const kind of KINDS) {
      const dim = kind === "key" ? keyDim : valueDim;
      requireFinite(read.read(kind, 0, tokens), read.dtype, { kind, heads: kvHeads, tokens, dim });
    }
    const group = queries.heads / kvHeads;
    const queryBytes = keyDim * BYTES_PER_ELEMENT[queries.dtype];
    this.#heads.forEach((head, block) => {
      const [layer, h] = [Math.floor(block / kvHeads), block % kvHeads];
      const [keys, values] = [read.key(layer, h), read.value(layer, h)].map((bytes) => toFloat32(bytes, read.dtype));
      const own = queries.layers[layer].subarray(
        h * group * tokens * queryBytes,
        (h + 1) * group * tokens * queryBytes,
      );
      const rows = toFloat32(own, queries.dtype);
      for (let t = 0; t < tokens; t++) {
        head.append(
          keys.subarray(t * keyDim, (t + 1) * keyDim),
          values.subarray(t * valueDim, (t + 1) * valueDim),
          read.positions[t],
          (what) => {
            throw new KvzUnsupportedError(
              `Cannot go on with recipe diffkv: layer ${layer}, head ${h} needs a scale or offset of ${what} at ` +
                `position ${read.positions[t]}, binary16 ends at 65504`,
            );
          },
        );
        head.attend(
          Array.from(
            { length: group },
            (_, g) => rows.subarray((g * tokens + t) * keyDim, (g * tokens + t + 1) * keyDim),
          ),
        );
      }
    });
    this.#next += tokens;
  }

  cache(): KvCache {
    const { layers, kvHeads, keyDim, valueDim } = this.#model;
    const blocks = Array.from({ length: layers }, (_, layer) =>
      Array.from({ length: kvHeads }, (_, h) => {
        const { high, low } = this.#heads[layer * kvHeads + h];
        const tokens = [...high, ...low].sort((a, b) => a.position - b.position);
        const key = new Float32Array(tokens.length * keyDim);
        const value = new Float32Array(tokens.length * valueDim);
        tokens.forEach((token, t) => {
          key.set(token.key, t * keyDim);
          value.set(token.value, t * valueDim);
        });
        return {
          key: fromFloat32(key, "f32"),
          value: fromFloat32(value, "f32"),
          positions: Int32Array.from(tokens, ({ position }) => position),
        };
      }));
    return KvCache.ragged({ model: this.#model, dtype: "f32", blocks });
  }
}
