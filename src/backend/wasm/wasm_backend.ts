/**
 * The WASM backend: kernels of asm/codec.ts on the memory of one instance. Device memory is that memory, and calls are
 * done when they return.
 *
 * @module
 */
import type { DType } from "../../cache/types.ts";
import { KvzBackendError } from "../../errors.ts";
import {
  type Backend,
  type BlockShape,
  type DeviceBasis,
  type DeviceBuffer,
  type DevicePlan,
  paddedLength,
  type QuantGroup,
} from "../backend.ts";
import {
  requireBasis,
  requireBlocks,
  requireBytes,
  requireCopy,
  requireCounts,
  requireFeatureRange,
  requireFp8,
  requireLeading,
  requirePacking,
  requirePlan,
  requireQuantizer,
  requireView,
} from "../check.ts";
import type { CodecExports, WasmBuild } from "./exports.ts";
import { WasmAllocator } from "./memory.ts";

/** Codes of element types in asm/codec/lanes.ts. */
const DTYPES: Readonly<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2 };
/** Rows of a basis that are tiled together. */
const TILE_ROWS = 8;
/** Bytes of a plan entry: first, size, type. */
const GROUP_BYTES = 12;

/** A block of the instance's memory. */
class Block implements DeviceBuffer {
  readonly byteLength: number;
  #address: number;
  readonly #owner: WasmBackend;
  readonly #release: (address: number) => void;

  constructor(owner: WasmBackend, address: number, byteLength: number, release: (address: number) => void) {
    this.#owner = owner;
    this.#address = address;
    this.byteLength = byteLength;
    this.#release = release;
  }

