/**
 * A cache whose tensors lie in a GPU's memory: it is compressed and restored there, and only coded bytes (and the raw
 * window) cross the bus.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";
import type { DeviceMemory, GpuMemory } from "../backend/gpu/memory.ts";
import { type CacheFacts, checkDType, checkFacts, checkPositions, checkRange } from "../cache/layout.ts";
import { checkModel } from "../cache/model.ts";
import { BYTES_PER_ELEMENT, type CacheSource, type DType, type Kind, type ModelSpec } from "../cache/types.ts";
import { KvzBackendError } from "../errors.ts";

/** A tensor [kvHeads][capacity][dim] of one layer, keys after RoPE in half-split pairing. */
export interface DeviceTensor {
  /** A `GPUBuffer` of the codec's device, or memory of its CUDA device. */
  readonly memory: DeviceMemory;
  /** Where the tensor begins, a multiple of 256; default 0. */
  readonly byteOffset?: number;
}

/** What a {@linkcode DeviceCache} has to be told. */
export interface DeviceCacheShape extends CacheFacts {
  /** Absolute position of each token, strictly increasing. */
  readonly positions: Int32Array;
  /** Tokens that the tensors have room for, default as many as there are positions. */
  readonly capacity?: number;
}

/** A dense cache in device memory that the caller owns. */
export class DeviceCache implements CacheSource {
  readonly model: ModelSpec;
  readonly dtype: DType;
  readonly positions: Int32Array;
  readonly inputIds?: Int32Array;
  readonly ragged = false;
  /** Tokens that the tensors have room for: the distance of two heads. */
  readonly capacity: number;
  /** Tensors of each layer. */
  readonly layers: readonly { readonly key: DeviceTensor; readonly value: DeviceTensor }[];

  /**
   * A cache over tensors of the caller, which stay the caller's.
   *
   * @throws {RangeError} when shape and tensors contradict each other.
   */
  constructor(
    shape: DeviceCacheShape,
    layers: readonly { readonly key: DeviceTensor; readonly value: DeviceTensor }[],
  ) {
    const { model, dtype, positions, inputIds, capacity = positions.length } = shape;
    checkModel(model);
    checkDType(dtype);
    checkPositions("position", positions);
    checkFacts(shape, positions.length);
    if (layers.length !== model.layers) {
      throw new RangeError(`Cannot use device cache: it has ${layers.length} layers, the model ${model.layers}`);
    }
    if (!(Number.isSafeInteger(capacity) && capacity >= positions.length)) {
      throw new RangeError(
        `Cannot use device cache: "capacity" is ${capacity}, expected at least its ${positions.length} tokens`,
      );
    }
    this.model = model;
    this.dtype = dtype;
    this.positions = positions;
    if (inputIds !== undefined) this.inputIds = inputIds;
    this.capacity = capacity;
    this.layers = layers;
  }

  get tokens(): number {
    return this.positions.length;
  }

  /**
   * Refuses: the elements are not in the host's memory.
   *
   * @throws {KvzBackendError} always.
   */
  read(): never {
    throw new KvzBackendError(
      "Cannot read device cache: open the codec on the device that holds it, with one thread and backend webgpu or cuda",
    );
  }

  /** @ignore Enqueues a copy of tokens [begin, end) of a kind to `to`, [layers][kvHeads][end − begin][dim]. */
  copyTo(backend: Backend, kind: Kind, begin: number, end: number, to: DeviceBuffer): void {
    const n = end - begin;
    this.#eachHead(backend, kind, begin, n, (tensor, at, head, row) => {
      backend.copy(tensor, at, to, head * n * row, n * row);
    });
  }

  /** @ignore Enqueues a copy of the first n of `tokens` tokens of `from`, [layers][kvHeads][tokens][dim], to token `begin`. */
  copyFrom(backend: Backend, kind: Kind, begin: number, n: number, from: DeviceBuffer, tokens: number): void {
    this.#eachHead(backend, kind, begin, n, (tensor, at, head, row) => {
      backend.copy(from, head * tokens * row, tensor, at, n * row);
    });
  }

  #eachHead(
    backend: Backend,
    kind: Kind,
    begin: number,
    n: number,
    copy: (tensor: DeviceBuffer, at: number, head: number, row: number) => void,
  ): void {
    const { kvHeads, layers, keyDim, valueDim } = this.model;
    checkRange("tokens", begin, begin + n, this.tokens);
    const memory = memoryOf(backend);
    const row = (kind === "key" ? keyDim : valueDim) * BYTES_PER_ELEMENT[this.dtype];
    for (let layer = 0; layer < layers; layer++) {
      const { memory: held, byteOffset = 0 } = this.layers[layer][kind];
      const tensor = memory.wrap(held, byteOffset, kvHeads * this.capacity * row);
      for (let head = 0; head < kvHeads; head++) {
        copy(tensor, (head * this.capacity + begin) * row, layer * kvHeads + head, row);
      }
    }
  }
}

/** @throws {KvzBackendError} when the backend shares no memory with its caller. */
export function memoryOf({ name, gpu }: Backend): GpuMemory {
  if (gpu?.memory) return gpu.memory;
  throw new KvzBackendError(`Cannot use device memory on backend ${name}: expected webgpu or cuda`);
}

/** A cache of a shape in new memory of a GPU backend; `free` gives it back. */
export function allocDeviceCache(backend: Backend, shape: DeviceCacheShape): { cache: DeviceCache; free: () => void } {
  const memory = memoryOf(backend);
  const { model: { layers, kvHeads, keyDim, valueDim }, dtype, positions, capacity = positions.length } = shape;
  const buffers: DeviceBuffer[] = [];
  const free = () => buffers.splice(0).forEach((buffer) => buffer.free());
  const tensor = (dim: number): DeviceTensor => {
    const buffer = backend.alloc(Math.max(16, kvHeads * capacity * dim * BYTES_PER_ELEMENT[dtype]));
    buffers.push(buffer);
    return { memory: memory.memoryOf(buffer) };
  };
  try {
    const tensors = Array.from({ length: layers }, () => ({ key: tensor(keyDim), value: tensor(valueDim) }));
    return { cache: new DeviceCache(shape, tensors), free };
  } catch (error) {
    free();
    throw error;
  }
}

/** Waits until a backend has done what it was given; its errors reject. */
export async function finished(backend: Backend): Promise<void> {
  const word = backend.alloc(16);
  try {
    await backend.read(word, 0, 4);
  } finally {
    word.free();
  }
}
