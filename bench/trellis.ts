/**
 * Speed of prediction and trellis-coded quantization, one thread: chunks of 512 tokens of 1,400 components, synthetic
 * coefficients that resemble those of SmolLM2 (2.1 bits a component).
 *
 *     deno run -A bench/trellis.ts [--components 1400] [--tokens 512]
 *
 * @module
 */
import { WASM_BUILDS } from "../src/backend/wasm/exports.ts";
import { TrellisKernels } from "../src/backend/wasm/trellis_kernels.ts";
import { decodeTrellis, encodeTrellis } from "../src/stages/quantize/trellis/trellis.ts";
import { coefficients, fallingModel } from "../tests/stages/trellis/cases.ts";
import { option } from "./inputs.ts";

const components = Number(option("components", "1400"));
const tokens = Number(option("tokens", "512"));
const shape = { sigma: 12, decay: 0.997 };
const model = fallingModel(components, shape);
const y = coefficients(components, tokens, 1, shape).map((value) => Math.max(-1e5, Math.min(1e5, value)));
const builds = await Promise.all(WASM_BUILDS.map((build) => TrellisKernels.open(build)));
const best = new Map<string, number>();
function time<T>(name: string, run: () => T): T {
  const begin = performance.now();
  const result = run();
  best.set(name, Math.min(best.get(name) ?? Infinity, performance.now() - begin));
  return result;
}
for (let round = 0; round < 5; round++) {
  for (const kernels of builds) {
    const code = time(`encode ${kernels.build}`, () => encodeTrellis(kernels, model, y, tokens, 0.3));
    time(`decode ${kernels.build}`, () => decodeTrellis(kernels, model, code.levels, code, tokens));
  }
}
for (const [name, ms] of best) console.log(`${name.padEnd(16)} ${Math.round(tokens / ms * 1000)} tokens/s`);
