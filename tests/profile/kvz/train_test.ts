import { assert, assertEquals } from "deno-std/assert";
import { TrellisKernels } from "../../../src/backend/wasm/trellis_kernels.ts";
import { train } from "../../../src/profile/kvz/train.ts";
import { normal } from "../../stages/trellis/cases.ts";
import { random } from "../../synthetic.ts";

Deno.test("training lowers the coded bits", async () => {
  const [tokens, components] = [256, 24];
  const next = random(5);
  const variance = Float64Array.from({ length: components }, (_, c) => 16 * 2 ** (-c / 4));
  const coefficients = new Float32Array(tokens * components);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) {
      const noise = next() + next() + next() + next() - 2;
      const before = t === 0 ? 0 : coefficients[(t - 1) * components + c];
      coefficients[t * components + c] = 0.8 * before + 0.6 * Math.sqrt(3 * variance[c]) * noise;
    }
  }
  const kernels = await TrellisKernels.open();
  const bits: number[] = [];
  for (const rounds of [1, 2, 4]) {
    const trained = train(kernels, [{ tokens, coefficients }], variance, { steps: [-30, 60], lambda: 0.3, rounds });
    assertEquals(trained.stepSets.map(({ s }) => s), [-30, 60]);
    assert(trained.bits[1] > trained.bits[0]);
    bits.push(trained.bits[1]);
  }
  assert(bits[1] < bits[0] && bits[2] < bits[1], bits.join(" "));
});

Deno.test("training: prediction is learned, the same result twice", async () => {
  const kernels = await TrellisKernels.open();
  const [components, tokens] = [40, 200];
  const next = normal(12);
  const variance = Float64Array.from({ length: components }, (_, c) => 0.9 ** c);
  const coefficients = new Float32Array(tokens * components);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) {
      const before = t === 0 ? 0 : coefficients[(t - 1) * components + c];
      coefficients[t * components + c] = 0.8 * before + 0.6 * Math.sqrt(variance[c]) * next();
    }
  }
  const options = { steps: [60], lambda: 0.3 };
  const trained = train(kernels, [{ tokens, coefficients }], variance, options);
  // Neighbours resemble each other: the mode that most tokens use predicts about 0.8, and its residuals are smaller than
  // the coefficients.
  const [{ rho32, logSigma }] = trained.stepSets;
  const best = [0, 1, 2, 3, 4].map((mode) => rho32[mode * components] / 32);
  assert(best.some((rho) => Math.abs(rho - 0.8) < 0.1), `${best}`);
  assert(Math.min(...[0, 1, 2, 3, 4].map((mode) => logSigma[mode * components])) < -30);
  const [a, b] = [1, 2].map(() => train(kernels, [{ tokens, coefficients }], variance, options));
  assertEquals(a, b);
});
