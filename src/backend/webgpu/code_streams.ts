/**
 * Streams of recipe kvtc → coefficients on WebGPU (wgsl/code_streams.wgsl, wgsl/code_params.wgsl).
 *
 * @module
 */
import type { DeviceBuffer, DevicePlan } from "../backend.ts";
import { DeviceLimitError } from "../fallback.ts";
import {
  type ChunkBatch,
  type CodeForm,
  type DeviceStreams,
  type GpuCodeStreams,
  requireParams,
  requireStreams,
  streamBytes,
} from "../gpu/code_streams.ts";
import type { WebGpuDevice } from "./device.ts";
import { WebGpuPlan } from "./plan.ts";
import { rowRanges } from "./quantizer.ts";
import { codeParams } from "./shaders/code_params.ts";
import { codeStreams } from "./shaders/code_streams.ts";

/** Components and tokens of a workgroup. */
const [TILE_COMPONENTS, TILE_TOKENS] = [64, 64];
const WORKGROUP = 256;

/** Streams in the order of the shader's bindings. */
const ORDER = ["int2", "int4", "fp8", "low", "high"] as const;

/** The kernels on one device. */
export class WebGpuCodeStreams implements GpuCodeStreams {
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
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
    const own = WebGpuPlan.of(this.#device, plan);
    const { chunks, tokens } = batch;
    if (stride === 0 || tokens === 0) return;
    const bytes = streamBytes(own.groups, tokens, form);
    const longest = Math.max(...Object.values(bytes));
    this.#requireBindable(longest);
    const widest = Math.max(tokens * stride * 4, longest);
    const together = Math.floor(this.#device.mostBytes / widest);
    // Where not even a chunk can be bound, its coefficients are written in parts.
    const step = Math.max(1, together);
    const parts = together === 0 ? rowRanges(this.#device, tokens, stride * 4) : [{ begin: 0, end: tokens }];
    for (let first = 0; first < chunks; first += step) {
      const count = Math.min(step, chunks - first);
      const bound = ORDER.map((name) =>
        this.#device.range(streams[name], first * bytes[name], (first + count) * bytes[name])
      );
      for (const { begin, end } of parts) {
        const row = first * tokens + begin;
        const to = this.#device.range(coefficients, row * stride * 4, (row + count * (end - begin)) * stride * 4);
        this.#device.dispatch({
          shader: codeStreams,
          entry: "restore",
          buffers: [...bound.map(({ range }) => range), own.places, to.range],
          uniforms: Uint32Array.of(
            to.skip / 16,
            stride / 4,
            begin,
            end,
            tokens,
            own.components,
            own.groups.length,
            Number(form === "packed"),
            count,
            ...bound.map(({ skip }) => skip),
            bytes.int2,
            bytes.int4,
            bytes.fp8,
            0,
            0,
            0,
          ),
          workgroups: this.#device.grid(
            count * Math.ceil(stride / TILE_COMPONENTS) * Math.ceil((end - begin) / TILE_TOKENS),
          ),
        });
      }
    }
  }

  splitParams(params: DeviceBuffer, groups: number, batch: ChunkBatch, low: DeviceBuffer, high: DeviceBuffer): void {
    requireParams(params, groups, batch, low, high);
    const bytes = 2 * groups * batch.chunks * batch.tokens;
    if (bytes === 0) return;
    this.#requireBindable(2 * bytes);
    const [pairs, ...planes] = [2 * bytes, bytes, bytes].map((length, i) =>
      this.#device.range([params, low, high][i], 0, length).range
    );
    this.#device.dispatch({
      shader: codeParams,
      entry: "split",
      buffers: [pairs, ...planes],
      uniforms: Uint32Array.of(bytes, batch.tokens, groups, 0),
      workgroups: this.#device.grid(Math.ceil(bytes / 4 / WORKGROUP)),
    });
  }

  #requireBindable(bytes: number): void {
    if (bytes <= this.#device.mostBytes) return;
    throw new DeviceLimitError(
      `Cannot bind a stream of ${bytes} bytes: this WebGPU device binds at most ${this.#device.mostBytes}`,
    );
  }
}
