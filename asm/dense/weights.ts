// Weights as the register tile reads them.
import { OUTPUTS } from "./layer";

/** Weights [inputs][outputs] to [outputs / 6][inputs][6], inputs filled up to an even number and outputs to a multiple of 6. */
export function packWeights(src: usize, inputs: usize, outputs: usize, dst: usize): void {
  const depth = inputs + (inputs & 1);
  for (let j: usize = 0; j < outputs; j += OUTPUTS, dst += depth * OUTPUTS * 4) {
    const count = min(OUTPUTS, outputs - j);
    if (count < OUTPUTS || inputs < depth) memory.fill(dst, 0, depth * OUTPUTS * 4);
    for (let i: usize = 0; i < inputs; i++) {
      const from = src + (i * outputs + j) * 4, to = dst + i * OUTPUTS * 4;
      for (let o: usize = 0; o < count; o++) store<f32>(to + o * 4, load<f32>(from + o * 4));
    }
  }
}
