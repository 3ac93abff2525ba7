/**
 * The trellis of dependent quantization: two quantizers whose union is the fine lattice, and eight states that choose
 * between them. Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources" (1990), in
 * the form of JPEG 2000 part 2 (Annex D) and VVC (Schwarz et al., "Trellis-coded quantization for end-to-end learned
 * image compression" and JVET-K0071): the parity of a level moves the state, so that no path is sent.
 *
 *     quantizer 0 (states 0 … 3): 2k           … −4 −2  0  2  4 …
 *     quantizer 1 (states 4 … 7): 2k − sgn k   … −3 −1  0  1  3 …
 *
 * Reconstructions are in units of the step.
 *
 * @module
 */

/** States of the trellis. */
export const STATES = 8;

/** JPEG 2000's machine: state and parity → next state. */
const JPEG_2000: readonly (readonly [number, number])[] = [
  [0, 1],
  [2, 3],
  [5, 4],
  [7, 6],
  [1, 0],
  [3, 2],
  [4, 5],
  [6, 7],
];

/** Its states renamed, so that the highest bit of a state is its quantizer. */
function renamed(state: number): number {
  return state >> 1 | (state & 1) << 2;
}

/** Next state by 2 · state + parity of the level. A token starts in state 0. */
export const NEXT_STATE: Uint8Array = nextStates();

function nextStates(): Uint8Array {
  const next = new Uint8Array(2 * STATES);
  for (const [state, row] of JPEG_2000.entries()) {
    for (const [parity, to] of row.entries()) next[2 * renamed(state) + parity] = renamed(to);
  }
  return next;
}

/** Quantizer of a state: 0 or 1. */
export function quantizerOf(state: number): number {
  return state >> 2;
}

/** Reconstruction of a level in units of the step. */
export function reconstruct(level: number, quantizer: number): number {
  return 2 * level - (quantizer === 0 ? 0 : Math.sign(level));
}

/** Zigzag code of a level: 0, 1, −1, 2, … → 0, 1, 2, 3, … */
export function zigzag(level: number): number {
  return level > 0 ? 2 * level - 1 : -2 * level;
}
