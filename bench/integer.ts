/**
 * Speed of the integer transform, one thread: SmolLM2's geometry (30 layers × 3 heads × 64, keys and values), 1,400
 * components, 512 tokens, float16. Restoring is given with its share of the bare product of the same run.
 *
 *     deno run -A bench/integer.ts [--components 1400] [--tokens 512]
 *
 * @module
 */
import { createWasmBackend } from "../src/backend/wasm/create.ts";
import { WASM_BUILDS } from "../src/backend/wasm/exports.ts";
import { IntegerKernels } from "../src/backend/wasm/integer_kernels.ts";
import { numberToF16 } from "../src/cache/elements.ts";
import { openIntegerTransform } from "../src/stages/transform/integer.ts";
import { option } from "./inputs.ts";

const components = Number(option("components", "1400"));
const tokens = Number(option("tokens", "512"));
const rope = { dim: 64, theta: 100000, pairing: "half-split" } as const;
const geometry = { layers: 30, heads: 3, keyDim: 64, valueDim: 64, rope, dtype: "f16" } as const;
const features = 11520;
const basis = {
  components,
  features,
  basis: Int8Array.from({ length: components * features }, (_, i) => (i * 2654435761 >>> 20) % 127 - 63),
  scales: new Float32Array(features).fill(1e-3),
  mean: new Float32Array(features),
  forward: new Uint16Array(components * features).fill(numberToF16(0.01)),
};
// As large as real ones: the leading components leave a byte, most are within a few units.
const levels = Int16Array.from(
  { length: components * tokens },
  (_, i) => Math.round(600 / (1 + Math.floor(i / tokens) / 8) * Math.sin(i * i)),
);
const scales = new Float32Array(tokens).fill(0.004);
const positions = Int32Array.from({ length: tokens }, (_, t) => t);
const ctx = { tokens, positions, layerBegin: 0, layerEnd: 30 };
const key = new Uint8Array(features / 2 * tokens * 2);
const best = new Map<string, number>();
async function time(name: string, run: () => unknown): Promise<void> {
  const begin = performance.now();
  await run();
  best.set(name, Math.min(best.get(name) ?? Infinity, performance.now() - begin));
}
const opened = await Promise.all(WASM_BUILDS.map(async (build) => {
  const transform = await openIntegerTransform(await createWasmBackend({ build }), geometry, basis);
  return { build, transform, kernels: await IntegerKernels.open(build) };
}));
for (let round = 0; round < 4; round++) {
  for (const { build, transform, kernels } of opened) {
    await time(`restore ${build}`, () => {
      for (const kind of ["key", "value"] as const) transform.decode({ levels, scales }, ctx, kind);
    });
    await time(`project ${build}`, () => transform.encode({ key, value: key }, ctx));
    kernels.scoped((alloc) => {
      const depth = components + 3 >> 2;
      const step = kernels.exports.tokensAtOnce();
      const padded = Math.ceil(tokens / step) * step;
      const [tiles, source] = [alloc(features * depth * 4), alloc(levels.byteLength)];
      const planes = [alloc(padded * depth * 8), alloc(0), alloc(padded * (depth + 1)), alloc(padded * (depth + 1))];
      planes[1] = planes[0] + padded * depth * 4;
      const [sums, out] = [alloc(padded * 4), alloc(padded * features * 4)];
      const [low, high, lowRuns, highRuns] = planes;
      kernels.write(source, levels);
      kernels.exports.packLevels(source, components, tokens, low, high, lowRuns, highRuns, sums);
      const begin = performance.now();
      kernels.exports.multiply(
        tiles,
        depth,
        depth,
        low,
        high,
        lowRuns,
        highRuns,
        sums,
        padded,
        0,
        features / 16,
        out,
        features,
      );
      const ms = performance.now() - begin;
      best.set(`product ${build}`, Math.min(best.get(`product ${build}`) ?? Infinity, ms));
    });
  }
}
const products = components * features * tokens / 1e6;
for (const [name, ms] of best) {
  const build = name.split(" ")[1];
  const share = name.startsWith("restore") ? `, ${(best.get(`product ${build}`)! / ms).toFixed(2)} of the product` : "";
  console.log(
    `${name.padEnd(16)} ${Math.round(tokens / ms * 1000)} tokens/s, ${
      (products / ms).toFixed(1)
    } G multiply-adds/s${share}`,
  );
}
