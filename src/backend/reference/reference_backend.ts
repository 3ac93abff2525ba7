/**
 * The reference backend: plain TypeScript, float64 inside every kernel (quantizer, gather and scatter apart, whose float32
 * steps are their definition). It says what each kernel means; all other backends are tested against it. Slow.
 *
 * @module
 */
import { f16ToNumber, fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { BYTES_PER_ELEMENT } from "../../cache/types.ts";
import { KvzBackendError } from "../../errors.ts";
import {
  type Backend,
  type BlockShape,
  type DeviceBasis,
  type DeviceBuffer,
  type DevicePlan,
  packedLength,
  paddedLength,
  type QuantGroup,
  TYPE_BITS,
} from "../backend.ts";
import type { GpuKernels } from "../gpu/kernels.ts";
import {
  requireBasis,
  requireBytes,
  requireCopy,
  requireCounts,
  requireFeatureRange,
  requireLeading,
  requirePlan,
  requireShape,
  requireView,
} from "../check.ts";
import { dequantizeCode, quantizeFp8, quantizeGroup } from "./quantizer.ts";

class HostBuffer implements DeviceBuffer {
  #bytes: Uint8Array | null;
  readonly byteLength: number;
  constructor(byteLength: number) {
    this.byteLength = byteLength;
    this.#bytes = new Uint8Array(Math.ceil(byteLength / 16) * 16);
  }
  get bytes(): Uint8Array {
    if (this.#bytes === null) throw new KvzBackendError("Cannot use a buffer: it was freed");
    return this.#bytes;
  }
  free(): void {
    this.#bytes = null;
  }
}

/** A part of a buffer. */
class HostView implements DeviceBuffer {
  readonly #buffer: DeviceBuffer;
  readonly #byteOffset: number;
  readonly byteLength: number;
  constructor(buffer: DeviceBuffer, byteOffset: number, byteLength: number) {
    this.#buffer = buffer;
    this.#byteOffset = byteOffset;
    this.byteLength = byteLength;
  }
  get bytes(): Uint8Array {
    return bytesOf(this.#buffer).subarray(this.#byteOffset, this.#byteOffset + this.byteLength);
  }
  free(): void {}
}

/** Basis rows as float64. */
class HostBasis implements DeviceBasis {
  readonly components: number;
  readonly features: number;
  readonly byteLength: number;
  #rows: Float64Array | null;
  constructor(rows: Uint16Array, components: number, features: number) {
    this.components = components;
    this.features = features;
    this.#rows = Float64Array.from(rows.subarray(0, components * features), f16ToNumber);
    this.byteLength = this.#rows.byteLength;
  }
  get rows(): Float64Array {
    if (this.#rows === null) throw new KvzBackendError("Cannot use a basis: it was freed");
    return this.#rows;
  }
  free(): void {
    this.#rows = null;
  }
}

/** The backend. */
export class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly build = "float64";
  readonly gpu: GpuKernels | null = null;

  alloc(byteLength: number): DeviceBuffer {
    return new HostBuffer(byteLength);
  }

  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset: number = 0): void {
    requireCounts("write", { dstByteOffset });
    requireBytes("write", "dst", dst.byteLength, dstByteOffset + src.byteLength);
    bytesOf(dst).set(new Uint8Array(src.buffer, src.byteOffset, src.byteLength), dstByteOffset);
  }

  // deno-lint-ignore require-await -- errors reject
  async read(src: DeviceBuffer, byteOffset: number = 0, byteLength?: number): Promise<Uint8Array> {
    const length = byteLength ?? src.byteLength - byteOffset;
    requireCounts("read", { byteOffset, byteLength: length });
    requireBytes("read", "src", src.byteLength, byteOffset + length);
    return bytesOf(src).slice(byteOffset, byteOffset + length);
  }

  copy(
    src: DeviceBuffer,
    srcByteOffset: number,
    dst: DeviceBuffer,
    dstByteOffset: number,
    byteLength: number,
  ): void {
    requireCopy(src, srcByteOffset, dst, dstByteOffset, byteLength);
    bytesOf(dst).set(bytesOf(src).subarray(srcByteOffset, srcByteOffset + byteLength), dstByteOffset);
  }

  view(buffer: DeviceBuffer, byteOffset: number, byteLength: number): DeviceBuffer {
    requireView(buffer, byteOffset, byteLength);
    return new HostView(buffer, byteOffset, byteLength);
  }

  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis {
    requireBasis(rows, components, features);
    return new HostBasis(rows, components, features);
  }

  uploadPlan(groups: readonly QuantGroup[]): DevicePlan {
    return { groups: [...groups], components: requirePlan(groups), free: () => {} };
  }

  gather(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    requireShape("gather", shape);
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const bytes = blocks * tokens * dim * BYTES_PER_ELEMENT[dtype];
    requireBytes("gather", "source elements", src.byteLength, bytes);
    const x = toFloat32(bytesOf(src).subarray(0, bytes), dtype);
    const stride = paddedLength(blocks * dim);
    const out = floats(dst, tokens * stride).fill(0);
    const mu = mean === null ? null : floats(mean, blocks * dim);
    const row = new Float32Array(dim);
    for (let b = 0; b < blocks; b++) {
      for (let t = 0; t < tokens; t++) {
        row.set(x.subarray((b * tokens + t) * dim, (b * tokens + t + 1) * dim));
        rotate(row, rotation, t, rotaryDim);
        const at = t * stride + b * dim;
        for (let i = 0; i < dim; i++) out[at + i] = mu === null ? row[i] : row[i] - mu[b * dim + i];
      }
    }
  }

  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    requireShape("scatter", shape);
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const stride = paddedLength(blocks * dim);
    requireBytes("scatter", "source elements", dst.byteLength, blocks * tokens * dim * BYTES_PER_ELEMENT[dtype]);
    const x = floats(src, tokens * stride);
    const mu = mean === null ? null : floats(mean, blocks * dim);
    const out = new Float32Array(blocks * tokens * dim);
    const row = new Float32Array(dim);
    for (let b = 0; b < blocks; b++) {
      for (let t = 0; t < tokens; t++) {
        const at = t * stride + b * dim;
        for (let i = 0; i < dim; i++) row[i] = mu === null ? x[at + i] : x[at + i] + mu[b * dim + i];
        rotate(row, rotation, t, rotaryDim);
        out.set(row, (b * tokens + t) * dim);
      }
    }
    bytesOf(dst).set(fromFloat32(out, dtype));
  }

  project(
    x: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void {
    requireCounts("project", { tokens });
    const { features, rows } = hostBasis(basis);
    const leading = requireLeading(basis, components);
    const inStride = paddedLength(features);
    const outStride = paddedLength(leading);
    const from = floats(x, tokens * inStride);
    const to = floats(coefficients, tokens * outStride).fill(0);
    for (let t = 0; t < tokens; t++) {
      for (let c = 0; c < leading; c++) {
        let sum = 0;
        for (let f = 0; f < features; f++) sum += from[t * inStride + f] * rows[c * features + f];
        to[t * outStride + c] = sum;
      }
    }
  }

  reconstruct(
    coefficients: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    featureBegin: number,
    featureEnd: number,
    x: DeviceBuffer,
  ): void {
    requireCounts("reconstruct", { tokens });
    const { components, features, rows } = hostBasis(basis);
    requireFeatureRange(featureBegin, featureEnd, features);
    const inStride = paddedLength(components);
    const outStride = paddedLength(featureEnd - featureBegin);
    const from = floats(coefficients, tokens * inStride);
    const to = floats(x, tokens * outStride).fill(0);
    for (let t = 0; t < tokens; t++) {
      for (let f = featureBegin; f < featureEnd; f++) {
        let sum = 0;
        for (let c = 0; c < components; c++) sum += from[t * inStride + c] * rows[c * features + f];
        to[t * outStride + f - featureBegin] = sum;
      }
    }
  }

  gatherProject(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void {
    const rows = featureRows(shape);
    this.gather(src, shape, rotation, mean, rows);
    this.project(rows, shape.tokens, basis, coefficients, components);
  }

  reconstructScatter(
    coefficients: DeviceBuffer,
    basis: DeviceBasis,
    featureBegin: number,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const rows = featureRows(shape);
    const { blocks, dim, tokens } = shape;
    this.reconstruct(coefficients, tokens, basis, featureBegin, featureBegin + blocks * dim, rows);
    this.scatter(rows, shape, rotation, mean, dst);
  }

  quantize(
    coefficients: DeviceBuffer,
    stride: number,
    tokens: number,
    plan: DevicePlan,
    symbols: DeviceBuffer,
    params: DeviceBuffer,
  ): void {
    const { groups, components } = plan;
    checkQuantizer("quantize", stride, tokens, plan, symbols);
    const from = floats(coefficients, tokens * stride);
    const codes = bytesOf(symbols).subarray(0, tokens * components).fill(0);
    const pairs = halves(params, tokens * groups.length * 2);
    for (let t = 0; t < tokens; t++) {
      groups.forEach(({ first, size, type }, g) => {
        const group = quantizeGroup(from.subarray(t * stride + first, t * stride + first + size), type);
        codes.set(group.codes, t * components + first);
        pairs[(t * groups.length + g) * 2] = group.shift;
        pairs[(t * groups.length + g) * 2 + 1] = group.scale;
      });
    }
  }

  dequantize(
    symbols: DeviceBuffer,
    params: DeviceBuffer,
    plan: DevicePlan,
    tokens: number,
    coefficients: DeviceBuffer,
    stride: number,
  ): void {
    const { groups, components } = plan;
    checkQuantizer("dequantize", stride, tokens, plan, symbols);
    const codes = bytesOf(symbols);
    const pairs = halves(params, tokens * groups.length * 2);
    const to = floats(coefficients, tokens * stride).fill(0);
    for (let t = 0; t < tokens; t++) {
      groups.forEach(({ first, size, type }, g) => {
        const [shift, scale] = pairs.subarray((t * groups.length + g) * 2);
        for (let c = first; c < first + size; c++) {
          to[t * stride + c] = dequantizeCode(codes[t * components + c], type, shift, scale);
        }
      });
    }
  }

  pack(symbols: DeviceBuffer, plan: DevicePlan, tokens: number, packed: DeviceBuffer): void {
    const { groups, components } = plan;
    checkPacking("pack", symbols, plan, tokens, packed);
    const codes = bytesOf(symbols);
    const out = bytesOf(packed).subarray(0, packedLength(groups, tokens)).fill(0);
    let at = 0;
    for (const { first, size, type } of groups) {
      const bits = TYPE_BITS[type];
      for (let c = first; c < first + size; c++) {
        for (let t = 0; t < tokens; t++) out[at + (t * bits >> 3)] |= codes[t * components + c] << (t * bits & 7);
        at += Math.ceil(tokens * bits / 8);
      }
    }
  }

  unpack(packed: DeviceBuffer, plan: DevicePlan, tokens: number, symbols: DeviceBuffer): void {
    const { groups, components } = plan;
    checkPacking("unpack", symbols, plan, tokens, packed);
    const from = bytesOf(packed);
    const codes = bytesOf(symbols).subarray(0, tokens * components).fill(0);
    let at = 0;
    for (const { first, size, type } of groups) {
      const bits = TYPE_BITS[type];
      const mask = (1 << bits) - 1;
      for (let c = first; c < first + size; c++) {
        for (let t = 0; t < tokens; t++) {
          codes[t * components + c] = from[at + (t * bits >> 3)] >> (t * bits & 7) & mask;
        }
        at += Math.ceil(tokens * bits / 8);
      }
    }
  }

  encodeFp8(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void {
    requireCounts("encode fp8", { rows, length });
    requireBytes("encode fp8", "codes", codes.byteLength, rows * length);
    const x = floats(src, rows * length);
    const out = bytesOf(codes);
    const bits = halves(scales, rows);
    for (let r = 0; r < rows; r++) {
      const row = quantizeFp8(x.subarray(r * length, (r + 1) * length));
      out.set(row.codes, r * length);
      bits[r] = row.scale;
    }
  }

  decodeFp8(codes: DeviceBuffer, scales: DeviceBuffer, rows: number, length: number, dst: DeviceBuffer): void {
    requireCounts("decode fp8", { rows, length });
    requireBytes("decode fp8", "codes", codes.byteLength, rows * length);
    const from = bytesOf(codes);
    const bits = halves(scales, rows);
    const out = floats(dst, rows * length);
    for (let i = 0; i < rows * length; i++) out[i] = dequantizeCode(from[i], 3, 0, bits[Math.floor(i / length)]);
  }

  [Symbol.dispose](): void {}
}

function featureRows({ blocks, dim, tokens }: BlockShape): DeviceBuffer {
  return new HostBuffer(paddedLength(blocks * dim) * tokens * 4);
}

function bytesOf(buffer: DeviceBuffer): Uint8Array {
  if (!(buffer instanceof HostBuffer || buffer instanceof HostView)) {
    throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
  }
  return buffer.bytes;
}

function hostBasis(basis: DeviceBasis): HostBasis {
  if (!(basis instanceof HostBasis)) throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
  return basis;
}

/** The first `length` float32 of a buffer. */
function floats(buffer: DeviceBuffer, length: number): Float32Array {
  requireBytes("read float32", "buffer", buffer.byteLength, length * 4);
  const { buffer: memory, byteOffset } = bytesOf(buffer);
  return new Float32Array(memory, byteOffset, length);
}

/** The first `length` binary16 bit patterns of a buffer. */
function halves(buffer: DeviceBuffer, length: number): Uint16Array {
  requireBytes("read binary16", "buffer", buffer.byteLength, length * 2);
  const { buffer: memory, byteOffset } = bytesOf(buffer);
  return new Uint16Array(memory, byteOffset, length);
}

function checkQuantizer(
  what: string,
  stride: number,
  tokens: number,
  { components }: DevicePlan,
  symbols: DeviceBuffer,
): void {
  requireCounts(what, { stride, tokens });
  if (stride < components) {
    throw new RangeError(`Cannot ${what}: "stride" is ${stride}, expected ${components} or more`);
  }
  requireBytes(what, "symbols", symbols.byteLength, tokens * components);
}

function checkPacking(
  what: string,
  symbols: DeviceBuffer,
  { groups, components }: DevicePlan,
  tokens: number,
  packed: DeviceBuffer,
): void {
  requireCounts(what, { tokens });
  requireBytes(what, "symbols", symbols.byteLength, tokens * components);
  requireBytes(what, "packed", packed.byteLength, packedLength(groups, tokens));
}

/**
 * Rotates the first `rotaryDim` elements of a head in place, half-split, with row `t` of a rotation table, every product,
 * sum and difference rounded to float32.
 */
function rotate(row: Float32Array, rotation: DeviceBuffer | null, t: number, rotaryDim: number): void {
  if (rotation === null || rotaryDim === 0) return;
  const half = rotaryDim / 2;
  const table = floats(rotation, (t + 1) * rotaryDim).subarray(t * rotaryDim);
  for (let i = 0; i < half; i++) {
    const [c, s, x, y] = [table[i], table[half + i], row[i], row[half + i]];
    row[i] = Math.fround(x * c) - Math.fround(y * s);
    row[half + i] = Math.fround(y * c) + Math.fround(x * s);
  }
}
