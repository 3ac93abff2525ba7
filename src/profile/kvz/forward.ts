/**
 * The way there from what a profile stores: forward = A² · (scales · basis), since the basis is A⁻¹ q and the forward
 * matrix A q. The basis has been rounded, and its rows B are no longer orthogonal in A²: where single directions weigh far
 * more than others, what the rounding of many weak rows leaves along a strong one is as large as the strong one itself.
 * So the strong rows S are taken by least squares, (B_S A² B_Sᵀ)⁻¹ B_S A², and what they leave in the others is taken out.
 *
 * @module
 */
import { type Backend, paddedLength } from "../../backend/backend.ts";
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import { KINDS } from "../../cache/types.ts";
import { deviceGain } from "../../stages/transform/integer_basis.ts";
import { featuresOf } from "../statistics.ts";
import { type BlockProduct, openBlockProduct } from "./block_product.ts";
import { invertGram } from "./gram_inverse.ts";
import { kindDim } from "./sensitivity.ts";
import type { KvzProfile } from "./types.ts";

/** Leading components solved for; the rest has too little variance to leave much in any other. */
const STRONG = 512;
/** Rows worked on at a time. */
const ROWS = 256;

/** The forward matrix as binary16 bits, [components][features]; the backend computes, and is left as it was. */
export async function forwardMatrix(profile: KvzProfile, backend: Backend): Promise<Uint16Array> {
  const { components, features } = profile;
  const multiply = await openBlockProduct(backend);
  const { back, forward } = unroundedProduct(profile, multiply);
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
  const crosses = new Float32Array(components * strong);
  const out = new Uint16Array(components * features);
  try {
    for (const { begin, count } of batches(components)) {
      backend.write(rows, pad(forward.subarray(begin * features, (begin + count) * features), features, stride));
      backend.project(rows, count, backBasis, traces);
      const found = toFloats(await backend.read(traces, 0, count * width * 4));
      for (let c = 0; c < count; c++) {
        for (let s = 0; s < strong; s++) {
          crosses[(begin + c) * strong + s] = found[c * width + s] * gains[0];
        }
      }
    }
    // What to take of the strong rows out of each: I − G⁻¹ of them, with G their own crosses, and X G⁻¹ of the others.
    const inverse = invertGram(crosses.subarray(0, strong * strong), strong);
    const shares = multiply(Float32Array.from(inverse), strong, crosses);
    for (let i = 0; i < strong; i++) {
      for (let s = 0; s < strong; s++) shares[i * strong + s] = Number(i === s) - inverse[i * strong + s];
    }
    for (const { begin, count } of batches(components)) {
      backend.write(traces, pad(shares.subarray(begin * strong, (begin + count) * strong), strong, width));
      backend.reconstruct(traces, count, forwardBasis, 0, features, rows);
      const trace = toFloats(await backend.read(rows, 0, count * stride * 4));
      for (let c = 0; c < count; c++) {
        const row = (begin + c) * features;
        for (let f = 0; f < features; f++) {
          out[row + f] = numberToF16(forward[row + f] - gains[1] * trace[c * stride + f]);
        }
      }
    }
    return out;
  } finally {
    for (const held of [backBasis, forwardBasis, rows, traces]) held.free();
  }
}

function* batches(components: number): Generator<{ begin: number; count: number }> {
  for (let begin = 0; begin < components; begin += ROWS) yield { begin, count: Math.min(ROWS, components - begin) };
}

/** Rows [any number][length] at the stride that the backend wants. */
function pad(values: Float32Array, length: number, stride: number): Float32Array {
  const out = new Float32Array(values.length / length * stride);
  for (let at = 0, to = 0; at < values.length; at += length, to += stride) {
    out.set(values.subarray(at, at + length), to);
  }
  return out;
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
