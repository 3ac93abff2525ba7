import { assert, assertAlmostEquals, assertEquals } from "deno-std/assert";
import { levelCost } from "../../../src/stages/quantize/trellis/cost.ts";
import { encodeTrellisReference } from "../../../src/stages/quantize/trellis/reference.ts";
import { NEXT_STATE, quantizerOf, STATES } from "../../../src/stages/quantize/trellis/states.ts";
import { cheapestPath } from "../../../src/stages/quantize/trellis/viterbi.ts";
import { fallingModel, normal } from "./cases.ts";

Deno.test("the trellis: every state is entered from two, by either quantizer's parity", () => {
  const entered = new Uint8Array(STATES);
  for (const to of NEXT_STATE) entered[to]++;
  assertEquals([...entered], new Array(STATES).fill(2));
  for (let state = 0; state < STATES; state++) {
    // The two ways out of a state lead to states that differ, and that differ in how they go on.
    const [even, odd] = [NEXT_STATE[2 * state], NEXT_STATE[2 * state + 1]];
    assert(even !== odd);
  }
  // From any state any other is reached within three levels: the memory of eight states.
  for (let from = 0; from < STATES; from++) {
    let reached = new Set([from]);
    for (let i = 0; i < 3; i++) {
      reached = new Set([...reached].flatMap((s) => [NEXT_STATE[2 * s], NEXT_STATE[2 * s + 1]]));
    }
    assertEquals(reached.size, STATES);
  }
});

Deno.test("no path of levels is cheaper than the one found (all paths tried)", () => {
  const components = 5;
  const model = fallingModel(components, { sigma: 1.5, decay: 0.9 });
  const classes = model.base.slice(0, components);
  const deviate = normal(7);
  for (let trial = 0; trial < 20; trial++) {
    const lambda = [0, 26, 77, 256][trial % 4];
    const residuals = Int32Array.from({ length: components }, () => Math.round(24 * deviate()));
    const costOf = (levels: ArrayLike<number>) => {
      let [state, cost] = [0, 0];
      for (let c = 0; c < components; c++) {
        cost += levelCost(model, 2 * classes[c] + quantizerOf(state), residuals[c], levels[c], lambda);
        state = NEXT_STATE[2 * state + (levels[c] & 1)];
      }
      return cost;
    };
    let least = Infinity;
    const levels = new Int32Array(components);
    const tryAll = (c: number) => {
      if (c === components) {
        least = Math.min(least, costOf(levels));
        return;
      }
      for (levels[c] = -4; levels[c] <= 4; levels[c]++) tryAll(c + 1);
    };
    tryAll(0);
    assertEquals(costOf(cheapestPath(model, residuals, classes, lambda)), least);
  }
});

Deno.test("eight states gain what theory says over uniform quantization of a fine-grained source", () => {
  // At high rate a uniform quantizer of spacing d has the mean squared error d²/12, and its entropy falls one bit a
  // doubling of d. The trellis codes one of points 2 steps apart, so its rate is that of d = 2, its error smaller: the
  // granular gain of an eight-state trellis is 1.1 dB (Marcellin and Fischer 1990, table I: 0.99 at 4, 1.09 at 8 states).
  const [components, tokens] = [200, 60];
  const model = fallingModel(components, { sigma: 60, decay: 1 });
  const deviate = normal(11);
  const y = Int32Array.from({ length: components * tokens }, () => Math.round(16 * 60 * deviate()));
  const { reconstruction, levels, refs } = encodeTrellisReference(
    { ...model, rho32: model.rho32.map(() => 0) },
    y,
    tokens,
    0,
  );
  const error = y.reduce((sum, value, i) => sum + ((value - 4 * reconstruction[i]) / 16) ** 2, 0) / y.length;
  const gain = 10 * Math.log10(4 / 12 / error);
  assert(refs.length === tokens);
  assertAlmostEquals(gain, 1.1, 0.12);
  // Its levels have the spread of the source in points two steps apart.
  const spread = Math.sqrt(levels.reduce((sum, k) => sum + k * k, 0) / levels.length);
  assertAlmostEquals(spread, 30, 0.6);
});
