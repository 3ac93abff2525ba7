import { assert, assertEquals, assertLess, assertLessOrEqual } from "deno-std/assert";
import { roundTiesEven } from "../../src/backend/reference/e4m3.ts";
import { f16ToNumber, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import { KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { cachegenReach } from "../../src/recipes/baselines/cachegen_coder.ts";
import { fillGaussian } from "../../src/profile/random.ts";
import { SMALL_MODEL } from "../synthetic.ts";
import { BLOCK_MODEL } from "./models.ts";
import { cacheOf, checkRecipe, roundTrip } from "./recipe_checks.ts";

checkRecipe({ recipe: "cachegen", model: SMALL_MODEL, error: 0.12, append: "chunks of 256 tokens" });
checkRecipe({
  recipe: "cachegen",
  options: { level: 1 },
  model: BLOCK_MODEL,
  error: 0.3,
  append: "chunks of 256 tokens",
});

const MODEL = { ...BLOCK_MODEL, layers: 6, rope: null };

/** Channels of very different spreads, as keys have. */
function channelCache(tokens: number) {
  const numbers = new Float64Array(2 * 6 * 2 * tokens * 64);
  fillGaussian(numbers, 9);
  return cacheOf(MODEL, tokens, "f32", (kind, layer, head, token, i) => {
    const at = ((((kind === "key" ? 0 : 6) + layer) * 2 + head) * tokens + token) * 64 + i;
    return numbers[at] * (i % 8 === 0 ? 4 : 0.05 + 0.03 * (i % 8));
  });
}

Deno.test("cachegen: bins of a model of 32 layers are LMCache's", () => {
  const shape = (kind: "key" | "value") => ({ kind, layers: 32, heads: 8, dim: 128 });
  const bins = (kind: "key" | "value", level: number) =>
    Array.from({ length: 32 }, (_, layer) => 2 * (cachegenReach(shape(kind), level, layer) + 1));
  assertEquals(bins("key", 2), [...Array(10).fill(32), ...Array(22).fill(16)]);
  assertEquals(bins("value", 2), [...Array(2).fill(32), ...Array(30).fill(16)]);
  assertEquals(new Set([...bins("key", 3), ...bins("value", 3)]), new Set([32]));
  assertEquals(bins("key", 1).slice(-1), [12]);
});

Deno.test("cachegen: restores round(x · M ÷ a) · a ÷ M, a the absmax of a token of a layer", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const tokens = 40;
  const cache = channelCache(tokens);
  const { cache: back } = await roundTrip(codec, cache, { recipe: "cachegen" });
  for (const kind of KINDS) {
    const dim = kind === "key" ? 64 : 32;
    const [a, b] = [cache, back].map((c) => toFloat32(c.read(kind, 0, tokens), "f32"));
    for (let layer = 0; layer < 6; layer++) {
      const reach = (kind === "key" ? [15, 15, 7, 7, 7, 7] : [15, 15, 7, 7, 7, 7])[layer];
      for (let t = 0; t < tokens; t++) {
        const places = [0, 1].flatMap((head) =>
          Array.from({ length: dim }, (_, i) => ((layer * 2 + head) * tokens + t) * dim + i)
        );
        const most = f16ToNumber(numberToF16(Math.max(...places.map((i) => Math.abs(a[i])))));
        for (const i of places) {
          const wanted = roundTiesEven(a[i] * reach / most) * most / reach;
          assert(Math.abs(b[i] - wanted) < 1e-5 * most, `${kind} ${layer} ${t}: ${b[i]}, expected ${wanted}`);
          assertLessOrEqual(Math.abs(a[i] - b[i]), most * (0.5 / reach + 2 ** -10));
        }
      }
    }
  }
});

/** Σ −log2 of the share of each symbol, over groups of positions. */
function entropyBits(values: Float32Array, groupOf: (i: number) => number): number {
  const counts = new Map<string, number>();
  const totals = new Map<number, number>();
  values.forEach((value, i) => {
    const group = groupOf(i);
    counts.set(`${group} ${value}`, (counts.get(`${group} ${value}`) ?? 0) + 1);
    totals.set(group, (totals.get(group) ?? 0) + 1);
  });
  let bits = 0;
  for (const [name, count] of counts) bits -= count * Math.log2(count / totals.get(Number(name.split(" ")[0]))!);
  return bits;
}

// The defining step: a distribution for each layer and channel, not one for all. One for all fails the second bound.
Deno.test("cachegen: symbols cost what the channels' own distributions say, not what one for all would", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const tokens = 256;
  const cache = channelCache(tokens);
  const { bytes } = await codec.compress(cache, { recipe: "cachegen", level: 3 });
  const { report } = await codec.compress(cache, { recipe: "cachegen", level: 3 });
  const { cache: back } = await codec.decompress(bytes);
  for (const kind of KINDS) {
    const dim = kind === "key" ? 64 : 32;
    const x = toFloat32(back.read(kind, 0, tokens), "f32");
    // What was coded: the restored value in steps of its token.
    const symbols = new Float32Array(x.length);
    for (let layer = 0; layer < 6; layer++) {
      for (let t = 0; t < tokens; t++) {
        const places = [0, 1].flatMap((head) =>
          Array.from({ length: dim }, (_, i) => ((layer * 2 + head) * tokens + t) * dim + i)
        );
        const most = Math.max(...places.map((i) => Math.abs(x[i])));
        for (const i of places) symbols[i] = Math.round(x[i] / most * 15);
      }
    }
    const channel = (i: number) => Math.floor(i / (tokens * dim)) * dim + i % dim;
    const coded = 8 * report.streams[kind === "key" ? "KSYM" : "VSYM"];
    const own = entropyBits(symbols, channel);
    const layers = entropyBits(symbols, (i) => Math.floor(i / (2 * tokens * dim)));
    assertLess(coded, 1.12 * own, `${kind}: ${coded} bits, entropy of the channels ${own}`);
    assertLess(coded, 0.8 * layers, `${kind}: ${coded} bits, entropy of the layers ${layers}`);
  }
});
