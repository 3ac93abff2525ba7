/**
 * Buffers that the caller and the WebGPU backend share.
 *
 * @module
 */
import { BYTES_PER_ELEMENT, type DType } from "../../cache/types.ts";
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";
import type { DeviceMemory, GpuMemory, WebGpuMemory } from "../gpu/memory.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import type { WebGpuDevice } from "./device.ts";
import { DTYPES } from "./layout.ts";
import { finite } from "./shaders/finite.ts";

/** Words of a workgroup. */
const WORKGROUP_WORDS = 1024;

/** GpuMemory of one device. */
export class WebGpuSharedMemory implements GpuMemory {
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  wrap(memory: DeviceMemory, byteOffset: number = 0, byteLength?: number): WebGpuBuffer {
    if ("pointer" in memory) {
      throw new KvzBackendError("Cannot wrap memory of CUDA on the webgpu backend: expected a GPUBuffer");
    }
    const length = byteLength ?? memory.size - byteOffset;
    return this.#device.wrap(memory as WebGpuMemory as GPUBuffer, byteOffset, length);
  }

  memoryOf(buffer: DeviceBuffer): DeviceMemory {
    const { gpuBuffer } = this.#device.buffer(buffer);
    // The caller's own work on it comes after what was enqueued.
    this.#device.flush();
    return gpuBuffer;
  }

  findNonFinite(src: DeviceBuffer, dtype: DType, elements: number, found: DeviceBuffer): void {
    const size = BYTES_PER_ELEMENT[dtype];
    requireCounts("find what is not finite", { elements });
    requireBytes("find what is not finite", "elements", src.byteLength, elements * size);
    requireBytes("find what is not finite", "found", found.byteLength, 4);
    this.#device.write(found, Uint32Array.of(0xffffffff), 0);
    const step = Math.floor(this.#device.mostBytes / 16) * 16 / size;
    for (let begin = 0; begin < elements; begin += step) {
      const count = Math.min(step, elements - begin);
      const { range, skip } = this.#device.range(src, begin * size, (begin + count) * size);
      this.#device.dispatch({
        shader: finite,
        entry: "find",
        constants: { DTYPE: DTYPES[dtype] },
        buffers: [range, found],
        uniforms: Uint32Array.of(skip / 4, count, begin, 0),
        workgroups: this.#device.grid(Math.ceil(count * size / 4 / WORKGROUP_WORDS)),
      });
    }
  }
}
