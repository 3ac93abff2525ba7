/**
 * Rotation and groups on a CUDA device (cuda/groups.cu).
 *
 * @module
 */
import type { GroupShape } from "../../stages/quantize/uniform.ts";
import { hadamardScale } from "../../stages/transform/hadamard.ts";
import type { DeviceBuffer } from "../backend.ts";
import { type GpuGroups, requireGroups } from "../gpu/groups.ts";
import type { CudaDevice } from "./device.ts";

/** The kernels on one device. */
export class CudaGroups implements GpuGroups {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  quantize(x: DeviceBuffer, shape: GroupShape, codes: DeviceBuffer, params: DeviceBuffer): void {
    requireGroups(shape, x, codes, params);
    const { outer, length, inner, group, bits, leastRange, rotated } = shape;
    if (rotated) this.#rotate(x, outer * length, length);
    const count = outer * Math.ceil(length / group) * inner;
    const runs = inner === 1;
    this.#launch(runs ? "quantizeRuns" : "quantizeColumns", Math.ceil(count / (runs ? 8 : 256)), [
      x,
      ...[count, length, ...(runs ? [] : [inner]), group].map((u32) => ({ u32 })),
      { f32: (1 << bits) - 1 },
      { f32: leastRange },
      codes,
      params,
    ]);
  }

  dequantize(codes: DeviceBuffer, params: DeviceBuffer, shape: GroupShape, x: DeviceBuffer): void {
    requireGroups(shape, x, codes, params);
    const { outer, length, inner, group, rotated } = shape;
    const count = outer * length * inner;
    const counts = [count, length, inner, group].map((u32) => ({ u32 }));
    this.#launch("dequantizeGroups", Math.ceil(count / 256), [codes, params, ...counts, x]);
    if (rotated) this.#rotate(x, count, length);
  }

  /** As CUDA's arithmetic is IEEE's. */
  exact(): Promise<boolean> {
    return Promise.resolve(true);
  }

  #rotate(x: DeviceBuffer, count: number, n: number): void {
    this.#launch("hadamardRows", Math.ceil(count / 2048), [x, { u32: count }, { u32: n }, { f32: hadamardScale(n) }]);
  }

  #launch(kernel: string, blocks: number, args: Parameters<CudaDevice["launch"]>[3]): void {
    this.#device.launch("groups", kernel, { grid: [blocks, 1, 1], block: [256, 1, 1] }, args);
  }
}