  addressFor(owner: WasmBackend): number {
    if (owner !== this.#owner) throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
    if (this.#address < 0) throw new KvzBackendError("Cannot use a buffer: it was freed");
    return this.#address;
  }

  free(): void {
    if (this.#address < 0) return;
    this.#release(this.#address);
    this.#address = -1;
  }
}

class TiledBasis implements DeviceBasis {
  readonly components: number;
  readonly features: number;
  readonly block: Block;
  constructor(components: number, features: number, block: Block) {
    this.components = components;
    this.features = features;
    this.block = block;
  }
  get byteLength(): number {
    return this.block.byteLength;
  }
  free(): void {
    this.block.free();
  }
}

class Plan implements DevicePlan {
  readonly groups: readonly QuantGroup[];
  readonly components: number;
  readonly block: Block;
  constructor(groups: readonly QuantGroup[], components: number, block: Block) {
    this.groups = groups;
    this.components = components;
    this.block = block;
  }
  free(): void {
    this.block.free();
  }
}

/** A backend over one WebAssembly instance. Made by `createWasmBackend`. */
export class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly build: WasmBuild;
  #kernels: CodecExports | null;
  readonly #allocator: WasmAllocator;
  /** Packed rows and a panel of the matrix products, allocated with the first. */
  #scratch: Block | null = null;
  /** Feature rows of a fused call, kept between chunks. */
  #rows: Block | null = null;
  readonly gpu = null;

  constructor(kernels: CodecExports, build: WasmBuild) {
    this.#kernels = kernels;
    this.build = build;
    this.#allocator = new WasmAllocator(kernels.memory, kernels.heapBase());
  }

  /** Bytes of device memory in use. */
  get bytesInUse(): number {
    return this.#allocator.used;
  }

  alloc(byteLength: number): DeviceBuffer {
    return this.#alloc(byteLength);
  }

  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset: number = 0): void {
    requireCounts("write", { dstByteOffset });
    requireBytes("write", "dst", dst.byteLength, dstByteOffset + src.byteLength);
    const bytes = new Uint8Array(src.buffer, src.byteOffset, src.byteLength);
    this.#bytes(this.#address(dst) + dstByteOffset, src.byteLength).set(bytes);
  }

  // deno-lint-ignore require-await -- errors reject
  async read(src: DeviceBuffer, byteOffset: number = 0, byteLength?: number): Promise<Uint8Array> {
    const length = byteLength ?? src.byteLength - byteOffset;
    requireCounts("read", { byteOffset, byteLength: length });
    requireBytes("read", "src", src.byteLength, byteOffset + length);
    return this.#bytes(this.#address(src) + byteOffset, length).slice();
  }

  copy(
    src: DeviceBuffer,
    srcByteOffset: number,
    dst: DeviceBuffer,
    dstByteOffset: number,
    byteLength: number,
  ): void {
    requireCopy(src, srcByteOffset, dst, dstByteOffset, byteLength);
    const to = this.#bytes(this.#address(dst) + dstByteOffset, byteLength);
    to.set(this.#bytes(this.#address(src) + srcByteOffset, byteLength));
  }

  view(buffer: DeviceBuffer, byteOffset: number, byteLength: number): DeviceBuffer {
    requireView(buffer, byteOffset, byteLength);
    return new Block(this, this.#address(buffer) + byteOffset, byteLength, () => {});
  }

  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis {
    requireBasis(rows, components, features);
    const rowBytes = features * 2;
    const stripBytes = paddedLength(features) * TILE_ROWS * 2;
    const tiles = this.#alloc(Math.ceil(components / TILE_ROWS) * stripBytes);
    const strip = this.#alloc(rowBytes * TILE_ROWS);
    const bytes = new Uint8Array(rows.buffer, rows.byteOffset, components * rowBytes);
    const [from, to] = [this.#address(strip), this.#address(tiles)];
    for (let c = 0; c < components; c += TILE_ROWS) {
      const count = Math.min(TILE_ROWS, components - c);
      this.#bytes(from, count * rowBytes).set(bytes.subarray(c * rowBytes, (c + count) * rowBytes));
      this.#run().tileBasis(from, count, features, to + c / TILE_ROWS * stripBytes);
    }
    strip.free();
    return new TiledBasis(components, features, tiles);
  }

  uploadPlan(groups: readonly QuantGroup[]): DevicePlan {
    const components = requirePlan(groups);
    const block = this.#alloc(groups.length * GROUP_BYTES);
    this.write(block, Int32Array.from(groups.flatMap(({ first, size, type }) => [first, size, type])));
    return new Plan([...groups], components, block);
  }

  gather(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const stride = requireBlocks("gather", shape, src, dst, rotation, mean);
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const [from, to, cosSin, mu] = [this.#address(src), this.#address(dst), this.#maybe(rotation), this.#maybe(mean)];
    this.#run().gather(from, DTYPES[dtype], blocks, tokens, dim, rotaryDim, cosSin, mu, to, stride);
  }

  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const stride = requireBlocks("scatter", shape, dst, src, rotation, mean);
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const [from, to, cosSin, mu] = [this.#address(src), this.#address(dst), this.#maybe(rotation), this.#maybe(mean)];
    this.#run().scatter(from, stride, DTYPES[dtype], blocks, tokens, dim, rotaryDim, cosSin, mu, to);
  }

  project(
    x: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void {
    const { features } = basis;
    const leading = requireLeading(basis, components);
    requireCounts("project", { tokens });
    requireBytes("project", "x", x.byteLength, tokens * paddedLength(features) * 4);
    requireBytes("project", "coefficients", coefficients.byteLength, tokens * paddedLength(leading) * 4);
    const scratch = this.#gemmScratch();
    const [from, tiles, to] = [this.#address(x), this.#tiles(basis), this.#address(coefficients)];
    this.#run().project(from, tokens, tiles, leading, features, to, scratch);
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
    requireCounts("reconstruct", { tokens });
    requireFeatureRange(featureBegin, featureEnd, features);
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, tokens * paddedLength(components) * 4);
    requireBytes("reconstruct", "x", x.byteLength, tokens * paddedLength(featureEnd - featureBegin) * 4);
    const scratch = this.#gemmScratch();
    const [from, tiles, to] = [this.#address(coefficients), this.#tiles(basis), this.#address(x)];
    this.#run().reconstruct(from, tokens, tiles, components, features, featureBegin, featureEnd, to, scratch);
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
    const rows = this.#featureRows(shape);
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
    const rows = this.#featureRows(shape);
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
    requireQuantizer("quantize", coefficients, stride, tokens, plan, symbols, params);
    const [from, codes, pairs] = [this.#address(coefficients), this.#address(symbols), this.#address(params)];
    const groups = plan.groups.length;
    this.#run().quantize(from, stride, tokens, this.#plan(plan), groups, plan.components, codes, pairs);
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
    const [codes, pairs, to] = [this.#address(symbols), this.#address(params), this.#address(coefficients)];
    const groups = plan.groups.length;
    this.#run().dequantize(codes, pairs, this.#plan(plan), groups, plan.components, tokens, to, stride);
  }

  pack(symbols: DeviceBuffer, plan: DevicePlan, tokens: number, packed: DeviceBuffer): void {
    requirePacking("pack", symbols, plan, tokens, packed);
    const [from, to] = [this.#address(symbols), this.#address(packed)];
    this.#run().pack(from, this.#plan(plan), plan.groups.length, plan.components, tokens, to);
  }

  unpack(packed: DeviceBuffer, plan: DevicePlan, tokens: number, symbols: DeviceBuffer): void {
    requirePacking("unpack", symbols, plan, tokens, packed);
    const [from, to] = [this.#address(packed), this.#address(symbols)];
    this.#run().unpack(from, this.#plan(plan), plan.groups.length, plan.components, tokens, to);
  }

  encodeFp8(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void {
    requireFp8("encode fp8", src, rows, length, codes, scales);
    this.#run().encodeFp8(this.#address(src), rows, length, this.#address(codes), this.#address(scales));
  }

  decodeFp8(codes: DeviceBuffer, scales: DeviceBuffer, rows: number, length: number, dst: DeviceBuffer): void {
    requireFp8("decode fp8", dst, rows, length, codes, scales);
    this.#run().decodeFp8(this.#address(codes), this.#address(scales), rows, length, this.#address(dst));
  }

  [Symbol.dispose](): void {
    this.#kernels = null;
  }

  #run(): CodecExports {
    if (this.#kernels === null) throw new KvzBackendError("Cannot use the wasm backend: it was disposed");
    return this.#kernels;
  }

  #alloc(byteLength: number): Block {
    this.#run();
    const address = this.#allocator.alloc(byteLength);
    return new Block(this, address, byteLength, (at) => this.#allocator.free(at));
  }

  /** A view of device memory, valid until the next allocation. */
  #bytes(address: number, byteLength: number): Uint8Array {
    return new Uint8Array(this.#run().memory.buffer, address, byteLength);
  }

  #address(buffer: DeviceBuffer): number {
    if (!(buffer instanceof Block)) throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
    return buffer.addressFor(this);
  }

  #maybe(buffer: DeviceBuffer | null): number {
    return buffer === null ? 0 : this.#address(buffer);
  }

  #tiles(basis: DeviceBasis): number {
    if (!(basis instanceof TiledBasis)) throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
    return basis.block.addressFor(this);
  }

  #plan(plan: DevicePlan): number {
    if (!(plan instanceof Plan)) throw new KvzBackendError("Cannot use a plan: it belongs to another backend");
    return plan.block.addressFor(this);
  }

  #gemmScratch(): number {
    this.#scratch ??= this.#alloc(this.#run().gemmScratchBytes());
    return this.#address(this.#scratch);
  }

  #featureRows({ blocks, dim, tokens }: BlockShape): Block {
    const byteLength = paddedLength(blocks * dim) * tokens * 4;
    if (this.#rows === null || this.#rows.byteLength < byteLength) {
      this.#rows?.free();
      this.#rows = this.#alloc(byteLength);
    }
    return this.#rows;
  }
}
