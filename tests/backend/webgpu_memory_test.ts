/** The WebGPU backend when the device has no memory left, on a device that says so of buffers beyond a size. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import { type BackendOptions, createBackend } from "../../src/backend/select.ts";
import { findAdapter, openDevice } from "../../src/backend/webgpu/adapter.ts";
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import { WebGpuDevice } from "../../src/backend/webgpu/device.ts";
import { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { KvzBackendError, KvzLimitError } from "../../src/errors.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { BACKENDS } from "./backends.ts";
import { SmallDevice } from "./small_device.ts";

/** Registers a test where there is an adapter. */
function testWebGpu(name: string, test: () => Promise<void>): void {
  if (BACKENDS.some(([label]) => label === "webgpu")) Deno.test(`webgpu: ${name}`, test);
}

testWebGpu("a buffer that there is no memory for is told at the next read, and not given out again", async () => {
  const small = await SmallDevice.open();
  using backend = await createWebGpuBackend({ device: small.device });
  backend.alloc(4096).free();
  small.most = 4097;
  const [missing, other] = [backend.alloc(1 << 16), backend.alloc(16)];
  backend.write(missing, new Uint8Array(16));
  const error = await assertRejects(() => backend.read(missing, 0, 16), KvzBackendError);
  assertEquals(error.message, "Cannot allocate 65536 bytes: WebGPU reports: no 65536 bytes left");
  // What was kept for later is given up: another try may succeed.
  assertEquals(backend.bytesInUse, other.byteLength);
  await assertRejects(() => backend.read(missing, 0, 16), KvzBackendError);
  missing.free();
  other.free();
  assertEquals(backend.bytesInUse, 0);
  small.most = Infinity;
  for (let i = 0; i < 3; i++) {
    const again = backend.alloc(1 << 16);
    backend.write(again, Uint8Array.of(i + 1, 0, 0, 0));
    assertEquals((await backend.read(again, 0, 1))[0], i + 1);
    again.free();
  }
});

testWebGpu("an error is told by every read that came after what made it", async () => {
  const small = await SmallDevice.open();
  using backend = await createWebGpuBackend({ device: small.device });
  const [one, two] = [backend.alloc(16), backend.alloc(16)];
  small.most = 8192;
  const before = backend.read(one);
  const missing = backend.alloc(8192);
  const after = [one, two, missing].map((buffer) => backend.read(buffer, 0, 4));
  assertEquals((await before).length, 16);
  for (const result of await Promise.allSettled(after)) assertEquals(result.status, "rejected");
  assertEquals((await backend.read(two)).length, 16);
});

testWebGpu("kept buffers are given up where memory is short", async () => {
  const small = await SmallDevice.open();
  using backend = await createWebGpuBackend({ device: small.device });
  for (const size of [1 << 20, 2 << 20, 3 << 20]) backend.alloc(size).free();
  assertEquals(small.held, 6 << 20);
  small.most = 4 << 20;
  const missing = backend.alloc(5 << 20);
  await assertRejects(() => backend.read(missing, 0, 4), KvzBackendError, "no 5242880 bytes left");
  assert(small.held < 1 << 20, `${small.held} bytes held`);
});

testWebGpu("freed buffers are kept up to a limit, whether anything was computed or not", async () => {
  const small = await SmallDevice.open();
  using backend = await createWebGpuBackend({ device: small.device });
  for (let i = 0; i < 30; i++) backend.alloc((16 << 20) + 16 * i).free();
  assert(small.held <= 256 << 20, `${small.held} bytes held`);
  // Those of commands that are not submitted yet stay until they are.
  const kept = backend.alloc(16);
  for (let i = 0; i < 30; i++) {
    const buffer = backend.alloc((17 << 20) + 16 * i);
    backend.copy(buffer, 0, kept, 0, 16);
    buffer.free();
  }
  await backend.read(kept);
  assert(small.held <= 260 << 20, `${small.held} bytes held`);
});

testWebGpu("a codec goes on in wasm where the device's buffers are too small for it", async () => {
  const cache = syntheticCache(300);
  const open = async (options: BackendOptions) => {
    if (options.backend === "wasm") return await createBackend(options);
    const limits = { maxBufferSize: 1 << 13 };
    return new WebGpuBackend(new WebGpuDevice(await openDevice(await findAdapter()), { limits }));
  };
  await using codec = new Codec(PROFILES[0], await Lanes.open({}, open));
  const { report } = await codec.compress(cache);
  assertEquals(report.backend, "wasm");
  assertStringIncludes(report.fallback!, "buffers of this WebGPU device have at most 8192");
  // By its name it is not replaced.
  await using named = new Codec(PROFILES[0], await Lanes.open({ backend: "webgpu" }, open));
  await assertRejects(() => named.compress(cache), KvzLimitError, "at most 8192");
});

const PROFILES = [syntheticProfile(), await smallKvzProfile()];
for (const profile of PROFILES) {
  testWebGpu(`recipe ${profile.method} goes on in wasm where memory is short, and holds nothing`, async () => {
    const cache = syntheticCache(300);
    const largest = { kvtc: 1 << 13, kvz: 1 << 15 }[profile.method as "kvtc" | "kvz"];
    for (const whole of [false, true]) {
      const small = await SmallDevice.open();
      const open = (options: BackendOptions) =>
        options.backend === "wasm" ? createBackend(options) : createWebGpuBackend({ device: small.device });
      const codec = new Codec({ ...profile }, await Lanes.open({}, open));
      if (!whole) small.most = largest;
      const { bytes, report } = await codec.compress(cache);
      assertEquals(report.backend, whole ? "webgpu" : "wasm");
      small.most = largest;
      const back = await codec.decompress(bytes);
      assertEquals([back.report.backend, back.cache.tokens], ["wasm", 300]);
      assertStringIncludes(back.report.fallback!, "bytes left");
      assertEquals(small.held, 0);
      await codec.close();
      small.device.destroy();
    }
  });
}
