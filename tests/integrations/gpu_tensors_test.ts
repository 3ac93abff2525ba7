/**
 * Tensors in buffers of a real WebGPU device (llvmpipe) with stand-ins for the classes around them: compressed there,
 * restored there, and what crosses the bus is counted. The device has WebGPU's default limits, as onnxruntime's may.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { fromTransformersJs, toTransformersJs } from "../../src/adapters/transformers_js.ts";
import { findWebGpu } from "../../src/backend/webgpu/create.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { decompressToGpuTensors, fromGpuTensors } from "../../gpu.ts";
import { KvzBackendError, KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../../mod.ts";
import { restoreCache, saveCache } from "../../transformers.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { onGpu, openDevice, ortRecord, Tensor } from "./gpu_records.ts";
import { FakeDynamicCache, FakeOrtTensor, FakeTensor } from "./transformers_fakes.ts";

const { adapter: there, reason } = await findWebGpu();
if (there === null) console.error(`Tests of tensors on WebGPU are left out: ${reason}`);
const ignore = there === null && !(Deno.env.get("KVZ_REQUIRE") ?? "").includes("webgpu");

/** Elements of tensors on a GPU, by their own download. */
async function download(tensors: Readonly<Record<string, FakeOrtTensor>>, model: ModelSpec): Promise<KvCache> {
  return await fromTransformersJs(tensors, { model });
}

function requireEqual(found: KvCache, wanted: KvCache): void {
  for (const kind of ["key", "value"] as const) {
    assertEquals(found.read(kind, 0, found.tokens), wanted.read(kind, 0, wanted.tokens));
  }
}

const KVZ = await smallKvzProfile();
const KVTC = syntheticProfile();

const SPEC: ModelSpec = {
  architecture: "llama",
  layers: 2,
  kvHeads: 2,
  keyDim: 8,
  valueDim: 8,
  rope: { theta: 10000, dim: 8, pairing: "half-split" },
};
const CONFIG = {
  model_type: "llama",
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  hidden_size: 16,
  rope_theta: 10000,
  vocab_size: 1000,
};
const profile = syntheticProfile(SPEC);
const model = { config: CONFIG };

Deno.test({
  name: "tensors on a GPU of default limits give the host's file, come back bit for bit, and only codes cross the bus",
  ignore,
  async fn() {
    const { device, live, takeRead } = await openDevice();
    assertEquals(device.limits.maxStorageBuffersPerShaderStage, 8);
    assertEquals(device.limits.maxStorageBufferBindingSize, 128 << 20);
    for (
      const [profile, dtype, settings] of [
        [KVZ, "f16", {}],
        [KVZ, "f32", { sinks: 4, window: 16 }],
        [KVTC, "f16", { ratio: 8, window: 0 }],
        [KVTC, "f32", { ratio: 8, window: 40 }],
      ] as const
    ) {
      const codec = await openCodec(profile, { backend: "webgpu", device });
      const tokens = 600;
      const source = syntheticCache(tokens, { dtype, seed: 4 });
      const before = live();
      const record = ortRecord(source, device);
      const { model, inputIds } = source;
      const cache = fromGpuTensors(record, { model, inputIds });
      assertEquals([cache.tokens, cache.capacity, cache.dtype], [tokens, tokens, dtype]);
      const wanted = (await codec.compress(source, settings)).bytes;

      takeRead();
      const { bytes } = await codec.compress(cache, settings);
      const coding = takeRead();
      assertEquals(bytes, wanted);
      // Codes, sinks and window before DEFLATE, none of the elements beside: a tenth of them and less.
      assert(coding < 1.4 * bytes.length, `${coding} bytes were read for ${bytes.length}`);

      const restored = await decompressToGpuTensors(codec, bytes, { device, Tensor });
      const restoring = takeRead();
      assert(restoring < 5000, `${restoring} bytes were read`);
      assertEquals(Object.keys(restored.tensors).length, 6);
      assertEquals(restored.tensors["past_key_values.2.value"].dims, [1, 2, tokens, 6]);
      assertEquals(restored.cache.inputIds, inputIds);
      // The same buffers again, and the same file but for what was lost before.
      assertEquals(fromGpuTensors(restored.tensors, { model }).layers, restored.cache.layers);

      const host = (await codec.decompress(bytes)).cache;
      await codec.close();
      // They outlive the codec.
      requireEqual(await download({ ...restored.tensors }, model), host);
      for (const tensor of Object.values({ ...record, ...restored.tensors })) tensor.dispose();
      for (const tensor of Object.values(record)) tensor.dispose();
      assertEquals(live(), before, "buffers are left");
    }
    device.destroy();
  },
});

