/**
 * The group quantizer, its packing, and FP8 rows on a CUDA device (cuda/quantize.cu).
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer, DevicePlan, QuantGroup } from "../backend.ts";
import {
  type ChunkBatch,
  type CodeForm,
  type DeviceStreams,
  type GpuCodeStreams,
  requireParams,
  requireStreams,
  streamBytes,
} from "../gpu/code_streams.ts";
import { requireFp8, requirePacking, requireQuantizer } from "../check.ts";
import type { CudaDevice, KernelArgument } from "./device.ts";
import { CudaPlan } from "./plan.ts";

/** Threads of a block of quantize. */
const QUANTIZE_THREADS = 128;
/** Threads of a block elsewhere. */
const THREADS = 256;
/** Tokens a thread of dequantize, TOKENS there. */
const DEQUANTIZE_TOKENS = 4;
/** Components and tokens of a tile of pack, unpack and restore. */
const TILE_COMPONENTS = 64;
const TILE_TOKENS = 128;
/** Tokens, and groups, of a block of splitParams. */
const SQUARE = 32;

/** The kernels. */
export class CudaQuantizer implements GpuCodeStreams {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  /** {@linkcode Backend.uploadPlan}. */
  uploadPlan(groups: readonly QuantGroup[]): CudaPlan {
    return new CudaPlan(this.#device, groups);
  }

  /** {@linkcode Backend.quantize}. */
  quantize(
    coefficients: DeviceBuffer,
    stride: number,
    tokens: number,
    plan: DevicePlan,
    symbols: DeviceBuffer,
    params: DeviceBuffer,
  ): void {
    requireQuantizer("quantize", coefficients, stride, tokens, plan, symbols, params);
    const own = this.#own(plan);
    // What the kernel says it stages: floats from any offset in a vector, then codes likewise.
    const shared = (own.width + 8) * 4 + own.width + 8;
    this.#run("quantize", own.sliceCount * tokens, QUANTIZE_THREADS, [
      coefficients,
      { u32: stride },
      own.slices,
      { u32: own.sliceCount },
      own.tasks,
      own.groupTable,
      { u32: own.groups.length },
      { u32: own.components },
      { u32: own.width },
      symbols,
      params,
    ], shared);
  }

  /** {@linkcode Backend.dequantize}. */
  dequantize(
    symbols: DeviceBuffer,
    params: DeviceBuffer,
    plan: DevicePlan,
    tokens: number,
    coefficients: DeviceBuffer,
    stride: number,
  ): void {
    requireQuantizer("dequantize", coefficients, stride, tokens, plan, symbols, params);
    const own = this.#own(plan);
    const chunks = Math.ceil(stride / (THREADS * 4));
    this.#run("dequantize", chunks * Math.ceil(tokens / DEQUANTIZE_TOKENS), THREADS, [
      symbols,
      params,
      own.map,
      { u32: own.groups.length },
      { u32: own.components },
      { u32: tokens },
      coefficients,
      { u32: stride },
      { u32: chunks },
    ]);
  }

  /** {@linkcode Backend.pack}. */
  pack(symbols: DeviceBuffer, plan: DevicePlan, tokens: number, packed: DeviceBuffer): void {
    requirePacking("pack", symbols, plan, tokens, packed);
    this.#pack("pack", symbols, this.#own(plan), tokens, packed);
  }

  /** {@linkcode Backend.unpack}. */
  unpack(packed: DeviceBuffer, plan: DevicePlan, tokens: number, symbols: DeviceBuffer): void {
    requirePacking("unpack", symbols, plan, tokens, packed);
    this.#pack("unpack", packed, this.#own(plan), tokens, symbols);
  }

  restore(
    streams: DeviceStreams,
    form: CodeForm,
    plan: DevicePlan,
    batch: ChunkBatch,
    coefficients: DeviceBuffer,
    stride: number,
  ): void {
    requireStreams(streams, form, plan, batch, coefficients, stride);
    const own = this.#own(plan);
    const { chunks, tokens } = batch;
    const [across, along] = [Math.ceil(stride / TILE_COMPONENTS), Math.ceil(tokens / TILE_TOKENS)];
    const { int2, int4, fp8, low, high } = streams;
    const bytes = streamBytes(own.groups, tokens, form);
    this.#run(form === "packed" ? "restorePacked" : "restoreBytes", chunks * along * across, THREADS, [
      ...[int2, int4, fp8, low, high, own.packing, own.map],
      ...[own.groups.length, own.components, tokens, along, across].map((u32) => ({ u32 })),
      ...[bytes.int2, bytes.int4, bytes.fp8].map((u64) => ({ u64 })),
      coefficients,
      { u32: stride },
    ]);
  }

  splitParams(params: DeviceBuffer, groups: number, batch: ChunkBatch, low: DeviceBuffer, high: DeviceBuffer): void {
    requireParams(params, groups, batch, low, high);
    const [along, across] = [batch.tokens, groups].map((n) => Math.ceil(n / SQUARE));
    const counts = [groups, batch.tokens, along, across].map((u32) => ({ u32 }));
    this.#run("splitParams", batch.chunks * along * across, THREADS, [params, ...counts, low, high]);
  }

  /** {@linkcode Backend.encodeFp8}. */
  encodeFp8(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void {
    requireFp8("encode fp8", src, rows, length, codes, scales);
    // A warp is enough for a short row; long ones are few.
    const threads = length <= 512 ? 32 : length <= 8192 ? THREADS : 1024;
    this.#run("encodeFp8", rows, threads, [src, { u32: length }, codes, scales]);
  }

  /** {@linkcode Backend.decodeFp8}. */
  decodeFp8(codes: DeviceBuffer, scales: DeviceBuffer, rows: number, length: number, dst: DeviceBuffer): void {
    requireFp8("decode fp8", dst, rows, length, codes, scales);
    const chunks = Math.ceil(length / THREADS);
    this.#run("decodeFp8", rows * chunks, THREADS, [codes, scales, { u32: length }, { u32: chunks }, dst]);
  }

  #pack(kernel: string, from: DeviceBuffer, plan: CudaPlan, tokens: number, to: DeviceBuffer): void {
    const tiles = Math.ceil(plan.components / TILE_COMPONENTS);
    this.#run(kernel, tiles * Math.ceil(tokens / TILE_TOKENS), THREADS, [
      from,
      plan.packing,
      { u32: plan.components },
      { u32: tokens },
      { u32: tiles },
      to,
    ]);
  }

  #run(kernel: string, blocks: number, threads: number, args: readonly KernelArgument[], shared: number = 0): void {
    this.#device.launch("quantize", kernel, { grid: [blocks, 1, 1], block: [threads, 1, 1], shared }, args);
  }

  #own(plan: DevicePlan): CudaPlan {
    if (!(plan instanceof CudaPlan) || plan.device !== this.#device) {
      throw new KvzBackendError("Cannot use a plan: it belongs to another backend");
    }
    return plan;
  }
}
