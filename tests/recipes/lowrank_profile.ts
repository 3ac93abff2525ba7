/** Profiles of recipes palu and recalkv for synthetic caches, and small dense algebra. */
import { f16ToNumber, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { rotateRows, rotationTable } from "../../src/cache/rope.ts";
import { type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import type { LatentGroup, LowRankMethod, LowRankProfile } from "../../src/profile/lowrank/types.ts";
import { lowRankFingerprint } from "../../src/profile/lowrank/format.ts";
import { random, syntheticCache } from "../synthetic.ts";

/** A matrix as rows. */
export type Matrix = readonly (readonly number[])[];

export function multiply(a: Matrix, b: Matrix): number[][] {
  return a.map((row) => b[0].map((_, j) => row.reduce((sum, x, k) => sum + x * b[k][j], 0)));
}

export function transpose(a: Matrix): number[][] {
  return a[0].map((_, j) => a.map((row) => row[j]));
}

/** (AᵀA)⁻¹ Aᵀ by Gauss–Jordan elimination. */
export function pseudoinverse(a: Matrix): number[][] {
  const at = transpose(a);
  const rows = multiply(at, a).map((row, i) => [...row, ...at[i]]);
  const n = rows.length;
  for (let i = 0; i < n; i++) {
    const best = rows.slice(i).reduce((best, row, k) => Math.abs(row[i]) > Math.abs(rows[best][i]) ? i + k : best, i);
    [rows[i], rows[best]] = [rows[best], rows[i]];
    const pivot = rows[i][i];
    rows[i] = rows[i].map((x) => x / pivot);
    for (let k = 0; k < n; k++) {
      const factor = rows[k][i];
      if (k !== i) rows[k] = rows[k].map((x, j) => x - factor * rows[i][j]);
    }
  }
  return rows.map((row) => row.slice(n));
}

/** Keys before RoPE or values, [tokens][heads · dim] of a layer, heads in the given order. */
export function rowsOf(cache: KvCache, kind: Kind, layer: number, heads: readonly number[]): number[][] {
  const { model, tokens, dtype, positions } = cache;
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  const x = toFloat32(cache.read(kind, 0, tokens), dtype);
  if (kind === "key" && model.rope !== null) {
    rotateRows(x, dim, model.rope.dim, rotationTable(model.rope, positions, "undo"));
  }
  return Array.from({ length: tokens }, (_, t) =>
    heads.flatMap((head) => {
      const at = ((layer * model.kvHeads + head) * tokens + t) * dim;
      return [...x.subarray(at, at + dim)];
    }));
}

/** A group whose decoder spans the first tokens of a cache: orthonormal columns, mixed. */
function groupOf(cache: KvCache, kind: Kind, layer: number, heads: readonly number[], rank: number): LatentGroup {
  const basis: number[][] = [];
  for (const row of rowsOf(cache, kind, layer, heads).slice(0, rank)) {
    let rest = row;
    for (let pass = 0; pass < 2; pass++) {
      for (const b of basis) {
        const along = rest.reduce((sum, x, i) => sum + x * b[i], 0);
        rest = rest.map((x, i) => x - along * b[i]);
      }
    }
    const norm = Math.sqrt(rest.reduce((sum, x) => sum + x * x, 0));
    basis.push(rest.map((x) => x / norm));
  }
  const next = random(layer * 10 + rank);
  const mix = basis.map((_, i) => basis.map((_, j) => (i === j ? 1 : 0) + 0.3 * (next() - 0.5)));
  const decoder = Uint16Array.from(multiply(transpose(basis), mix).flat(), numberToF16);
  const stored = Array.from(
    { length: basis[0].length },
    (_, i) => Array.from(decoder.subarray(i * rank, (i + 1) * rank), f16ToNumber),
  );
  return { heads, rank, decoder, projector: Float32Array.from(pseudoinverse(stored).flat()) };
}

/** A profile of latents of `rank` numbers: for palu a group a head, for recalkv key heads swapped and values together. */
export async function lowRankProfile<Method extends LowRankMethod>(
  method: Method,
  model: ModelSpec,
  rank: number,
): Promise<LowRankProfile<Method>> {
  const cache = syntheticCache(40, { model, dtype: "f32", seed: 77 });
  const heads = Array.from({ length: model.kvHeads }, (_, h) => h);
  const groups: Record<Kind, number[][]> = method === "palu"
    ? { key: heads.map((h) => [h]), value: heads.map((h) => [h]) }
    : { key: [[...heads].reverse()], value: [heads] };
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    const of = (kind: Kind) => ({
      groups: groups[kind].map((heads) => groupOf(cache, kind, layer, heads, rank)),
      bias: null,
    });
    return { key: of("key"), value: of("value") };
  });
  const kept = layers.flatMap((layer) => KINDS.flatMap((kind) => layer[kind].groups.map((group) => group.rank)));
  const all = model.layers * model.kvHeads * (model.keyDim + model.valueDim);
  return {
    method,
    model,
    fingerprint: await lowRankFingerprint(method, model, layers),
    calibration: { tokens: 40, sinks: 0, sequences: 1, seed: 0 },
    fit: { removed: 1 - kept.reduce((a, b) => a + b, 0) / all, ranks: "uniform", rows: "none", hadamard: false },
    layers,
    shingles: new BigUint64Array(0),
  };
}