/** A DynamicCache as a WebGPU session of Transformers.js leaves it. */
const dynamicCache = (cache: KvCache, device: GPUDevice) =>
  new FakeDynamicCache(
    Object.fromEntries(
      Object.entries(ortRecord(cache, device)).map(([name, tensor]) => [name, FakeTensor.around(tensor)]),
    ),
  );

/** Bits of a restored cache. */
const read = (cache: FakeDynamicCache) => fromTransformersJs({ ...cache }, { model: SPEC });

Deno.test({
  name: "saveCache and restoreCache stay on the GPU, with a codec of theirs or one on the same device",
  ignore,
  async fn() {
    const { device, live, takeRead } = await openDevice();
    const transformers = {
      DynamicCache: FakeDynamicCache,
      Tensor: FakeTensor,
      env: { backends: { onnx: { webgpu: { device: Promise.resolve(device) } } } },
    };
    for (const dtype of ["f32", "f16"] as const) {
      const source = syntheticCache(150, { model: SPEC, dtype });
      const cache = dynamicCache(source, device);
      const before = live();
      const ids = [...source.inputIds!, 7];
      const settings = { model, inputIds: ids, ratio: 4, window: 20 };
      // onnxruntime's device is found where it is not given.
      const saved = await saveCache({ ...cache }, { ...settings, profile, backend: "webgpu", transformers });
      assertEquals([saved.report.backend, saved.report.place, saved.report.placeReason], ["webgpu", "gpu", undefined]);
      assert(Object.values(cache).every(({ location }) => location === "gpu-buffer"));
      assertEquals(live(), before);

      const codec = await openCodec(profile, { backend: "webgpu", device });
      takeRead();
      const again = await saveCache({ ...cache }, { ...settings, codec, device });
      assertEquals(again.bytes, saved.bytes);
      assertEquals(again.report.place, "gpu");
      const crossed = takeRead();
      assert(crossed < 1.4 * again.bytes.length, `${crossed} bytes were read for ${again.bytes.length}`);

      // By way of the host, from the same device: the same bytes, and said to be so.
      const lossy = { ...settings, codec, dtype: dtype === "f32" ? "f16" : "f32", device } as const;
      const { report } = await saveCache({ ...cache }, lossy);
      assertEquals([report.place, report.placeReason], ["host", `option "dtype" converts them to ${lossy.dtype}`]);

      const opened = await restoreCache(saved.bytes, { model, profile, backend: "webgpu", transformers });
      const given = await restoreCache(saved.bytes, { model, codec, transformers });
      const host = await restoreCache(saved.bytes, { model, codec, transformers, makeTensor: hostTensor });
      assertEquals([opened, given, host].map(({ report }) => report.place), ["gpu", "gpu", "host"]);
      await codec.close();
      for (const restored of [opened, given]) {
        assertEquals(restored.inputIds, Int32Array.from(ids));
        assertEquals(restored.generateInputs().past_key_values, restored.pastKeyValues);
        for (const { location, dims } of Object.values(restored.pastKeyValues)) {
          assertEquals([location, ...dims], ["gpu-buffer", 1, 2, 150, 8]);
        }
        const [found, wanted] = [await read(restored.pastKeyValues), await read(host.pastKeyValues)];
        assertEquals(found.dtype, dtype);
        requireEqual(found, wanted);
      }
      for (const past of [cache, opened.pastKeyValues, given.pastKeyValues]) {
        for (const tensor of Object.values(past)) tensor.dispose();
      }
      assertEquals(live(), 0);
    }
    device.destroy();
  },
});

