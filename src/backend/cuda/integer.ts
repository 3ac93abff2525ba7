/**
 * The integer transform on a CUDA device: the tensor cores of signed bytes (cuda/integer.cu). Sums are exact.
 *
 * @module
 */
import { type BlockShape, type DeviceBuffer, paddedLength } from "../backend.ts";
import { KvzBackendError } from "../../errors.ts";
import type { DeviceIntegerBasis, GpuInteger } from "../gpu/integer.ts";
import { requireIntegerBasis, requireLevels, requireSums } from "../gpu/integer_check.ts";
import type { CudaBuffer, CudaDevice } from "./device.ts";
import { chooseTile, type Tile, tileCount } from "./tile_choice.ts";

const BYTES: readonly Tile[] = [
  { rows: 128, columns: 256, threads: 256, shared: 98304, speed: 1 },
  { rows: 128, columns: 128, threads: 128, shared: 65536, speed: 0.9 },
  { rows: 64, columns: 64, threads: 128, shared: 32768, speed: 0.6 },
];

/** Depth of a tile, components. */
const DEPTH = 64;
/** Rows of levels that share a flag. */
const FLAG_ROWS = 128;
/** Most components that the kernel keeps a list of tiles for. */
const MOST_COMPONENTS = 65536;

const TYPES = { f32: "F32", f16: "F16", bf16: "Bf16" } as const;

/** A basis packed by feature: [features][depth], depth = components rounded up to 64. */
class CudaIntegerBasis implements DeviceIntegerBasis {
  readonly components: number;
  readonly features: number;
  readonly depth: number;
  readonly device: CudaDevice;
  readonly packed: CudaBuffer;

  constructor(device: CudaDevice, basis: Int8Array, components: number, features: number) {
    this.device = device;
    this.components = components;
    this.features = features;
    this.depth = Math.ceil(components / DEPTH) * DEPTH;
    this.packed = device.alloc(Math.max(16, features * this.depth));
    if (components * features === 0) return;
    const rows = device.alloc(components * features);
    device.write(rows, basis.subarray(0, components * features));
    device.launch("integer", "packBasis", {
      grid: [Math.ceil(features / 64), this.depth / 64, 1],
      block: [256, 1, 1],
    }, [rows, { i32: components }, { i32: features }, { i32: this.depth }, this.packed]);
    rows.free();
  }

  free(): void {
    this.packed.free();
  }
}

/** The kernels of one device. */
export class CudaInteger implements GpuInteger {
  readonly #device: CudaDevice;
  readonly #tile: number | null;

  /** `tile`: columns of the tile that every product takes; null for the one that fits it. */
  constructor(device: CudaDevice, tile: number | null = null) {
    this.#device = device;
    this.#tile = tile;
  }

  uploadBasis(basis: Int8Array, components: number, features: number): DeviceIntegerBasis {
    requireIntegerBasis(basis, components, features);
    if (components > MOST_COMPONENTS) {
      throw new RangeError(`Cannot upload basis: it has ${components} components, at most ${MOST_COMPONENTS} fit`);
    }
    return new CudaIntegerBasis(this.#device, basis, components, features);
  }

  multiply(
    basis: DeviceIntegerBasis,
    levels: DeviceBuffer,
    stride: number,
    tokens: number,
    featureBegin: number,
    featureEnd: number,
    sums: DeviceBuffer,
  ): void {
    if (!(basis instanceof CudaIntegerBasis) || basis.device !== this.#device) {
      throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
    }
    requireLevels(basis, levels, stride, tokens, featureBegin, featureEnd, sums);
    const { packed } = basis;
    const depth = Math.min(basis.depth, Math.ceil(stride / DEPTH) * DEPTH);
    const n = featureEnd - featureBegin;
    if (tokens === 0 || n === 0) return;
    const low = this.#device.alloc(tokens * depth);
    const high = this.#device.alloc(tokens * depth);
    const rowTiles = Math.ceil(tokens / FLAG_ROWS);
    const flags = this.#device.alloc(rowTiles * depth / DEPTH * 4);
    if (depth > 0) {
      this.#device.launch("integer", "splitLevels", { grid: [depth / DEPTH, rowTiles, 1], block: [256, 1, 1] }, [
        levels,
        { i32: stride },
        { i32: tokens },
        { i32: depth },
        low,
        high,
        flags,
      ]);
    }
    const columns = paddedLength(n);
    const tile = chooseTile(BYTES, tokens, columns, this.#device.multiprocessors, this.#tile);
    this.#device.launch("integer", `bytes${tile.columns}`, {
      grid: [tileCount(tile, tokens, columns), 1, 1],
      block: [tile.threads, 1, 1],
      shared: tile.shared,
    }, [
      { u64: this.#device.address(packed) + featureBegin * basis.depth },
      low,
      high,
      flags,
      sums,
      ...[tokens, n, columns, depth, basis.depth].map((i32) => ({ i32 })),
    ]);
    for (const buffer of [low, high, flags]) buffer.free();
  }

  scatterSums(
    sums: DeviceBuffer,
    shape: BlockShape,
    scales: DeviceBuffer,
    tokenScales: DeviceBuffer,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer,
    dst: DeviceBuffer,
  ): void {
    const stride = requireSums(sums, shape, scales, tokenScales, rotation, mean, dst);
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const rotary = rotation === null ? 0 : rotaryDim;
    if (blocks * tokens * dim === 0) return;
    const by = dim % 4 === 0 && rotary % 8 === 0 ? 4 : 1;
    const threads = blocks * tokens * (dim - rotary / 2) / by;
    this.#device.launch("integer", `scatter${TYPES[dtype]}By${by}`, {
      grid: [Math.ceil(threads / 256), 1, 1],
      block: [256, 1, 1],
    }, [
      sums,
      ...[blocks, tokens, dim, rotary, stride].map((i32) => ({ i32 })),
      scales,
      tokenScales,
      rotation,
      mean,
      dst,
    ]);
  }
}
