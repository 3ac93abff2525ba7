/**
 * Tensors on a device that binds far less than the cache has, as one of default limits (128 MiB) does of a long one's:
 * the same files and elements. Recipe kvz needs 1 MiB for its decoder's tables.
 */
import { assert, assertEquals } from "deno-std/assert";
import { fromTransformersJs } from "../../src/adapters/transformers_js.ts";
import { findWebGpu } from "../../src/backend/webgpu/create.ts";
import { WebGpuDevice } from "../../src/backend/webgpu/device.ts";
import { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { decompressToGpuTensors, fromGpuTensors } from "../../gpu.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { openDevice, ortRecord, Tensor } from "./gpu_records.ts";

const TOKENS = 3000;
const { adapter, reason } = await findWebGpu();
if (adapter === null) console.error(`Tests of limits of WebGPU are left out: ${reason}`);

const CASES = [["kvz", await smallKvzProfile(), 1 << 20], ["kvtc", syntheticProfile(), 1 << 16]] as const;
for (const [name, profile, few] of CASES) {
  Deno.test({
    name: `${name}: a device that binds ${few} bytes gives the same files and tensors`,
    ignore: adapter === null && !(Deno.env.get("KVZ_REQUIRE") ?? "").includes("webgpu"),
    async fn() {
      const { device } = await openDevice();
      const source = syntheticCache(TOKENS, { dtype: "f32" });
      const { model } = source;
      const record = ortRecord(source, device);
      assert(TOKENS * 3 * 2 * 16 * 4 > few);
      const results = [];
      for (const limits of [{}, { maxStorageBufferBindingSize: few }]) {
        const open = () => {
          const opened = { device, adapter: "", own: false, subgroups: false };
          return Promise.resolve(new WebGpuBackend(new WebGpuDevice(opened, { limits })));
        };
        await using codec = new Codec(profile, await Lanes.open({}, open));
        const { bytes } = await codec.compress(fromGpuTensors(record, { model }));
        const { tensors } = await decompressToGpuTensors(codec, bytes, { device, Tensor });
        results.push({ bytes, cache: await fromTransformersJs({ ...tensors }, { model }) });
      }
      const [whole, parts] = results;
      assertEquals(parts.bytes, whole.bytes);
      assert(parts.cache.equals(whole.cache));
      device.destroy();
    },
  });
}