const hostTensor = (type: string, data: ArrayBufferView, dims: number[]) => new FakeTensor(type, data, dims);

Deno.test({
  name: "where tensors on a GPU go through the host, the report says why",
  ignore,
  async fn() {
    const { device } = await openDevice();
    const { device: other } = await openDevice();
    const source = syntheticCache(60, { model: SPEC });
    const ways = async (options: Partial<Parameters<typeof saveCache>[1]>, cache = dynamicCache(source, device)) => {
      const { bytes, report } = await saveCache(
        { ...cache },
        { model, device, ...options } as Parameters<typeof saveCache>[1],
      );
      assertEquals(report.place, "host");
      const host = toTransformersJs(source, { makeTensor: hostTensor });
      const wanted = await saveCache(host, { model, ...options } as Parameters<typeof saveCache>[1]);
      assertEquals(bytes, wanted.bytes);
      assertEquals([wanted.report.place, wanted.report.placeReason], ["host", undefined]);
      return report.placeReason;
    };
    assertEquals(
      await ways({ profile, backend: "wasm" }),
      'the codec computes on wasm, not on their GPUDevice; open it with backend "webgpu" and theirs',
    );
    await using codec = await openCodec(profile, { backend: "webgpu", device });
    await using foreign = await openCodec(profile, { backend: "webgpu", device: other });
    assertEquals(
      await ways({ codec: foreign }),
      'the codec computes on another GPUDevice; open it with backend "webgpu" and theirs',
    );
    assertEquals(await ways({ codec, recipe: "lossless" }), "recipe lossless works on the host");
    assertEquals(await ways({ codec, lossless: true }), 'option "lossless" keeps every element');
    const mixed = dynamicCache(source, device);
    const host = toTransformersJs(source, { makeTensor: hostTensor });
    mixed["past_key_values.1.key"] = host["past_key_values.1.key"];
    assertEquals(await ways({ codec }, mixed), "past_key_values.1.key is not in a GPU buffer");

    const { bytes } = await codec.compress(source, { recipe: "lossless" });
    const transformers = { DynamicCache: FakeDynamicCache, Tensor: FakeTensor };
    const restored = await restoreCache(bytes, { model, codec, transformers, device });
    assertEquals(restored.report.placeReason, "recipe lossless works on the host");
    requireEqual(await read(restored.pastKeyValues), source);
    // No device, and none of onnxruntime's that the codec computes on.
    const none = {
      get device(): Promise<never> {
        return Promise.reject(new Error("no adapter"));
      },
    };
    for (const env of [{}, { webgpu: { device: other } }, { webgpu: none }]) {
      const { report } = await restoreCache(bytes, { model, codec, transformers: { ...transformers, env } });
      assertEquals(report.placeReason, 'the GPUDevice of the tensors is not known; pass option "device"');
    }
    device.destroy();
    other.destroy();
  },
});

