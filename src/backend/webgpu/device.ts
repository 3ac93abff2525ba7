/**
 * A WebGPU device as the kernels use it: memory, writes and reads, and kernels that are batched, compiled once and run
 * within error scopes. Nothing waits but `read` and `profile`.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { DeviceLimitError } from "../fallback.ts";
import type { DeviceBuffer } from "../backend.ts";
import { LIMITS, type OpenedDevice } from "./adapter.ts";
import { separateAliases } from "./aliases.ts";
import { WebGpuBuffer } from "./buffer.ts";
import { type Binding, type Command, encodeCommands, UniformBuffer } from "./commands.ts";
import { Faults } from "./faults.ts";
import { STORAGE_USAGE } from "./flags.ts";
import { Memory } from "./memory.ts";
import { type Pipeline, pipelineKey, Pipelines, type Shader } from "./pipelines.ts";
import type { KernelTime } from "../gpu/kernel_time.ts";
import { PROFILED_KERNELS, Profiler } from "./profiler.ts";
import { bytes } from "./shaders/bytes.ts";
import { Staging, STAGING_BYTES } from "./staging.ts";

/** Commands after which a batch is submitted by itself. */
const BATCH = 64;

/** A part of a buffer. Its offset is a multiple of `WebGpuDevice.alignment`. */
export interface BufferRange {
  readonly buffer: DeviceBuffer;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** A run of a kernel. */
export interface Dispatch {
  readonly shader: Shader;
  readonly entry: string;
  /** Values of the shader's overrides. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Storage buffers at bindings 0 … n − 1 of group 0, all of which the entry point uses. */
  readonly buffers: readonly (DeviceBuffer | BufferRange)[];
  /** `var<uniform>` at binding n. */
  readonly uniforms?: Uint32Array;
  readonly workgroups: readonly [number, number, number];
}

/** What kernels choose their variants by. */
export interface DeviceFeatures {
  /** Kernels are compiled in their variants with subgroups. */
  readonly subgroups: boolean;
  /** `enable f16` compiles and runs. */
  readonly f16: boolean;
}

/** The limits that kernels have to keep. */
export type DeviceLimits = Readonly<Record<(typeof LIMITS)[number] | "minStorageBufferOffsetAlignment", number>>;

/** How a device is used. */
export interface WebGpuDeviceOptions {
  /** Times every kernel, by `timestamp-query`, which the device must have. */
  readonly timeKernels?: boolean;
  /** `false`: kernels without subgroups, also where the device has them. */
  readonly subgroups?: boolean;
  /** Limits below the device's own. */
  readonly limits?: Partial<DeviceLimits>;
}

/** An open device. */
export class WebGpuDevice {
  readonly device: GPUDevice;
  /** Name of the adapter, "" where the runtime hides it. */
  readonly adapter: string;
  readonly features: DeviceFeatures;
  readonly limits: DeviceLimits;
  /** Offsets of bindings are multiples of this, at most 256. */
  readonly alignment: number;
  readonly #own: boolean;
  readonly #faults: Faults;
  readonly #memory: Memory;
  readonly #pipelines: Pipelines;
  readonly #uniforms: UniformBuffer;
  readonly #staging: Staging;
  readonly #profiler: Profiler | null;
  #commands: Command[] = [];
  /** Buffers of commands that are not yet submitted. */
  readonly #pending = new Set<GPUBuffer>();
  #disposed = false;

  /** @throws {KvzBackendError} when kernels shall be timed and the device cannot. */
  constructor(opened: OpenedDevice, options: WebGpuDeviceOptions = {}) {
    const { device, adapter, own } = opened;
    const { timeKernels = false, subgroups = true, limits = {} } = options;
    const features = device.features as ReadonlySet<string>;
    if (timeKernels && !features.has("timestamp-query")) {
      throw new KvzBackendError('Cannot profile the webgpu backend: its device lacks the feature "timestamp-query"');
    }
    this.device = device;
    this.adapter = adapter;
    this.#own = own;
    this.features = { subgroups: subgroups && opened.subgroups, f16: features.has("shader-f16") };
    const all = [...LIMITS, "minStorageBufferOffsetAlignment"] as const;
    const found = Object.fromEntries(all.map((name) => [name, device.limits[name]])) as DeviceLimits;
    this.limits = { ...found, ...limits };
    this.alignment = this.limits.minStorageBufferOffsetAlignment;
    this.#faults = new Faults(device);
    this.#memory = new Memory(device, this.#faults, this.limits.maxBufferSize, this.#pending);
    this.#pipelines = new Pipelines(device, this.features.subgroups);
    this.#uniforms = new UniformBuffer(device);
    this.#staging = new Staging(device);
    this.#profiler = timeKernels ? new Profiler(device) : null;
  }

