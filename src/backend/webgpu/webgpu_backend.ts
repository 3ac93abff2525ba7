/**
 * The WebGPU backend: kernels of wgsl/ on a device of a browser, Deno or Node.
 *
 * @module
 */
import type { Backend, BlockShape, DeviceBasis, DeviceBuffer, DevicePlan, QuantGroup } from "../backend.ts";
import {
  requireBasis,
  requireBlocks,
  requireBytes,
  requireCopy,
  requireCounts,
  requireFp8,
  requirePacking,
  requirePlan,
  requireQuantizer,
  requireView,
} from "../check.ts";
import type { KernelTime } from "../gpu/kernel_time.ts";
import type { GpuKernels } from "../gpu/kernels.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import { WebGpuBlocks } from "./blocks.ts";
import { WebGpuCodeStreams } from "./code_streams.ts";
import { WebGpuDense } from "./dense.ts";
import type { WebGpuDevice } from "./device.ts";
import { WebGpuEntropy } from "./entropy.ts";
import { decodeFp8Rows, Fp8Encoder } from "./fp8.ts";
import { WebGpuGroups } from "./groups.ts";
import { WebGpuHuffman } from "./huffman.ts";
import { WebGpuInteger } from "./integer.ts";
import { runLayout } from "./layout.ts";
import { packSymbols, unpackSymbols } from "./packing.ts";
import { WebGpuPlan } from "./plan.ts";
import { WebGpuProducts } from "./products.ts";
import { dequantizeRows, quantizeRows } from "./quantizer.ts";
import { WebGpuSharedMemory } from "./shared_memory.ts";
import { WebGpuTrellis } from "./trellis.ts";

/** A backend over one device. Made by `createWebGpuBackend`. */
export class WebGpuBackend implements Backend {
  readonly name = "webgpu";
  readonly build: "subgroups" | "base";
  readonly gpu: GpuKernels;
  /** The device, for kernels beside the backend's. */
  readonly device: WebGpuDevice;
  readonly #products: WebGpuProducts;
  readonly #fp8: Fp8Encoder;

  constructor(device: WebGpuDevice) {
    this.device = device;
    this.build = device.features.subgroups ? "subgroups" : "base";
    this.#products = new WebGpuProducts(device);
    this.#fp8 = new Fp8Encoder(device);
    this.gpu = {
      memory: new WebGpuSharedMemory(device),
      blocks: new WebGpuBlocks(device),
      codeStreams: new WebGpuCodeStreams(device),
      dense: new WebGpuDense(device),
      entropy: new WebGpuEntropy(device),
      groups: new WebGpuGroups(device),
      huffman: new WebGpuHuffman(device),
      integer: new WebGpuInteger(device),
      trellis: new WebGpuTrellis(device),
    };
  }

  /** Name of the adapter; "" where the runtime hides it. */
  get adapter(): string {
    return this.device.adapter;
  }

  /** Bytes of device memory in use. */
  get bytesInUse(): number {
    return this.device.bytesInUse;
  }

  /** @throws {KvzLimitError} when the device has no buffers so large. Lack of memory shows at the next read. */
  alloc(byteLength: number): WebGpuBuffer {
    requireCounts("allocate", { byteLength });
    return this.device.alloc(byteLength);
  }

  /** Submits the work enqueued so far: before work of the caller's own on the same buffers. */
  flush(): void {
    this.device.flush();
  }

