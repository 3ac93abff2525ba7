/**
 * The CUDA backend: kernels of cuda/ on one device. Calls enqueue on the device's stream.
 *
 * @module
 */
import type { Backend, BlockShape, DeviceBasis, DeviceBuffer, DevicePlan, QuantGroup } from "../backend.ts";
import type { KernelTime } from "../gpu/kernel_time.ts";
import type { GpuKernels } from "../gpu/kernels.ts";
import { CublasLt } from "./cublaslt.ts";
import { buildOf } from "./detect.ts";
import { CudaBlocks } from "./blocks.ts";
import { CudaDense } from "./dense.ts";
import { CudaDevice, type CudaDeviceOptions } from "./device.ts";
import { CudaEntropy } from "./entropy.ts";
import { CudaGroups } from "./groups.ts";
import { CudaHuffman } from "./huffman.ts";
import { CudaInteger } from "./integer.ts";
import { CudaMemoryKernels } from "./memory.ts";
import { CudaProducts } from "./products.ts";
import { CudaQuantizer } from "./quantizer.ts";
import { CudaRows } from "./rows.ts";
import { CudaTrellis } from "./trellis.ts";

/** The backend. */
export class CudaBackend implements Backend {
  readonly name = "cuda";
  /** "sm_90" for compute capability 9.0. */
  readonly build: string;
  readonly gpu: GpuKernels;
  readonly device: CudaDevice;
  /** Path of the cuBLASLt that multiplies, or why none does. */
  readonly cublasLt: string;
  readonly #rows: CudaRows;
  readonly #products: CudaProducts;
  readonly #quantizer: CudaQuantizer;

  /** `cublas`: for large products of the fused calls; null for own kernels only. `cublasLt` says which, or why none. */
  constructor(device: CudaDevice, cublas: CublasLt | null = null, cublasLt: string = "not asked for") {
    this.device = device;
    this.cublasLt = cublasLt;
    this.build = buildOf(device.computeCapability);
    this.#rows = new CudaRows(device);
    this.#products = new CudaProducts(device, this.#rows, cublas);
    this.#quantizer = new CudaQuantizer(device);
    this.gpu = {
      memory: new CudaMemoryKernels(device),
      blocks: new CudaBlocks(device),
      codeStreams: this.#quantizer,
      dense: new CudaDense(device),
      entropy: new CudaEntropy(device),
      groups: new CudaGroups(device),
      huffman: new CudaHuffman(device),
      integer: new CudaInteger(device),
      trellis: new CudaTrellis(device),
    };
  }

  /**
   * Opens a device.
   *
   * @param ordinal number of the device, from 0 on
   * @throws {KvzBackendError} when driver or device are absent, too old, or forbidden
   */
  static async open(ordinal: number = 0, options?: CudaDeviceOptions): Promise<CudaBackend> {
    const device = await CudaDevice.open(ordinal, options);
    try {
      const { library, detail } = await CublasLt.look(device);
      return new CudaBackend(device, library, detail);
    } catch (error) {
      device[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes of device memory in use. */
  get bytesInUse(): number {
    return this.device.bytesInUse;
  }

  /**
   * Times of kernels since the last call, where the backend was opened with `timeKernels`.
   *
   * @throws {KvzBackendError} when it was not.
   */
  profile(): Promise<KernelTime[]> {
    return this.device.profile();
  }

  alloc(byteLength: number): DeviceBuffer {
    return this.device.alloc(byteLength);
  }

  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset?: number): void {
    this.device.write(dst, src, dstByteOffset);
  }

  read(src: DeviceBuffer, byteOffset?: number, byteLength?: number): Promise<Uint8Array> {
    return this.device.read(src, byteOffset, byteLength);
  }

  copy(src: DeviceBuffer, srcByteOffset: number, dst: DeviceBuffer, dstByteOffset: number, byteLength: number): void {
    this.device.copy(src, srcByteOffset, dst, dstByteOffset, byteLength);
  }

  view(buffer: DeviceBuffer, byteOffset: number, byteLength: number): DeviceBuffer {
    return this.device.view(buffer, byteOffset, byteLength);
  }

  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis {
    return this.#products.uploadBasis(rows, components, features);
  }

  uploadPlan(groups: readonly QuantGroup[]): DevicePlan {
    return this.#quantizer.uploadPlan(groups);
  }

  gather(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    this.#rows.gather(src, shape, rotation, mean, dst);
  }

  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    this.#rows.scatter(src, shape, rotation, mean, dst);
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
    this.#products.gatherProject(src, shape, rotation, mean, basis, coefficients, components);
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
    this.#products.reconstructScatter(coefficients, basis, featureBegin, shape, rotation, mean, dst);
  }

  quantize(
    coefficients: DeviceBuffer,
    stride: number,
    tokens: number,
    plan: DevicePlan,
    symbols: DeviceBuffer,
    params: DeviceBuffer,
  ): void {
    this.#quantizer.quantize(coefficients, stride, tokens, plan, symbols, params);
  }

  dequantize(
    symbols: DeviceBuffer,
    params: DeviceBuffer,
    plan: DevicePlan,
    tokens: number,
    coefficients: DeviceBuffer,
    stride: number,
  ): void {
    this.#quantizer.dequantize(symbols, params, plan, tokens, coefficients, stride);
  }

  pack(symbols: DeviceBuffer, plan: DevicePlan, tokens: number, packed: DeviceBuffer): void {
    this.#quantizer.pack(symbols, plan, tokens, packed);
  }

  unpack(packed: DeviceBuffer, plan: DevicePlan, tokens: number, symbols: DeviceBuffer): void {
    this.#quantizer.unpack(packed, plan, tokens, symbols);
  }

  encodeFp8(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void {
    this.#quantizer.encodeFp8(src, rows, length, codes, scales);
  }

  decodeFp8(codes: DeviceBuffer, scales: DeviceBuffer, rows: number, length: number, dst: DeviceBuffer): void {
    this.#quantizer.decodeFp8(codes, scales, rows, length, dst);
  }

  [Symbol.dispose](): void {
    try {
      this.#products[Symbol.dispose]();
    } finally {
      this.device[Symbol.dispose]();
    }
  }
}