  /** Bytes of device memory in use. */
  get bytesInUse(): number {
    return this.#memory.used;
  }

  /** @throws {KvzLimitError} when the device has no buffers so large. */
  alloc(byteLength: number): WebGpuBuffer {
    this.#check();
    return new WebGpuBuffer(this, this.#memory.take(byteLength), 0, byteLength, (it) => this.#memory.give(it));
  }

  /**
   * A buffer of the caller's on the same device; freeing it frees nothing. That it belongs to another device shows as an
   * error of the next read.
   *
   * @throws {RangeError} when it lies outside, begins at no multiple of 256, or ends within 16 bytes that it lacks.
   * @throws {KvzBackendError} when its usage lacks STORAGE, COPY_SRC or COPY_DST.
   */
  wrap(buffer: GPUBuffer, byteOffset: number, byteLength: number): WebGpuBuffer {
    this.#check();
    if (!(byteOffset % 256 === 0 && byteOffset >= 0)) {
      throw new RangeError(`Cannot wrap a buffer: "byteOffset" is ${byteOffset}, expected a multiple of 256`);
    }
    // Kernels read and write 16 bytes at a time.
    const end = byteOffset + Math.ceil(byteLength / 16) * 16;
    if (!(Number.isSafeInteger(byteLength) && byteLength >= 0 && end <= buffer.size)) {
      throw new RangeError(
        `Cannot wrap ${byteLength} bytes at ${byteOffset}, rounded up to 16: the buffer has ${buffer.size}`,
      );
    }
    if ((buffer.usage & STORAGE_USAGE) !== STORAGE_USAGE) {
      throw new KvzBackendError(
        `Cannot wrap a buffer: its usage is 0x${buffer.usage.toString(16)}, expected STORAGE, COPY_SRC and COPY_DST`,
      );
    }
    return new WebGpuBuffer(this, buffer, byteOffset, byteLength, null);
  }

  /** A part of a buffer that may begin anywhere: the aligned range around it, and the bytes of that before it. */
  range(buffer: DeviceBuffer, byteBegin: number, byteEnd: number): { readonly range: BufferRange; skip: number } {
    const skip = byteBegin % this.alignment;
    const byteOffset = byteBegin - skip;
    return { range: { buffer, byteOffset, byteLength: byteEnd - byteOffset }, skip };
  }

  /** Most bytes of a {@linkcode range}, whatever it begins at. */
  get mostBytes(): number {
    return Math.min(this.limits.maxStorageBufferBindingSize, this.limits.maxBufferSize) - this.alignment;
  }

  /** Workgroups of a kernel that numbers them as y · (groups in x) + x: at least `count`. */
  grid(count: number): [number, number, number] {
    const most = this.limits.maxComputeWorkgroupsPerDimension;
    if (count <= most) return [count, 1, 1];
    const y = Math.ceil(count / most);
    return [Math.ceil(count / y), y, 1];
  }

  /** Copies host bytes to the device, in order with the kernels. */
  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset: number): void {
    this.#check();
    const buffer = this.buffer(dst);
    const { gpuBuffer } = buffer;
    if (src.byteLength === 0) return;
    const begin = buffer.byteOffset + dstByteOffset;
    const end = begin + src.byteLength;
    const [inner, innerEnd] = [Math.ceil(begin / 4) * 4, Math.floor(end / 4) * 4];
    if (this.#pending.has(gpuBuffer)) this.flush();
    const source = new Uint8Array(src.buffer, src.byteOffset, src.byteLength);
    if (innerEnd > inner) {
      this.#faults.scoped("write", () => {
        const { queue } = this.device;
        queue.writeBuffer(gpuBuffer, inner, source as Uint8Array<ArrayBuffer>, inner - begin, innerEnd - inner);
      });
    }
    const ends = [...new Set([Math.floor(begin / 4) * 4, innerEnd])].filter((at) =>
      at < end && (at < begin || at + 4 > end)
    );
    if (ends.length > 0) this.#mergeEnds(dst, buffer.byteOffset, begin, source, ends);
  }

