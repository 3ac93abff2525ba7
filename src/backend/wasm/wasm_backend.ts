/**
 * The CPU backend: AssemblyScript kernels on the linear memory of one module instance. Kernels run at once and on the
 * calling thread; `read` resolves in the same tick.
 *
 * @module
 */
import type { DType } from "../../cache/types.ts";
import { BYTES_PER_ELEMENT } from "../../cache/types.ts";
import {
  type Backend,
  type BlockShape,
  type DeviceBasis,
  type DeviceBuffer,
  type DevicePlan,
  packedLength,
  paddedLength,
  type QuantGroup,
} from "../backend.ts";
import type { WasmBuild } from "./detect.ts";
import type { CodecExports } from "./kernels.ts";
import { type WasmBuffer, WasmHeap } from "./memory.ts";

/** Element types as asm/codec/lanes.ts numbers them. */
const DTYPE_CODE: Readonly<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2 };

interface WasmBasis extends DeviceBasis {
  readonly buffer: WasmBuffer;
}

interface WasmPlan extends DevicePlan {
  readonly buffer: WasmBuffer;
}

/** The backend over one instance. Made by `createWasmBackend`. */
export class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly build: WasmBuild | "given";
  readonly #kernels: CodecExports;
  readonly #heap: WasmHeap;
  #scratch: { rows: number; buffer: WasmBuffer } | null = null;

  constructor(instance: WebAssembly.Instance, build: WasmBuild | "given") {
    this.#kernels = instance.exports as unknown as CodecExports;
    this.#heap = new WasmHeap(this.#kernels.memory, this.#kernels.heapBase());
    this.build = build;
  }

  /** Bytes of linear memory in use. */
  get memoryUsed(): number {
    return this.#heap.used;
  }

  alloc(byteLength: number): DeviceBuffer {
    return this.#heap.alloc(byteLength);
  }

  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset: number = 0): void {
    if (!(dstByteOffset >= 0 && dstByteOffset + src.byteLength <= dst.byteLength)) {
      throw new RangeError(
        `Cannot write ${src.byteLength} bytes at ${dstByteOffset}: the buffer has ${dst.byteLength}`,
      );
    }
    this.#bytes.set(new Uint8Array(src.buffer, src.byteOffset, src.byteLength), pointer(dst) + dstByteOffset);
  }

  read(
    src: DeviceBuffer,
    byteOffset: number = 0,
    byteLength: number = src.byteLength - byteOffset,
  ): Promise<Uint8Array> {
    if (!(byteOffset >= 0 && byteLength >= 0 && byteOffset + byteLength <= src.byteLength)) {
      return Promise.reject(
        new RangeError(`Cannot read ${byteLength} bytes at ${byteOffset}: the buffer has ${src.byteLength}`),
      );
    }
    const at = pointer(src) + byteOffset;
    return Promise.resolve(this.#bytes.slice(at, at + byteLength));
  }

  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis {
    if (rows.length < components * features) {
      throw new RangeError(`Cannot use basis: it has ${rows.length} elements, expected ${components * features}`);
    }
    const buffer = this.#heap.alloc(this.#kernels.basisBytes(components, features));
    const staging = this.#heap.alloc(8 * features * 2);
    for (let c = 0; c < components; c += 8) {
      const count = Math.min(8, components - c);
      this.write(staging, rows.subarray(c * features, (c + count) * features));
      this.#kernels.packBasis(staging.pointer, count, features, c >> 3, buffer.pointer);
    }
    staging.free();
    const basis: WasmBasis = { components, features, byteLength: buffer.byteLength, buffer, free: () => buffer.free() };
    return basis;
  }

  uploadPlan(groups: readonly QuantGroup[]): DevicePlan {
    let end = 0;
    const words = new Uint32Array(groups.length * 3);
    groups.forEach(({ first, size, type }, g) => {
      if (first < end) {
        throw new RangeError(`Cannot use plan: a group begins at ${first}, the one before ends at ${end}`);
      }
      end = first + size;
      words.set([first, size, type], g * 3);
    });
    const buffer = this.#heap.alloc(words.byteLength);
    this.write(buffer, words);
    const plan: WasmPlan = { groups, components: end, buffer, free: () => buffer.free() };
    return plan;
  }

  gather(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const stride = checkLayout(shape, src, dst, rotation, mean);
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const [table, mu] = [optional(rotation), optional(mean)];
    this.#kernels.gather(
      pointer(src),
      DTYPE_CODE[dtype],
      blocks,
      tokens,
      dim,
      rotaryDim,
      table,
      mu,
      pointer(dst),
      stride,
    );
  }

  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const stride = checkLayout(shape, dst, src, rotation, mean);
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const [table, mu] = [optional(rotation), optional(mean)];
    this.#kernels.scatter(
      pointer(src),
      DTYPE_CODE[dtype],
      blocks,
      tokens,
      dim,
      rotaryDim,
      table,
      mu,
      pointer(dst),
      stride,
    );
  }

  project(x: DeviceBuffer, tokens: number, basis: DeviceBasis, coefficients: DeviceBuffer): void {
    const { components, features } = basis;
    const [inStride, outStride] = [paddedLength(features), paddedLength(components)];
    requireBytes("feature rows", x, tokens * inStride * 4);
    requireBytes("coefficients", coefficients, tokens * outStride * 4);
    const scratch = this.#gemmScratch(tokens);
    this.#kernels.project(
      pointer(x),
      inStride,
      tokens,
      (basis as WasmBasis).buffer.pointer,
      components,
      features,
      pointer(coefficients),
      outStride,
      scratch,
    );
  }

  reconstruct(
    coefficients: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    featureBegin: number,
    featureEnd: number,
    x: DeviceBuffer,
  ): void {
    const { components, features } = basis;
    if (!(0 <= featureBegin && featureBegin <= featureEnd && featureEnd <= features)) {
      throw new RangeError(`Cannot reconstruct features [${featureBegin}, ${featureEnd}): the basis has ${features}`);
    }
    const [inStride, outStride] = [paddedLength(components), paddedLength(featureEnd - featureBegin)];
    requireBytes("coefficients", coefficients, tokens * inStride * 4);
    requireBytes("feature rows", x, tokens * outStride * 4);
    const scratch = this.#gemmScratch(tokens);
    this.#kernels.reconstruct(
      pointer(coefficients),
      inStride,
      tokens,
      (basis as WasmBasis).buffer.pointer,
      components,
      features,
      featureBegin,
      featureEnd,
      pointer(x),
      outStride,
      scratch,
    );
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
    checkQuantizer(plan, stride, tokens, coefficients, symbols, params);
    this.#kernels.quantize(
      pointer(coefficients),
      stride,
      tokens,
      (plan as WasmPlan).buffer.pointer,
      groups.length,
      components,
      pointer(symbols),
      pointer(params),
    );
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
    checkQuantizer(plan, stride, tokens, coefficients, symbols, params);
    this.#kernels.dequantize(
      pointer(symbols),
      pointer(params),
      (plan as WasmPlan).buffer.pointer,
      groups.length,
      components,
      tokens,
      pointer(coefficients),
      stride,
    );
  }

  pack(symbols: DeviceBuffer, plan: DevicePlan, tokens: number, packed: DeviceBuffer): void {
    const { groups, components } = plan;
    requireBytes("symbols", symbols, tokens * components);
    requireBytes("packed codes", packed, packedLength(groups, tokens));
    const plan_ = (plan as WasmPlan).buffer.pointer;
    this.#kernels.pack(pointer(symbols), plan_, groups.length, components, tokens, pointer(packed));
  }

  unpack(packed: DeviceBuffer, plan: DevicePlan, tokens: number, symbols: DeviceBuffer): void {
    const { groups, components } = plan;
    requireBytes("packed codes", packed, packedLength(groups, tokens));
    requireBytes("symbols", symbols, tokens * components);
    const plan_ = (plan as WasmPlan).buffer.pointer;
    this.#kernels.unpack(pointer(packed), plan_, groups.length, components, tokens, pointer(symbols));
  }

  encodeFp8(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void {
    checkFp8(src, rows, length, codes, scales);
    this.#kernels.encodeFp8(pointer(src), rows, length, pointer(codes), pointer(scales));
  }

  decodeFp8(codes: DeviceBuffer, scales: DeviceBuffer, rows: number, length: number, dst: DeviceBuffer): void {
    checkFp8(dst, rows, length, codes, scales);
    this.#kernels.decodeFp8(pointer(codes), pointer(scales), rows, length, pointer(dst));
  }

  [Symbol.dispose](): void {
    this.#scratch?.buffer.free();
    this.#scratch = null;
  }

  get #bytes(): Uint8Array {
    // Growing detaches the buffer, so it is never kept.
    return new Uint8Array(this.#kernels.memory.buffer);
  }

  #gemmScratch(rows: number): number {
    if (this.#scratch === null || this.#scratch.rows < rows) {
      this.#scratch?.buffer.free();
      this.#scratch = { rows, buffer: this.#heap.alloc(this.#kernels.gemmScratchBytes(rows)) };
    }
    return this.#scratch.buffer.pointer;
  }
}

