import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import type { DeviceMemory, GpuMemory } from "../../src/backend/gpu/memory.ts";
import type { GpuKernels } from "../../src/backend/gpu/kernels.ts";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";
import { findNonFinite } from "../../src/cache/finite.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type DType, KINDS } from "../../src/cache/types.ts";
import { Codec } from "../../src/codec/codec.ts";
import { DeviceCache, memoryOf } from "../../src/codec/device_cache.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzBackendError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { SMALL_MODEL, syntheticCache, syntheticProfile } from "../synthetic.ts";

/** The reference backend with memory that it shares with its caller, counting what crosses to the host. */
class SharedReference extends ReferenceBackend {
  bytesRead = 0;
  #memory = new Map<DeviceMemory, DeviceBuffer>();
  override readonly gpu: GpuKernels = {
    memory: {
      wrap: (memory) => this.#memory.get(memory)!,
      memoryOf: (buffer) => {
        const memory = { pointer: BigInt(this.#memory.size), byteLength: buffer.byteLength };
        this.#memory.set(memory, buffer);
        return memory;
      },
      findNonFinite: (src, dtype, elements, found) => this.#find(src, dtype, elements, found),
    } satisfies GpuMemory,
    entropy: null,
    integer: null,
    trellis: null,
  } as unknown as GpuKernels;

  override async read(src: DeviceBuffer, byteOffset = 0, byteLength?: number): Promise<Uint8Array> {
    const bytes = await super.read(src, byteOffset, byteLength);
    this.bytesRead += bytes.length;
    return bytes;
  }

  #find(src: DeviceBuffer, dtype: DType, elements: number, found: DeviceBuffer): void {
    const bytes = (src as unknown as { bytes: Uint8Array }).bytes.slice(0, elements * BYTES_PER_ELEMENT[dtype]);
    this.write(found, Int32Array.of(findNonFinite(bytes, dtype)));
  }
}

const profile = syntheticProfile();

async function openShared(): Promise<{ codec: Codec; backend: SharedReference }> {
  const backend = new SharedReference();
  return { codec: new Codec(profile, await Lanes.open({}, () => Promise.resolve<Backend>(backend))), backend };
}

/** A cache in memory of the backend with room for more tokens than it has. */
function toDevice(backend: SharedReference, cache: KvCache, capacity: number): DeviceCache {
  const { model, dtype, tokens } = cache;
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    const tensor = (kind: "key" | "value") => {
      const row = (kind === "key" ? model.keyDim : model.valueDim) * BYTES_PER_ELEMENT[dtype];
      const buffer = backend.alloc(model.kvHeads * capacity * row);
      const bytes = cache.read(kind, 0, tokens);
      for (let head = 0; head < model.kvHeads; head++) {
        const from = (layer * model.kvHeads + head) * tokens * row;
        backend.write(buffer, bytes.subarray(from, from + tokens * row), head * capacity * row);
      }
      return { memory: memoryOf(backend).memoryOf(buffer) };
    };
    return { key: tensor("key"), value: tensor("value") };
  });
  const { positions, inputIds } = cache;
  return new DeviceCache({ model, dtype, positions, capacity, ...(inputIds ? { inputIds } : {}) }, layers);
}

/** A cache of the host from one in device memory. */
async function toHost(backend: Backend, cache: DeviceCache): Promise<KvCache> {
  const { model, dtype, positions, inputIds, tokens } = cache;
  const parts: Record<string, Uint8Array> = {};
  for (const kind of KINDS) {
    const dim = kind === "key" ? model.keyDim : model.valueDim;
    const bytes = model.layers * model.kvHeads * tokens * dim * BYTES_PER_ELEMENT[dtype];
    const buffer = backend.alloc(bytes);
    cache.copyTo(backend, kind, 0, tokens, buffer);
    parts[kind] = await backend.read(buffer, 0, bytes);
  }
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    const slice = (kind: "key" | "value") =>
      parts[kind].slice(layer * parts[kind].length / model.layers, (layer + 1) * parts[kind].length / model.layers);
    return { key: slice("key"), value: slice("value") };
  });
  return new KvCache({ model, dtype, positions, layers, ...(inputIds ? { inputIds } : {}) });
}

