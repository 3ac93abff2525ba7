/**
 * Between source layout and rows of features: gather and scatter, and their forms with rows of binary16.
 *
 * @module
 */
import type { BlockShape, DeviceBuffer } from "../backend.ts";
import { paddedLength } from "../backend.ts";
import { requireBlocks } from "../check.ts";
import type { CudaDevice } from "./device.ts";

const THREADS = 256;
/** Threads a multiprocessor that the launches aim at, before a thread takes several heads. */
const THREADS_PER_MULTIPROCESSOR = 8192;
/** Most heads that a thread takes. */
const MOST_HEADS = 16;
/** Most blocks of a grid beside each other in y. */
const MOST_Y = 65535;

/** How a launch divides the work. */
interface Division {
  /** Elements that a thread takes at once. */
  readonly width: 1 | 4;
  readonly heads: number;
  readonly grid: readonly [number, number, number];
}

/** The kernels of cuda/elementwise.cu that change the layout. */
export class CudaRows {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  /** {@linkcode Backend.gather}. */
  gather(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    requireBlocks("gather", shape, src, dst, rotation, mean);
    this.#gather("gather", src, shape, rotation, mean, dst);
  }

  /** The same, rows rounded to binary16 (nearest even), row stride paddedLength(blocks · dim) elements of 2 bytes. */
  gatherHalf(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    requireBlocks("gather", shape, src, ofFloats(dst), rotation, mean);
    this.#gather("gatherHalf", src, shape, rotation, mean, dst);
  }

  /** {@linkcode Backend.scatter}. */
  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    requireBlocks("scatter", shape, dst, src, rotation, mean);
    this.#scatter(src, shape, rotation, mean, dst);
  }

  #gather(
    kernel: string,
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const { dtype, blocks, tokens, dim } = shape;
    const rotaryDim = rotation === null ? 0 : shape.rotaryDim;
    const { width, heads, grid } = this.#divide(shape, rotaryDim);
    this.#device.launch("elementwise", `${kernel}_${dtype}_${width}`, { grid, block: [THREADS, 1, 1] }, [
      src,
      { u32: blocks },
      { u32: tokens },
      { u32: dim },
      { u32: rotaryDim },
      rotation,
      mean,
      dst,
      { u32: paddedLength(blocks * dim) },
      { u32: heads },
    ]);
  }

  #scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const { dtype, blocks, tokens, dim } = shape;
    const rotaryDim = rotation === null ? 0 : shape.rotaryDim;
    const { width, heads, grid } = this.#divide(shape, rotaryDim);
    this.#device.launch("elementwise", `scatter_${dtype}_${width}`, { grid, block: [THREADS, 1, 1] }, [
      src,
      { u32: paddedLength(blocks * dim) },
      { u32: blocks },
      { u32: tokens },
      { u32: dim },
      { u32: rotaryDim },
      rotation,
      mean,
      dst,
      { u32: heads },
    ]);
  }

  #divide({ blocks, tokens, dim }: BlockShape, rotaryDim: number): Division {
    if (blocks * tokens * dim === 0) return { width: 1, heads: 1, grid: [0, 1, 1] };
    const width = dim % 4 === 0 && rotaryDim % 8 === 0 ? 4 : 1;
    const units = (rotaryDim / 2 + dim - rotaryDim) / width;
    if (tokens * units >= 2 ** 32) {
      throw new RangeError(`Cannot gather or scatter ${tokens} tokens of ${dim} elements a head at once: too many`);
    }
    // Cosines and sines are loaded once a thread: several heads share them, where threads are left without work anyway.
    const wanted = this.#device.multiprocessors * THREADS_PER_MULTIPROCESSOR;
    let heads = Math.floor(Math.min(MOST_HEADS, Math.max(1, blocks * tokens * units / wanted)));
    heads = Math.max(heads, Math.ceil(blocks / MOST_Y));
    return { width, heads, grid: [Math.ceil(tokens * units / THREADS), Math.ceil(blocks / heads), 1] };
  }
}

/** A buffer of binary16 as long as one of float32 that has as many elements, for checks. */
function ofFloats(buffer: DeviceBuffer): DeviceBuffer {
  return { byteLength: buffer.byteLength * 2, free: () => {} };
}
