/**
 * Rotation and groups on WebGPU (wgsl/groups.wgsl).
 *
 * @module
 */
import { type GroupShape, quantizeGroups } from "../../stages/quantize/uniform.ts";
import { hadamardScale } from "../../stages/transform/hadamard.ts";
import type { DeviceBuffer } from "../backend.ts";
import { type GpuGroups, requireGroups } from "../gpu/groups.ts";
import type { WebGpuDevice } from "./device.ts";
import { groups } from "./shaders/groups.ts";

/** The kernels on one device. */
export class WebGpuGroups implements GpuGroups {
  readonly #device: WebGpuDevice;
  #exact: Promise<boolean> | null = null;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  quantize(x: DeviceBuffer, shape: GroupShape, codes: DeviceBuffer, params: DeviceBuffer): void {
    requireGroups(shape, x, codes, params);
    const { outer, length, inner, group, leastRange, rotated } = shape;
    if (rotated) this.#rotate(x, outer * length, length);
    const all = outer * Math.ceil(length / group) * inner;
    const [entry, count] = inner === 1 ? ["quantize_runs", all] : ["quantize_columns", all / 4];
    this.#run(entry, count, 64, shape, leastRange, [x, codes, params]);
  }

  dequantize(codes: DeviceBuffer, params: DeviceBuffer, shape: GroupShape, x: DeviceBuffer): void {
    requireGroups(shape, x, codes, params);
    const { outer, length, inner, rotated } = shape;
    const count = outer * length * inner;
    this.#run("dequantize", count / 4, 256, shape, 0, [codes, params, x]);
    if (rotated) this.#rotate(x, count, length);
  }

  exact(): Promise<boolean> {
    return this.#exact ??= this.#try();
  }

  #rotate(x: DeviceBuffer, count: number, length: number): void {
    const shape = { length, inner: 1, group: length, bits: 1 };
    this.#run("rotate", count, 2048, shape, hadamardScale(length), [x]);
  }

  #run(
    entry: string,
    count: number,
    each: number,
    { length, inner, group, bits }: Pick<GroupShape, "length" | "inner" | "group" | "bits">,
    factor: number,
    buffers: readonly DeviceBuffer[],
  ): void {
    if (count === 0) return;
    const [word] = new Uint32Array(Float32Array.of(factor).buffer);
    this.#device.dispatch({
      shader: groups,
      entry,
      buffers,
      uniforms: Uint32Array.of(count, length, inner, group, (1 << bits) - 1, word, 0, 0),
      workgroups: this.#device.grid(Math.ceil(count / each)),
    });
  }

  /** Rotates rows whose sums round, and rows whose results lie below 2^-126, which a device may make zero. */
  async #try(): Promise<boolean> {
    const shape: GroupShape = {
      outer: 6,
      length: 128,
      inner: 1,
      group: 128,
      bits: 4,
      leastRange: 0,
      rotated: true,
    };
    let state = 1;
    const x = Float32Array.from({ length: 6 * 128 }, (_, i) => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return state * (i < 256 ? 2 ** -31 : 2 ** -155 - (i % 7) * 2 ** -157);
    });
    const wanted = x.slice();
    const coded = quantizeGroups(wanted, shape);
    const [values, codes, params] = [x.byteLength, x.length, coded.params.byteLength].map((n) => this.#device.alloc(n));
    try {
      this.#device.write(values, x, 0);
      this.quantize(values, shape, codes, params);
      const found = await Promise.all(
        [values, codes, params].map((buffer) => this.#device.read(buffer, 0, buffer.byteLength)),
      );
      const bytes = [wanted, coded.codes, coded.params].map((it) => new Uint8Array(it.buffer));
      return found.every((part, i) => part.every((byte, at) => byte === bytes[i][at]));
    } finally {
      for (const buffer of [values, codes, params]) buffer.free();
    }
  }
}