Deno.test("a cache in device memory gives the file that it gives from the host's, and comes back into it", async () => {
  const { codec, backend } = await openShared();
  await using _ = codec;
  for (const tokens of [1, 140, 700]) {
    const cache = syntheticCache(tokens, { seed: tokens });
    const wanted = await codec.compress(cache, { ratio: 4 });
    const { bytes } = await codec.compress(toDevice(backend, cache, tokens + 9), { ratio: 4 });
    assertEquals(bytes, wanted.bytes);
    const restored = (await codec.decompress(bytes)).cache;
    const { cache: there, free } = await codec.decompressOnDevice(bytes);
    assert((await toHost(backend, there)).equals(restored));
    free();
  }
});

Deno.test("chunks are read from the device as codes, not as elements", async () => {
  const { codec, backend } = await openShared();
  await using _ = codec;
  const device = toDevice(backend, syntheticCache(1156, { seed: 5 }), 1156);
  const bytesIn = 1156 * 3 * 2 * 16 * 2;
  backend.bytesRead = 0;
  const { bytes } = await codec.compress(device, { ratio: 8, window: 0 });
  assert(backend.bytesRead < bytesIn / 3, `${backend.bytesRead} of ${bytesIn} bytes were read`);
  backend.bytesRead = 0;
  (await codec.decompressOnDevice(bytes)).free();
  assert(backend.bytesRead < bytesIn / 50, `${backend.bytesRead} of ${bytesIn} bytes were read`);
});

Deno.test("a part of the tokens goes into a cache of the caller's, at other positions", async () => {
  const { codec, backend } = await openShared();
  await using _ = codec;
  const { bytes } = await codec.compress(syntheticCache(600, { seed: 3 }), { ratio: 4 });
  const options = { tokens: 300, firstPosition: 17 };
  const wanted = (await codec.decompress(bytes, options)).cache;
  const make = (shape: { positions: Int32Array }) =>
    toDevice(backend, syntheticCache(300, { positions: shape.positions, inputIds: false }), 512);
  const { cache } = await codec.decompressOnDevice(bytes, make, options);
  for (const kind of KINDS) {
    assertEquals((await toHost(backend, cache)).read(kind, 0, 300), wanted.read(kind, 0, 300));
  }
});

Deno.test("what is not finite is named, and caches that do not fit are refused", async () => {
  const { codec, backend } = await openShared();
  await using _ = codec;
  const cache = syntheticCache(400);
  const device = toDevice(backend, cache, 400);
  backend.write(memoryOf(backend).wrap(device.layers[1].value.memory), Uint16Array.of(0x7c00), 200 * 12);
  await assertRejects(
    () => codec.compress(device, { ratio: 4 }),
    KvzUnsupportedError,
    "value of layer 1, head 0, token 200, dimension 0 is Infinity",
  );
  const { bytes } = await codec.compress(cache, { ratio: 4 });
  const other = toDevice(backend, syntheticCache(399), 399);
  await assertRejects(() => codec.decompressOnDevice(bytes, () => other), KvzMismatchError, "399 tokens");
  assertThrows(() => device.read(), KvzBackendError, "device");
  const shape = { model: SMALL_MODEL, dtype: "f16", positions: cache.positions } as const;
  assertThrows(() => new DeviceCache(shape, device.layers.slice(1)), RangeError, "2 layers");
  assertThrows(() => new DeviceCache({ ...shape, capacity: 3 }, device.layers), RangeError, '"capacity" is 3');
});

Deno.test("a codec without a GPU refuses device memory", async () => {
  await using codec = await openCodec(profile, { backend: "wasm" });
  const { bytes } = await codec.compress(syntheticCache(200), { ratio: 4 });
  await assertRejects(() => codec.decompressOnDevice(bytes), KvzBackendError, "expected webgpu or cuda");
  const { backend } = await openShared();
  const device = toDevice(backend, syntheticCache(200), 200);
  await assertRejects(() => codec.compress(device, { ratio: 4 }), KvzBackendError, "expected webgpu or cuda");
});
