/**
 * Recipes that need nothing but a cache, on the sample: bytes, relative errors, and tokens a second of processor time in
 * one thread (not of the clock: other work on the machine does not count).
 *
 *     deno run -A bench/recipes.ts [--only kivi,q8_0] [--repeat 4] [--rounds 3]
 *
 * `repeat` puts the sample that often behind itself, at rising positions: 4 makes 1024 tokens.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../src/cache/elements.ts";
import { KvCache } from "../src/cache/kv_cache.ts";
import { rotateRows, shiftTable } from "../src/cache/rope.ts";
import { type Kind, KINDS } from "../src/cache/types.ts";
import { openCodec } from "../src/codec/open.ts";
import type { CompressOptions } from "../src/codec/options.ts";
import { readSafetensors } from "../src/adapters/safetensors.ts";
import { cpuUsage } from "node:process";
import { option } from "./inputs.ts";
import { markdown } from "./controls/tables.ts";

const SETTINGS: readonly CompressOptions[] = [
  { recipe: "kivi", bits: 2 },
  { recipe: "kivi", bits: 4 },
  { recipe: "cachegen" },
  { recipe: "turboquant", bits: 2 },
  { recipe: "turboquant", bits: 4 },
  { recipe: "turboquant", bits: 4, variant: "prod" },
  { recipe: "quarot" },
  { recipe: "q8_0" },
  { recipe: "q4_0" },
  { recipe: "fp8" },
  { recipe: "xkv" },
  { recipe: "kvcomp" },
  { recipe: "kvcomp", keyGroups: "channel" },
  { recipe: "packkv" },
  { recipe: "packkv", repack: "median" },
  { recipe: "packkv", repack: "none" },
];

const only = option("only", "").split(",").filter((name) => name !== "");
const rounds = Number(option("rounds", "3"));
const cache = repeated(await sample(), Number(option("repeat", "4")));

async function sample(): Promise<KvCache> {
  const bytes = await Deno.readFile(new URL("../samples/smollm2-256.safetensors", import.meta.url));
  return await readSafetensors(bytes);
}

/** The cache behind itself, keys turned on. */
function repeated(cache: KvCache, times: number): KvCache {
  const { model, dtype, tokens } = cache;
  const { layers, kvHeads, rope } = model;
  const positions = Int32Array.from({ length: times * tokens }, (_, t) => t);
  const block = (kind: Kind, layer: number) => {
    const dim = kind === "key" ? model.keyDim : model.valueDim;
    const out = new Float32Array(kvHeads * times * tokens * dim);
    for (let n = 0; n < times; n++) {
      const x = toFloat32(cache.sliceLayers(layer, layer + 1).read(kind, 0, tokens), dtype);
      const there = positions.slice(n * tokens, (n + 1) * tokens);
      if (kind === "key" && rope) rotateRows(x, dim, rope.dim, shiftTable(rope, cache.positions, there));
      for (let h = 0; h < kvHeads; h++) {
        out.set(x.subarray(h * tokens * dim, (h + 1) * tokens * dim), (h * times + n) * tokens * dim);
      }
    }
    return fromFloat32(out, dtype);
  };
  const all = Array.from({ length: layers }, (_, l) => ({ key: block("key", l), value: block("value", l) }));
  return new KvCache({ model, dtype, positions, layers: all });
}

function relativeError(back: KvCache, kind: Kind): number {
  const [a, b] = [cache, back].map((c) => toFloat32(c.read(kind, 0, c.tokens), c.dtype));
  let [error, energy] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    error += (a[i] - b[i]) ** 2;
    energy += a[i] ** 2;
  }
  return Math.sqrt(error / energy);
}

/** Result and processor seconds of the fastest of the rounds. */
async function timed<T>(body: () => Promise<T>): Promise<[T, number]> {
  let best: [T, number] | null = null;
  for (let round = 0; round < rounds; round++) {
    const before = cpuUsage();
    const result = await body();
    const { user, system } = cpuUsage(before);
    const seconds = (user + system) / 1e6;
    if (best === null || seconds < best[1]) best = [result, seconds];
  }
  return best!;
}

await using codec = await openCodec(null, { threads: 1 });
const rows: string[][] = [];
for (const options of SETTINGS) {
  const { recipe, ...rest } = options;
  if (only.length > 0 && !only.includes(recipe!)) continue;
  const [{ bytes, report }, encode] = await timed(() => codec.compress(cache, options));
  const [{ cache: back }, decode] = await timed(() => codec.decompress(bytes));
  rows.push([
    recipe!,
    Object.entries(rest).map(([name, value]) => `${name} ${value}`).join(", "),
    (16 / report.paperRatio!).toFixed(3),
    report.fileRatio.toFixed(2),
    ...KINDS.map((kind) => relativeError(back, kind).toFixed(4)),
    ...[encode, decode].map((seconds) => Math.round(cache.tokens / seconds).toString()),
  ]);
  console.error(rows[rows.length - 1].join("  "));
}
console.log(`${cache.tokens} tokens\n`);
console.log(markdown(
  ["recipe", "setting", "bits a value", "file ratio", "error K", "error V", "encode tokens/s", "decode tokens/s"],
  rows,
));
