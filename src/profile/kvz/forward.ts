/**
 * The way there from what a profile stores: forward = A² · (scales · basis), since the basis is A⁻¹ q and the forward
 * matrix A q. The basis has been rounded, so that its rows are no longer orthogonal in A²: what strong components leave in
 * the coefficients of weak ones is taken out again, to first order.
 *
 * @module
 */
import { type Backend, paddedLength } from "../../backend/backend.ts";
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import { KINDS } from "../../cache/types.ts";
import { deviceGain } from "../../stages/transform/integer_basis.ts";
import { featuresOf } from "../statistics.ts";
import { type BlockProduct, openBlockProduct } from "./block_product.ts";
import { kindDim } from "./sensitivity.ts";
import type { KvzProfile } from "./types.ts";

/** Leading components whose traces are taken out of all others; the rest has too little variance to leave any. */
const STRONG = 512;
/** Rows worked on at a time. */
const ROWS = 256;

/** The forward matrix as binary16 bits, [components][features]; the backend computes, and is left as it was. */
export async function forwardMatrix(profile: KvzProfile, backend: Backend): Promise<Uint16Array> {
  const { components, features } = profile;
  const { back, forward } = unroundedProduct(profile, await openBlockProduct(backend));
  const strong = Math.min(STRONG, components);
  const stride = paddedLength(features);
  const width = paddedLength(strong);
  // A basis on the device has entries below 4; these may be larger.
  const gains = [back, forward].map((matrix) => gainOf(matrix.subarray(0, strong * features)));
  const [backBasis, forwardBasis] = [back, forward].map((matrix, i) =>
    backend.uploadBasis(toBits(matrix.subarray(0, strong * features), 1 / gains[i]), strong, features)
  );
  const rows = backend.alloc(ROWS * stride * 4);
  const traces = backend.alloc(ROWS * width * 4);
  const out = new Uint16Array(components * features);
  try {
    for (let begin = 0; begin < components; begin += ROWS) {
      const count = Math.min(ROWS, components - begin);
      const padded = new Float32Array(count * stride);
      for (let c = 0; c < count; c++) {
        padded.set(forward.subarray((begin + c) * features, (begin + c + 1) * features), c * stride);
      }
      backend.write(rows, padded);
      backend.project(rows, count, backBasis, traces);
      const found = toFloats(await backend.read(traces, 0, count * width * 4));
      for (let i = 0; i < found.length; i++) found[i] *= gains[0] * gains[1];
      for (let c = 0; c < count; c++) if (begin + c < strong) found[c * width + begin + c] = 0;
      backend.write(traces, found);
      backend.reconstruct(traces, count, forwardBasis, 0, features, rows);
      const trace = toFloats(await backend.read(rows, 0, count * stride * 4));
      for (let c = 0; c < count; c++) {
        const row = (begin + c) * features;
        for (let f = 0; f < features; f++) out[row + f] = numberToF16(forward[row + f] - trace[c * stride + f]);
      }
    }
    return out;
  } finally {
    for (const held of [backBasis, forwardBasis, rows, traces]) held.free();
  }
}

/** scales · basis, and A² times it, float32 [components][features]. */
function unroundedProduct(
  profile: KvzProfile,
  multiply: BlockProduct,
): { back: Float32Array; forward: Float32Array } {
  const { model, components, features, basis, scales, sensitivityBlocks } = profile;
  const blocks = Float32Array.from(sensitivityBlocks, f16ToNumber);
  const back = new Float32Array(components * features);
  for (let at = 0; at < back.length; at += features) {
    for (let f = 0; f < features; f++) back[at + f] = basis[at + f] * scales[f];
  }
  const forward = new Float32Array(components * features);
  const sizes = featuresOf(model);
  let [first, at] = [0, 0];
  for (const kind of KINDS) {
    const dim = kindDim(model, kind);
    const rows = new Float32Array(components * dim);
    for (let begin = first; begin < first + sizes[kind]; begin += dim, at += dim * dim) {
      for (let c = 0, row = begin; c < components; c++, row += features) {
        rows.set(back.subarray(row, row + dim), c * dim);
      }
      const product = multiply(blocks.subarray(at, at + dim * dim), dim, rows);
      for (let c = 0, row = begin; c < components; c++, row += features) {
        forward.set(product.subarray(c * dim, (c + 1) * dim), row);
      }
    }
    first += sizes[kind];
  }
  return { back, forward };
}

/** The power of two that makes all values smaller than 4. */
function gainOf(values: Float32Array): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]));
  return deviceGain(largest);
}

function toBits(values: Float32Array, factor: number): Uint16Array {
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = numberToF16(values[i] * factor);
  return bits;
}

function toFloats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer);
}
