import { assert, assertAlmostEquals, assertEquals, assertLess } from "deno-std/assert";
import { CalibrateKernels } from "../../src/backend/wasm/calibrate_kernels.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import { rotateKeys, rotationTable } from "../../src/cache/rope.ts";
import { type Kind, KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { lowRank } from "../../src/stages/transform/low_rank.ts";
import { relativeError } from "../codec/helpers.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { cacheOf, checkRecipe, roundTrip } from "./recipe_checks.ts";

checkRecipe({
  recipe: "xkv",
  options: { group: 2, keyShare: 0.6, valueShare: 0.6 },
  model: SMALL_MODEL,
  error: 0.2,
  append: "chunks of 4096 tokens",
});

const MODEL = { ...SMALL_MODEL, layers: 5, keyDim: 16, valueDim: 12, rope: { ...SMALL_MODEL.rope!, dim: 16 } };

/** Rows [tokens][features] of layers [begin, end), keys before RoPE. */
function rowsOf(cache: ReturnType<typeof cacheOf>, kind: Kind, begin: number, end: number): number[][] {
  const { model, tokens, positions } = cache;
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  let bytes = cache.sliceLayers(begin, end).read(kind, 0, tokens);
  if (kind === "key" && model.rope !== null) {
    const shape = { dtype: cache.dtype, tokens, dim, rotaryDim: model.rope.dim };
    bytes = rotateKeys(bytes, shape, rotationTable(model.rope, positions, "undo"));
  }
  const x = toFloat32(bytes, cache.dtype);
  const slots = (end - begin) * model.kvHeads;
  return Array.from(
    { length: tokens },
    (_, t) => Array.from({ length: slots * dim }, (_, f) => x[(Math.floor(f / dim) * tokens + t) * dim + f % dim]),
  );
}

/** Squared singular values by Jacobi rotations of the Gram matrix of the columns, falling: a solver of the test's own. */
function squaredSingularValues(rows: number[][]): number[] {
  const n = rows[0].length;
  const a = Array.from(
    { length: n },
    (_, i) => Array.from({ length: n }, (_, j) => rows.reduce((sum, row) => sum + row[i] * row[j], 0)),
  );
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (Math.abs(a[p][q]) < 1e-13 * Math.sqrt(a[p][p] * a[q][q])) continue;
        const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let i = 0; i < n; i++) [a[i][p], a[i][q]] = [c * a[i][p] - s * a[i][q], s * a[i][p] + c * a[i][q]];
        for (let i = 0; i < n; i++) [a[p][i], a[q][i]] = [c * a[p][i] - s * a[q][i], s * a[p][i] + c * a[q][i]];
      }
    }
  }
  return a.map((row, i) => Math.max(0, row[i])).sort((x, y) => y - x);
}

Deno.test("xkv: the error is that of the best approximation of its rank, keys before RoPE, groups of four layers", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(90, { model: MODEL, dtype: "f32", seed: 8 });
  const { cache: back } = await roundTrip(codec, cache, { recipe: "xkv" });
  for (const kind of KINDS) {
    for (const [begin, end] of [[0, 4], [4, 5]]) {
      const rows = rowsOf(cache, kind, begin, end);
      const restored = rowsOf(back, kind, begin, end);
      const rank = Math.round((kind === "key" ? 1 / 8 : 3 / 16) * rows[0].length);
      const rest = squaredSingularValues(rows).slice(rank).reduce((sum, value) => sum + value, 0);
      let error = 0;
      rows.forEach((row, t) => row.forEach((x, f) => error += (x - restored[t][f]) ** 2));
      // Rounding of the factors to binary16 besides.
      assertLess(Math.abs(error / rest - 1), 0.01, `${kind} of layers ${begin} to ${end}`);
    }
  }
});

// The defining step: layers share one basis. With bases of their own the same bytes hold less.
Deno.test("xkv: layers that share directions are restored better together than one by one, at the same bytes", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const model = { ...MODEL, layers: 4, rope: null };
  const next = random(12);
  const gaussian = () => Array.from({ length: 6 }, () => next() - 0.5).reduce((a, b) => a + b, 0);
  const factors = Array.from({ length: 6 * 200 }, gaussian);
  const mixes = new Map<string, number>();
  const cache = cacheOf(model, 200, "f32", (kind, layer, head, token, i) => {
    let sum = 0.05 * gaussian();
    for (let k = 0; k < 6; k++) {
      const name = `${kind} ${layer} ${head} ${i} ${k}`;
      if (!mixes.has(name)) mixes.set(name, gaussian());
      sum += mixes.get(name)! * factors[token * 6 + k];
    }
    return sum;
  });
  const together = await roundTrip(codec, cache, { recipe: "xkv", keyShare: 8 / 128, valueShare: 8 / 96 });
  const alone = await roundTrip(codec, cache, { recipe: "xkv", group: 1, keyShare: 3 / 32, valueShare: 3 / 24 });
  assertLess(together.bytes.length, alone.bytes.length);
  for (const kind of KINDS) {
    const of = (back: typeof cache) => relativeError(cache, back, kind, 0, 200);
    assertLess(5 * of(together.cache), of(alone.cache), kind);
  }
});

Deno.test("xkv: both factors are counted", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const { report } = await codec.compress(syntheticCache(100, { model: MODEL }), { recipe: "xkv" });
  const [ranks, features] = [16 + 4, 128 + 32];
  assertEquals(report.streams.KTOK, 2 * 100 * ranks);
  assertEquals(report.streams.KBAS, 2 * (16 * 128 + 4 * 32));
  assert(report.streams.VBAS < 2 * features * ranks);
});

Deno.test("low rank: factors of tall and of wide matrices, of low rank and zero", async () => {
  const kernels = await CalibrateKernels.open();
  const next = random(3);
  for (
    const [rows, columns, inner, rank] of [[30, 8, 8, 8], [8, 30, 8, 8], [20, 20, 3, 5], [60, 50, 4, 6], [7, 9, 0, 2]]
  ) {
    const a = Array.from({ length: rows * inner }, () => next() - 0.5);
    const b = Array.from({ length: inner * columns }, () => next() - 0.5);
    const x = new Float32Array(rows * columns);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        for (let i = 0; i < inner; i++) x[r * columns + c] += a[r * inner + i] * b[i * columns + c];
      }
    }
    const { left, right } = lowRank(kernels, x, rows, columns, rank);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        let sum = 0;
        for (let k = 0; k < rank; k++) sum += left[k * rows + r] * right[k * columns + c];
        assertAlmostEquals(sum, x[r * columns + c], 1e-5);
      }
    }
  }
});
