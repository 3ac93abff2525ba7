/**
 * Stand-ins for Transformers.js, onnxruntime and WebGPU with the behaviour that saving and restoring depend on, as read
 * in Transformers.js 4.3.1 and onnxruntime-common 1.30.
 *
 * @module
 */
import type { GpuBufferLike, GpuDeviceLike } from "../../src/adapters/gpu_buffers.ts";

interface GpuParameters {
  readonly dataType: string;
  readonly dims: readonly number[];
  download(): Promise<unknown>;
  dispose(): void;
}

/** onnxruntime-common's Tensor. */
export class FakeOrtTensor {
  location: string;
  #data: unknown;
  #gpu?: { readonly buffer: unknown; readonly parameters: GpuParameters };
  disposed = false;

  constructor(readonly type: string, data: unknown, readonly dims: readonly number[]) {
    this.#data = data;
    this.location = "cpu";
  }

  static fromGpuBuffer(buffer: unknown, parameters: GpuParameters): FakeOrtTensor {
    const tensor = new this(parameters.dataType, undefined, parameters.dims);
    tensor.location = "gpu-buffer";
    tensor.#gpu = { buffer, parameters };
    return tensor;
  }

  get data(): unknown {
    if (this.location === "none") throw new Error("The tensor is disposed.");
    if (this.#data === undefined) throw new Error("The data is not on CPU.");
    return this.#data;
  }

  get gpuBuffer(): unknown {
    if (!this.#gpu) throw new Error("The data is not stored as a WebGPU buffer.");
    return this.#gpu.buffer;
  }

  async getData(releaseData?: boolean): Promise<unknown> {
    if (this.location === "none") throw new Error("The tensor is disposed.");
    if (this.location === "cpu") return this.#data;
    this.#data = await this.#gpu!.parameters.download();
    this.location = "cpu";
    if (releaseData) this.#gpu!.parameters.dispose();
    return this.#data;
  }

  dispose(): void {
    this.#gpu?.parameters.dispose();
    this.#gpu = undefined;
    this.#data = undefined;
    this.location = "none";
  }
}

/**
 * Transformers.js' Tensor: holds one of onnxruntime, has no getData. As in builds for browsers, its constructor does not
 * know tensors that are made by the class it makes its own by.
 */
export class FakeTensor {
  ort_tensor: FakeOrtTensor;

  constructor(type: string, data: unknown, dims: number[]) {
    if (typeof type !== "string") throw new TypeError("Unsupported tensor type");
    this.ort_tensor = new FakeOrtTensor(type, data, dims);
  }

  /** What a session's output becomes. */
  static around(inner: FakeOrtTensor): FakeTensor {
    const tensor = new FakeTensor("float32", new Float32Array(0), [0]);
    tensor.ort_tensor = inner;
    return tensor;
  }

  get type(): string {
    return this.ort_tensor.type;
  }
  get dims(): readonly number[] {
    return this.ort_tensor.dims;
  }
  get data(): unknown {
    return this.ort_tensor.data;
  }
  get location(): string {
    return this.ort_tensor.location;
  }
  dispose(): void {
    this.ort_tensor.dispose();
  }
}

/** Transformers.js' DynamicCache. */
export class FakeDynamicCache {
  [name: `past_key_values.${string}`]: FakeTensor;

  constructor(entries: Record<string, FakeTensor>) {
    for (const [name, tensor] of Object.entries(entries)) {
      if (!(tensor instanceof FakeTensor)) throw new TypeError(`Expected a Tensor for key "${name}"`);
    }
    Object.assign(this, entries);
  }

  get_seq_length(): number {
    return this["past_key_values.0.key"].dims.at(-2)!;
  }
}

/** A buffer of {@linkcode FakeDevice}. */
export class FakeBuffer implements GpuBufferLike {
  readonly bytes: Uint8Array<ArrayBuffer>;
  destroyed = false;

  constructor(readonly device: FakeDevice, readonly size: number, readonly usage: number) {
    this.bytes = new Uint8Array(size);
  }

  mapAsync(_mode: number): Promise<void> {
    return this.usage & 1 ? Promise.resolve() : Promise.reject(new Error("not mappable"));
  }
  getMappedRange(): ArrayBuffer {
    return this.bytes.buffer;
  }
  destroy(): void {
    this.destroyed = true;
  }
}

/** A WebGPU device that refuses copies of foreign or destroyed buffers the way WebGPU does: aside, leaving zeros. */
export class FakeDevice implements GpuDeviceLike {
  readonly buffers: FakeBuffer[] = [];
  readonly #scopes: { filter: string; error: { message: string } | null }[] = [];

  /** @param memory Bytes that may be allocated. */
  constructor(readonly memory = Infinity) {}

  readonly queue = {
    writeBuffer: (buffer: GpuBufferLike, offset: number, data: Uint8Array<ArrayBuffer>) => {
      const { bytes, destroyed } = buffer as FakeBuffer;
      if (data.length % 4 !== 0 || offset + data.length > bytes.length || destroyed) this.#fail("validation", "write");
      else bytes.set(data, offset);
    },
    submit: (commands: unknown[]) => {
      for (const run of commands.flat()) (run as () => void)();
    },
  };

  createBuffer({ size, usage }: { size: number; usage: number }): FakeBuffer {
    const buffer = new FakeBuffer(this, size, usage);
    this.buffers.push(buffer);
    if (this.live > this.memory) this.#fail("out-of-memory", `${size} bytes`);
    return buffer;
  }

  createCommandEncoder() {
    const commands: (() => void)[] = [];
    return {
      copyBufferToBuffer: (from: GpuBufferLike, at: number, to: GpuBufferLike, toAt: number, size: number) => {
        const [a, b] = [from as FakeBuffer, to as FakeBuffer];
        commands.push(() => {
          if (size % 4 !== 0 || at + size > a.size || a.destroyed) this.#fail("validation", "copy");
          else if (a.device !== this) this.#fail("validation", "buffer of another device");
          else b.bytes.set(a.bytes.subarray(at, at + size), toAt);
        });
      },
      finish: () => commands,
    };
  }

  pushErrorScope(filter: string): void {
    this.#scopes.push({ filter, error: null });
  }
  popErrorScope(): Promise<{ message: string } | null> {
    return Promise.resolve(this.#scopes.pop()!.error);
  }

  /** Bytes in buffers that are not destroyed. */
  get live(): number {
    return this.buffers.reduce((sum, { size, destroyed }) => sum + (destroyed ? 0 : size), 0);
  }

  #fail(filter: string, message: string): void {
    const scope = this.#scopes.findLast((scope) => scope.filter === filter);
    if (scope === undefined) throw new Error(`uncaptured GPU error: ${message}`);
    scope.error ??= { message };
  }
}
