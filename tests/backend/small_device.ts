/**
 * A real WebGPU device that runs out of memory when it is told to, and counts what it holds.
 *
 * @module
 */
import { findAdapter } from "../../src/backend/webgpu/adapter.ts";

/** A device of which buffers from `most` bytes on cannot be had; it counts the bytes and the buffers that it holds. */
export class SmallDevice {
  readonly device: GPUDevice;
  most = Infinity;
  held = 0;
  buffers = 0;

  private constructor(device: GPUDevice) {
    this.device = device;
    // Scopes as a device has them: an error goes to the innermost of its kind.
    const scopes: { kind: GPUErrorFilter; error: GPUError | null }[] = [];
    const real = {
      create: device.createBuffer.bind(device),
      push: device.pushErrorScope.bind(device),
      pop: device.popErrorScope.bind(device),
    };
    const replaced = {
      pushErrorScope: (kind: GPUErrorFilter) => {
        scopes.push({ kind, error: null });
        real.push(kind);
      },
      popErrorScope: async () => {
        const { error } = scopes.pop()!;
        const found = await real.pop();
        return error ?? found;
      },
      createBuffer: (descriptor: GPUBufferDescriptor) => {
        if (descriptor.size >= this.most) {
          const scope = scopes.findLast(({ kind }) => kind === "out-of-memory");
          if (scope) scope.error ??= { message: `no ${descriptor.size} bytes left` } as GPUOutOfMemoryError;
          // Invalid by its usage; that error is another's.
          real.push("validation");
          const invalid = real.create({ ...descriptor, usage: 0x1 | 0x2 | 0x80 });
          real.pop();
          return invalid;
        }
        const buffer = real.create(descriptor);
        const destroy = buffer.destroy.bind(buffer);
        let size = buffer.size;
        this.held += size;
        this.buffers++;
        buffer.destroy = () => {
          if (size > 0) this.buffers--;
          this.held -= size;
          size = 0;
          destroy();
        };
        return buffer;
      },
    };
    for (const [name, value] of Object.entries(replaced)) Object.defineProperty(device, name, { value });
  }

  static async open(): Promise<SmallDevice> {
    return new SmallDevice(await (await findAdapter()).requestDevice());
  }
}