function pointer(buffer: DeviceBuffer): number {
  return (buffer as WasmBuffer).pointer;
}

function optional(buffer: DeviceBuffer | null): number {
  return buffer === null ? 0 : pointer(buffer);
}

function requireBytes(what: string, buffer: DeviceBuffer, bytes: number): void {
  if (buffer.byteLength < bytes) {
    throw new RangeError(`Cannot use ${what}: the buffer has ${buffer.byteLength} bytes, expected ${bytes}`);
  }
}

function checkLayout(
  shape: BlockShape,
  elements: DeviceBuffer,
  rows: DeviceBuffer,
  rotation: DeviceBuffer | null,
  mean: DeviceBuffer | null,
): number {
  const { dtype, blocks, tokens, dim, rotaryDim } = shape;
  const stride = paddedLength(blocks * dim);
  requireBytes("elements", elements, blocks * tokens * dim * BYTES_PER_ELEMENT[dtype]);
  requireBytes("feature rows", rows, tokens * stride * 4);
  if (rotation !== null) {
    if (rotaryDim % 2 !== 0 || rotaryDim > dim) {
      throw new RangeError(`Cannot rotate ${rotaryDim} dimensions: expected an even number up to ${dim}`);
    }
    requireBytes("rotation", rotation, tokens * rotaryDim * 4);
  }
  if (mean !== null) requireBytes("mean", mean, blocks * dim * 4);
  return stride;
}

function checkQuantizer(
  { groups, components }: DevicePlan,
  stride: number,
  tokens: number,
  coefficients: DeviceBuffer,
  symbols: DeviceBuffer,
  params: DeviceBuffer,
): void {
  if (stride < components) {
    throw new RangeError(`Cannot use plan: it reaches ${components} components, rows have ${stride}`);
  }
  requireBytes("coefficients", coefficients, tokens * stride * 4);
  requireBytes("symbols", symbols, tokens * components);
  requireBytes("params", params, tokens * groups.length * 4);
}

function checkFp8(
  values: DeviceBuffer,
  rows: number,
  length: number,
  codes: DeviceBuffer,
  scales: DeviceBuffer,
): void {
  requireBytes("values", values, rows * length * 4);
  requireBytes("codes", codes, rows * length);
  requireBytes("scales", scales, rows * 2);
}
