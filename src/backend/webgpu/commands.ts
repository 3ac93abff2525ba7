/**
 * Commands that wait for submission. They are recorded as plain data and encoded all at once, so that error scopes lie
 * tightly around WebGPU's calls and one submission carries many kernels.
 *
 * @module
 */
import { USAGE } from "./flags.ts";
import type { Pipeline } from "./pipelines.ts";
import type { Profiler } from "./profiler.ts";

/** A binding that has been resolved to a GPUBuffer. */
export interface Binding {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** A kernel's run or a copy. */
export type Command =
  | {
    readonly pipeline: Pipeline;
    readonly bindings: readonly Binding[];
    readonly uniforms: Uint32Array | null;
    readonly workgroups: readonly [number, number, number];
  }
  | {
    readonly from: GPUBuffer;
    readonly fromOffset: number;
    readonly to: GPUBuffer;
    readonly toOffset: number;
    readonly byteLength: number;
  };

/** Uniforms begin at multiples of this in their buffer. */
const UNIFORM_STEP = 256;

/** The buffer that holds the uniforms of a batch; the queue orders its writes, so one serves all batches. */
export class UniformBuffer {
  readonly #device: GPUDevice;
  #buffer: GPUBuffer | null = null;
  #words = new Uint32Array(0);

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Writes the uniforms of all commands; returns where each one's begin (-1: it has none). */
  upload(commands: readonly Command[]): number[] {
    let end = 0;
    const offsets = commands.map((command) => {
      if (!("pipeline" in command) || command.uniforms === null) return -1;
      const at = end;
      end += Math.ceil(command.uniforms.byteLength / UNIFORM_STEP) * UNIFORM_STEP;
      return at;
    });
    if (end === 0) return offsets;
    if (this.#words.byteLength < end) {
      this.#buffer?.destroy();
      this.#words = new Uint32Array(Math.max(end, 64 * UNIFORM_STEP) / 4);
      this.#buffer = this.#device.createBuffer({
        label: "kvz uniforms",
        size: this.#words.byteLength,
        usage: USAGE.uniform | USAGE.copyDst,
      });
    }
    commands.forEach((command, i) => {
      if ("pipeline" in command && command.uniforms !== null) this.#words.set(command.uniforms, offsets[i] / 4);
    });
    this.#device.queue.writeBuffer(this.#buffer!, 0, this.#words, 0, end / 4);
    return offsets;
  }

  /** The binding of uniforms at an offset. */
  entry(binding: number, offset: number, byteLength: number): GPUBindGroupEntry {
    const size = Math.ceil(byteLength / 16) * 16;
    return { binding, resource: { buffer: this.#buffer!, offset, size } };
  }

  destroy(): void {
    this.#buffer?.destroy();
    this.#buffer = null;
    this.#words = new Uint32Array(0);
  }
}

/** Encodes commands in order; kernels that follow one another share a pass, unless each is timed. */
export function encodeCommands(
  device: GPUDevice,
  commands: readonly Command[],
  uniforms: UniformBuffer,
  profiler: Profiler | null,
): GPUCommandBuffer {
  const offsets = uniforms.upload(commands);
  const encoder = device.createCommandEncoder({ label: "kvz" });
  let pass: GPUComputePassEncoder | null = null;
  commands.forEach((command, i) => {
    if (!("pipeline" in command)) {
      pass?.end();
      pass = null;
      encoder.copyBufferToBuffer(
        command.from,
        command.fromOffset,
        command.to,
        command.toOffset,
        command.byteLength,
      );
      return;
    }
    const { pipeline: { pipeline, layout, label }, bindings, uniforms: words, workgroups } = command;
    if (profiler !== null) {
      pass?.end();
      pass = encoder.beginComputePass({ label, timestampWrites: profiler.begin(label) });
    }
    pass ??= encoder.beginComputePass({ label: "kvz" });
    const entries = bindings.map((resource, binding): GPUBindGroupEntry => ({ binding, resource }));
    if (words !== null) entries.push(uniforms.entry(bindings.length, offsets[i], words.byteLength));
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ label, layout, entries }));
    pass.dispatchWorkgroups(...workgroups);
  });
  (pass as GPUComputePassEncoder | null)?.end();
  profiler?.resolve(encoder);
  return encoder.finish();
}
