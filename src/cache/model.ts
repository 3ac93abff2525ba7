/**
 * Checks on the facts about a model.
 *
 * @module
 */
import type { ModelSpec, RopeSpec } from "./types.ts";

function checkCount(what: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`Cannot use model: ${what} is ${value}, expected a whole number of at least 1`);
  }
}

function checkPositive(what: string, value: number): void {
  if (!(Number.isFinite(value) && value > 0)) {
    throw new RangeError(`Cannot use model: ${what} is ${value}, expected a finite number above 0`);
  }
}

/**
 * Checks a RoPE description against the key dimension: an even number of rotated dimensions that fits, finite positive
 * parameters.
 *
 * @throws {RangeError} A field is out of range; the message names it.
 */
export function checkRope(rope: RopeSpec, keyDim: number): void {
  if (!Number.isSafeInteger(rope.dim) || rope.dim < 2 || rope.dim % 2 !== 0 || rope.dim > keyDim) {
    throw new RangeError(
      `Cannot use model: RoPE dimension is ${rope.dim}, expected an even number from 2 to the key dimension ${keyDim}`,
    );
  }
  checkPositive("RoPE theta", rope.theta);
  if (rope.pairing !== "half-split" && rope.pairing !== "adjacent") {
    throw new RangeError(`Cannot use model: RoPE pairing is "${rope.pairing}", expected "half-split" or "adjacent"`);
  }
  const { scaling } = rope;
  if (scaling === undefined) return;
  checkPositive("RoPE scaling factor", scaling.factor);
  switch (scaling.type) {
    case "linear":
      break;
    case "llama3":
      checkPositive("RoPE lowFreqFactor", scaling.lowFreqFactor);
      checkPositive("RoPE highFreqFactor", scaling.highFreqFactor);
      checkPositive("RoPE originalMaxPosition", scaling.originalMaxPosition);
      if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
        throw new RangeError(
          `Cannot use model: RoPE highFreqFactor is ${scaling.highFreqFactor}, expected more than lowFreqFactor ${scaling.lowFreqFactor}`,
        );
      }
      break;
    case "yarn":
      checkPositive("RoPE betaFast", scaling.betaFast);
      checkPositive("RoPE betaSlow", scaling.betaSlow);
      checkPositive("RoPE originalMaxPosition", scaling.originalMaxPosition);
      checkPositive("RoPE attentionFactor", scaling.attentionFactor);
      if (rope.theta <= 1) {
        throw new RangeError(`Cannot use model: RoPE theta is ${rope.theta}, expected more than 1 for YaRN`);
      }
      break;
    default:
      throw new RangeError(
        `Cannot use model: RoPE scaling type is "${
          (scaling as { type: string }).type
        }", expected "linear", "llama3" or "yarn"`,
      );
  }
}

/**
 * Checks the geometry and the RoPE description of a model. Odd key dimensions are allowed as long as the rotated part
 * is even.
 *
 * @throws {RangeError} A field is out of range; the message names it.
 */
export function checkModel(model: ModelSpec): void {
  checkCount("number of layers", model.layers);
  checkCount("number of KV heads", model.kvHeads);
  checkCount("key dimension", model.keyDim);
  checkCount("value dimension", model.valueDim);
  if (model.rope !== null) checkRope(model.rope, model.keyDim);
}