  /** Waits for the work so far and copies device bytes to the host. */
  async read(src: DeviceBuffer, byteOffset: number, byteLength: number): Promise<Uint8Array> {
    this.#check();
    const buffer = this.buffer(src);
    const { gpuBuffer } = buffer;
    const begin = buffer.byteOffset + byteOffset;
    const from = Math.floor(begin / 4) * 4;
    const to = byteLength === 0 ? from : Math.ceil((begin + byteLength) / 4) * 4;
    const pieces: { staging: GPUBuffer; at: number; length: number }[] = [];
    for (let at = from; at < to; at += STAGING_BYTES) {
      const length = Math.min(STAGING_BYTES, to - at);
      const staging = this.#faults.scoped("read", () => this.#staging.take(length), (outOfMemory) => {
        if (outOfMemory) this.#memory.trim(0);
      });
      this.#push({ from: gpuBuffer, fromOffset: at, to: staging, toOffset: 0, byteLength: length }, [gpuBuffer]);
      pieces.push({ staging, at, length });
    }
    this.flush();
    const reading = this.#faults.beginReading();
    const out = new Uint8Array(byteLength);
    const mapped = await Promise.allSettled(
      pieces.map(({ staging, at, length }) =>
        this.#staging.map(staging, length, this.#faults.lost, (bytes) => {
          const skip = Math.max(0, begin - at);
          out.set(bytes.subarray(skip, Math.min(length, begin + byteLength - at)), at + skip - begin);
        })
      ),
    );
    if (mapped.some(({ status }) => status === "rejected")) await this.#faults.explain();
    await this.#faults.settle(reading);
    for (const piece of mapped) {
      if (piece.status === "rejected") {
        throw piece.reason instanceof KvzBackendError
          ? piece.reason
          : new KvzBackendError(`Cannot read: ${(piece.reason as Error).message}`, { cause: piece.reason });
      }
    }
    return out;
  }

  /** Copies between buffers; offsets and length are multiples of 4. */
  copy(src: DeviceBuffer, srcByteOffset: number, dst: DeviceBuffer, dstByteOffset: number, byteLength: number): void {
    this.#check();
    const [from, to] = [this.buffer(src), this.buffer(dst)];
    const fromOffset = from.byteOffset + srcByteOffset;
    const toOffset = to.byteOffset + dstByteOffset;
    if (byteLength === 0) return;
    if (from.gpuBuffer !== to.gpuBuffer) {
      this.#pushCopy(from.gpuBuffer, fromOffset, to.gpuBuffer, toOffset, byteLength);
      return;
    }
    // WebGPU does not copy within one buffer.
    const between = this.#memory.take(byteLength);
    this.#pushCopy(from.gpuBuffer, fromOffset, between, 0, byteLength);
    this.#pushCopy(between, 0, to.gpuBuffer, toOffset, byteLength);
    this.#memory.give(between);
  }

  /**
   * Enqueues a kernel.
   *
   * @throws {RangeError} when it has more workgroups in a dimension than the device takes.
   * @throws {KvzLimitError} when a buffer is larger than what can be bound.
   */
  dispatch({ shader, entry, constants = {}, buffers, uniforms, workgroups }: Dispatch): void {
    this.#check();
    const most = this.limits.maxComputeWorkgroupsPerDimension;
    if (workgroups.some((count) => !(count >= 0 && count <= most))) {
      throw new RangeError(`Cannot run ${shader.name}.${entry} in ${workgroups} workgroups: at most ${most} each`);
    }
    const pipeline = this.#pipeline(shader, entry, constants);
    const copies: GPUBuffer[] = [];
    const bindings = separateAliases(shader, buffers.map((it) => this.#bind(it)), ({ buffer, offset, size }) => {
      const part = this.#memory.take(size);
      copies.push(part);
      this.#pushCopy(buffer, offset, part, 0, size);
      return { buffer: part, offset: 0, size };
    });
    this.#push({ pipeline, bindings, uniforms: uniforms ?? null, workgroups }, bindings.map(({ buffer }) => buffer));
    for (const copy of copies) this.#memory.give(copy);
  }

  /** Submits what was enqueued. */
  flush(): void {
    const commands = this.#commands;
    if (commands.length === 0) return;
    this.#commands = [];
    this.#pending.clear();
    const names = [...new Set(commands.map((it) => "pipeline" in it ? it.pipeline.label : "copy"))].join(", ");
    this.#faults.scoped(`run ${names}`, () => {
      this.device.queue.submit([encodeCommands(this.device, commands, this.#uniforms, this.#profiler)]);
    }, (outOfMemory) => {
      // Their buffer may be what there was no memory for.
      if (outOfMemory) this.#uniforms.destroy();
    });
    this.#memory.trim();
  }

  /**
   * Times of the kernels since the last call, longest first.
   *
   * @throws {KvzBackendError} when profiling was not asked for.
   */
  async profile(): Promise<KernelTime[]> {
    this.#check();
    if (this.#profiler === null) {
      throw new KvzBackendError('Cannot profile: the backend was opened without "timeKernels"');
    }
    this.flush();
    return await this.#profiler.take();
  }

  /** @throws {KvzBackendError} when a buffer is not of this device. */
  buffer(buffer: DeviceBuffer): WebGpuBuffer {
    if (!(buffer instanceof WebGpuBuffer) || buffer.owner !== this) {
      throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
    }
    return buffer;
  }

  /** Frees everything, and the device where it is ours. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#commands = [];
    this.#pending.clear();
    this.#memory.destroy();
    this.#uniforms.destroy();
    this.#staging.destroy();
    this.#profiler?.destroy();
    if (this.#own) this.device.destroy();
  }

  #check(): void {
    if (this.#disposed) throw new KvzBackendError("Cannot use the webgpu backend: it was disposed");
    this.#faults.check();
  }

  #pipeline(shader: Shader, entry: string, constants: Readonly<Record<string, number>>): Pipeline {
    const key = pipelineKey(shader, entry, constants);
    return this.#pipelines.find(key) ??
      this.#faults.scoped(`compile ${key}`, () => this.#pipelines.compile(key, shader, entry, constants));
  }

  #bind(it: DeviceBuffer | BufferRange): Binding {
    const [of, from, byteLength] = "buffer" in it ? [it.buffer, it.byteOffset, it.byteLength] : [it, 0, it.byteLength];
    const owner = this.buffer(of);
    const { gpuBuffer } = owner;
    const offset = owner.byteOffset + from;
    // Whole vectors: memory of ours is padded to 16 bytes.
    const size = Math.min(Math.max(16, Math.ceil(byteLength / 16) * 16), gpuBuffer.size - offset);
    const most = this.limits.maxStorageBufferBindingSize;
    if (size > most) throw new DeviceLimitError(`Cannot bind ${size} bytes: this WebGPU device binds at most ${most}`);
    return { buffer: gpuBuffer, offset, size };
  }

  #pushCopy(from: GPUBuffer, fromOffset: number, to: GPUBuffer, toOffset: number, byteLength: number): void {
    this.#push({ from, fromOffset, to, toOffset, byteLength }, [from, to]);
  }

  #push(command: Command, buffers: readonly GPUBuffer[]): void {
    if (this.#commands.push(command) === 1) queueMicrotask(() => this.#flushUnlessLost());
    for (const buffer of buffers) this.#pending.add(buffer);
    if (this.#commands.length >= Math.min(BATCH, PROFILED_KERNELS)) this.flush();
  }

  /** Submits at the end of the caller's turn what it left: nothing stays enqueued for ever. */
  #flushUnlessLost(): void {
    if (this.#disposed) return;
    try {
      this.flush();
    } catch (error) {
      // The next call tells.
      if (!(error instanceof KvzBackendError)) throw error;
    }
  }

  /** Words of which a write covers a part keep the other bytes. */
  #mergeEnds(
    dst: DeviceBuffer,
    bufferOffset: number,
    begin: number,
    source: Uint8Array,
    ends: readonly number[],
  ): void {
    const { range, skip } = this.range(dst, ends[0] - bufferOffset, ends[ends.length - 1] + 4 - bufferOffset);
    const uniforms = new Uint32Array(8);
    ends.forEach((at, i) => {
      const [mask, value] = [new Uint8Array(4), new Uint8Array(4)];
      for (let b = 0; b < 4; b++) {
        const from = at + b - begin;
        if (from < 0 || from >= source.length) continue;
        mask[b] = 0xff;
        value[b] = source[from];
      }
      uniforms[4 * i] = (at - ends[0] + skip) / 4;
      uniforms[4 * i + 1] = new Uint32Array(mask.buffer)[0];
      uniforms[4 * i + 2] = new Uint32Array(value.buffer)[0];
    });
    this.dispatch({ shader: bytes, entry: "merge", buffers: [range], uniforms, workgroups: [1, 1, 1] });
  }
}