Deno.test({
  name: "what cannot be compressed or restored on the GPU is refused by name, and nothing is left",
  ignore,
  async fn() {
    const { device, live } = await openDevice();
    const { device: other } = await openDevice();
    const source = syntheticCache(40, { model: SPEC });
    const record = () => ortRecord(source, device);
    const refuse = (
      change: (tensors: Record<string, FakeOrtTensor>) => void,
      type: new (...a: never[]) => Error,
      message: string,
      spec: ModelSpec = SPEC,
    ) => {
      const tensors = record();
      change(tensors);
      assertThrows(() => fromGpuTensors(tensors, { model: spec }), type, message);
    };
    const name = "past_key_values.1.value";
    const data = new Uint16Array(2 * 40 * 8);
    const put = (dims: number[], usage?: number, values = data) => (tensors: Record<string, FakeOrtTensor>) =>
      tensors[name] = onGpu(device, "float16", values, dims, usage);
    refuse((tensors) => tensors[name].dispose(), KvzUnsupportedError, `${name} is disposed`);
    refuse(
      (tensors) => tensors[name] = new FakeOrtTensor("float16", data, [1, 2, 40, 8]),
      KvzUnsupportedError,
      `${name} is at "cpu", expected "gpu-buffer"`,
    );
    refuse(put([1, 2, 40, 8], 0x84), KvzBackendError, "has usage 0x84, expected STORAGE, COPY_SRC and COPY_DST");
    refuse(put([1, 2, 40, 8], 0x8c, data.subarray(8)), KvzFormatError, "1264 bytes, expected 1280");
    refuse(put([1, 2, 39, 8]), KvzMismatchError, `${name} has shape [1, 2, 39, 8], expected [1, 2, 40, 8]`);
    refuse(put([2, 2, 40, 8]), KvzUnsupportedError, "a batch of 2 sequences");
    refuse((tensors) => delete tensors[name], KvzMismatchError, `the record lacks "${name}"`);
    refuse(
      (tensors) => tensors[name] = onGpu(device, "float32", new Float32Array(640), [1, 2, 40, 8]),
      KvzFormatError,
      "is float32, expected float16",
    );
    const adjacent = { ...SPEC, rope: { ...SPEC.rope!, pairing: "adjacent" as const } };
    refuse(() => {}, KvzUnsupportedError, "its keys pair adjacent elements", adjacent);
    const odd = { ...SPEC, keyDim: 7, valueDim: 7, rope: null };
    const seven = ortRecord(syntheticCache(8, { model: odd }), device);
    assertThrows(() => fromGpuTensors(seven, { model: odd }), KvzUnsupportedError, "has 14 bytes, no multiple of 4");

    await using codec = await openCodec(profile, { backend: "webgpu", device });
    const { bytes } = await codec.compress(source, { window: 8 });
    // Of another device, or freed behind our back: the codec says so, and goes on.
    const foreign = fromGpuTensors(ortRecord(source, other), { model: SPEC });
    await assertRejects(() => codec.compress(foreign), KvzBackendError, "WebGPU reports");
    const freed = record();
    const late = fromGpuTensors(freed, { model: SPEC });
    for (const tensor of Object.values(freed)) tensor.dispose();
    await assertRejects(() => codec.compress(late), KvzBackendError, "WebGPU reports");
    assertEquals((await codec.compress(source, { window: 8 })).bytes, bytes);

    const before = live();
    const restore = (input: Uint8Array, options = {}) =>
      decompressToGpuTensors(codec, input, { device, Tensor, ...options });
    await assertRejects(() => restore(bytes, { device: other }), KvzBackendError, "computes on another GPUDevice");
    await assertRejects(() => restore(bytes, { dtype: "bf16" }), KvzUnsupportedError, "bfloat16");
    await assertRejects(() => restore(bytes, { maxBytes: 100 }), KvzLimitError);
    await assertRejects(() => restore(bytes, { Tensor: class {} }), TypeError, "no fromGpuBuffer()");
    const damaged = bytes.slice();
    for (let at = 40; at < bytes.length; at += 331) {
      damaged[at] ^= 1;
      await assertRejects(() => restore(damaged), KvzFormatError);
      damaged[at] ^= 1;
    }
    await using host = await openCodec(profile, { backend: "wasm" });
    await assertRejects(
      () => decompressToGpuTensors(host, bytes, { device, Tensor }),
      KvzBackendError,
      "the codec computes on wasm",
    );
    const { tensors } = await restore(bytes);
    requireEqual(await fromTransformersJs({ ...tensors }, { model: SPEC }), (await codec.decompress(bytes)).cache);
    for (const tensor of Object.values(tensors)) tensor.dispose();
    // Beside what the codec keeps for itself, which does not grow.
    const kept = live();
    (await restore(bytes).then(({ tensors }) => Object.values(tensors))).forEach((tensor) => tensor.dispose());
    assertEquals(live(), kept);
    assert(kept >= before);
    device.destroy();
    other.destroy();
  },
});