  /**
   * Times of kernels since the last call, where the backend was opened with `timeKernels`.
   *
   * @throws {KvzBackendError} when it was not.
   */
  profile(): Promise<KernelTime[]> {
    return this.device.profile();
  }

  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset: number = 0): void {
    requireCounts("write", { dstByteOffset });
    requireBytes("write", "dst", dst.byteLength, dstByteOffset + src.byteLength);
    this.device.write(dst, src, dstByteOffset);
  }

  async read(src: DeviceBuffer, byteOffset: number = 0, byteLength?: number): Promise<Uint8Array> {
    const length = byteLength ?? src.byteLength - byteOffset;
    requireCounts("read", { byteOffset, byteLength: length });
    requireBytes("read", "src", src.byteLength, byteOffset + length);
    return await this.device.read(src, byteOffset, length);
  }

  copy(
    src: DeviceBuffer,
    srcByteOffset: number,
    dst: DeviceBuffer,
    dstByteOffset: number,
    byteLength: number,
  ): void {
    requireCopy(src, srcByteOffset, dst, dstByteOffset, byteLength);
    this.device.copy(src, srcByteOffset, dst, dstByteOffset, byteLength);
  }

  view(buffer: DeviceBuffer, byteOffset: number, byteLength: number): WebGpuBuffer {
    requireView(buffer, byteOffset, byteLength);
    return this.device.buffer(buffer).view(byteOffset, byteLength);
  }

  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis {
    requireBasis(rows, components, features);
    return this.#products.uploadBasis(rows, components, features);
  }

  uploadPlan(groups: readonly QuantGroup[]): DevicePlan {
    return new WebGpuPlan(this.device, groups, requirePlan(groups));
  }

  gather(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    requireBlocks("gather", shape, src, dst, rotation, mean);
    runLayout(this.device, "gather", { shape, elements: src, rows: dst, rotation, mean });
  }

  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    requireBlocks("scatter", shape, dst, src, rotation, mean);
    runLayout(this.device, "scatter", { shape, elements: dst, rows: src, rotation, mean });
  }

  project(
    x: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void {
    this.#products.project(x, tokens, basis, coefficients, components);
  }

  reconstruct(
    coefficients: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    featureBegin: number,
    featureEnd: number,
    x: DeviceBuffer,
  ): void {
    this.#products.reconstruct(coefficients, tokens, basis, featureBegin, featureEnd, x);
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
    this.#products.gatherProject({ shape, elements: src, rotation, mean }, basis, coefficients, components);
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
    this.#products.reconstructScatter(
      coefficients,
      basis,
      featureBegin,
      { shape, elements: dst, rotation, mean },
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
    requireQuantizer("quantize", coefficients, stride, tokens, plan, symbols, params);
    quantizeRows(this.device, coefficients, stride, tokens, this.#plan(plan), symbols, params);
  }

  dequantize(
    symbols: DeviceBuffer,
    params: DeviceBuffer,
    plan: DevicePlan,
    tokens: number,
    coefficients: DeviceBuffer,
    stride: number,
  ): void {
    requireQuantizer("dequantize", coefficients, stride, tokens, plan, symbols, params);
    dequantizeRows(this.device, symbols, params, this.#plan(plan), tokens, coefficients, stride);
  }

  pack(symbols: DeviceBuffer, plan: DevicePlan, tokens: number, packed: DeviceBuffer): void {
    requirePacking("pack", symbols, plan, tokens, packed);
    packSymbols(this.device, symbols, this.#plan(plan), tokens, packed);
  }

  unpack(packed: DeviceBuffer, plan: DevicePlan, tokens: number, symbols: DeviceBuffer): void {
    requirePacking("unpack", symbols, plan, tokens, packed);
    unpackSymbols(this.device, packed, this.#plan(plan), tokens, symbols);
  }

  encodeFp8(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void {
    requireFp8("encode fp8", src, rows, length, codes, scales);
    this.#fp8.encode(src, rows, length, codes, scales);
  }

  decodeFp8(codes: DeviceBuffer, scales: DeviceBuffer, rows: number, length: number, dst: DeviceBuffer): void {
    requireFp8("decode fp8", dst, rows, length, codes, scales);
    decodeFp8Rows(this.device, codes, scales, rows, length, dst);
  }

  [Symbol.dispose](): void {
    this.device.dispose();
  }

  #plan(plan: DevicePlan): WebGpuPlan {
    return WebGpuPlan.of(this.device, plan);
  }
}
