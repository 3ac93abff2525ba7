/** A GPU that "auto" takes but that fails is replaced by wasm, the work is done again there, and the report says so. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import type { DeviceBuffer } from "../../src/backend/backend.ts";
import type { GpuKernels } from "../../src/backend/gpu/kernels.ts";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";
import { type BackendOptions, createBackend, listBackends } from "../../src/backend/select.ts";
import { Codec } from "../../src/codec/codec.ts";
import { InlineLane } from "../../src/codec/lane.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzBackendError } from "../../src/errors.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const profile = syntheticProfile();
const kvzProfile = await smallKvzProfile();
const cache = syntheticCache(700);

/** The reference posing as a GPU that is lost after some reads. */
class FailingGpu extends ReferenceBackend {
  override readonly gpu = { memory: null, entropy: null, integer: null, trellis: null } as GpuKernels & null;
  #reads: number;
  disposed = false;
  constructor(reads: number) {
    super();
    this.#reads = reads;
  }
  lose(): void {
    this.#reads = 0;
  }
  override async read(src: DeviceBuffer, byteOffset?: number, byteLength?: number): Promise<Uint8Array> {
    if (this.#reads-- <= 0) throw new KvzBackendError("Cannot use the test backend: its device is lost");
    return await super.read(src, byteOffset, byteLength);
  }
  override [Symbol.dispose](): void {
    this.disposed = true;
    super[Symbol.dispose]();
  }
}

async function openFailing(reads: number, options: BackendOptions = {}): Promise<Codec> {
  const open = (wanted: BackendOptions) =>
    wanted.backend === "wasm" ? createBackend(wanted) : Promise.resolve(new FailingGpu(reads));
  return new Codec(profile, await Lanes.open({ ...options }, open));
}

Deno.test("a device lost in mid-call is replaced by wasm, with the bytes and figures of wasm", async () => {
  await using host = await openCodec(profile, { backend: "wasm" });
  const wanted = await host.compress(cache);
  for (const reads of [0, 1, 3]) {
    await using codec = await openFailing(reads);
    assertEquals([codec.info.backend, codec.info.fallback], ["reference", undefined]);
    const { bytes, report } = await codec.compress(cache);
    assertEquals([report.backend, report.build], ["wasm", "relaxed"]);
    assertStringIncludes(report.fallback!, "its device is lost");
    assertEquals(codec.info.fallback, report.fallback);
    const back = await codec.decompress(bytes);
    assertEquals(back.cache.tokens, cache.tokens);
    assertEquals(back.report.fallback, report.fallback);
    if (reads === 0) assertEquals(bytes, wanted.bytes);
  }
});

Deno.test("recipe kvz: a device lost in planning, encoding or decoding is replaced by wasm", async () => {
  const part = cache.slice(0, 300);
  await using host = await openCodec(kvzProfile, { backend: "wasm" });
  const wanted = await host.compress(part);
  // The lane's backend is opened first, then that of the planning; null: it holds until the file is there.
  for (const [lane, planning] of [[null, 0], [null, 3], [0, Infinity], [1, Infinity], [null, Infinity]]) {
    const devices: FailingGpu[] = [];
    const open = (options: BackendOptions) => {
      if (options.backend === "wasm") return createBackend(options);
      devices.push(new FailingGpu(devices.length === 0 ? lane ?? Infinity : planning!));
      return Promise.resolve(devices.at(-1)!);
    };
    await using codec = new Codec({ ...kvzProfile }, await Lanes.open({}, open));
    const { bytes, report } = await codec.compress(part);
    const lost = lane !== null || planning !== Infinity;
    assertEquals([report.backend, report.fallback !== undefined], [lost ? "wasm" : "reference", lost]);
    if (lost) assertStringIncludes(report.fallback!, "its device is lost");
    if (planning === 0) assertEquals(bytes, wanted.bytes);
    if (!lost) devices[0].lose();
    const back = await codec.decompress(bytes);
    assertEquals([back.cache.tokens, back.report.backend], [300, "wasm"]);
    assertStringIncludes(back.report.fallback!, "its device is lost");
    // It stays on wasm, the planning of other settings as well.
    assertEquals((await codec.compress(part, { step: 0.01 })).report.backend, "wasm");
    assert(devices.every(({ disposed }) => disposed));
  }
});

Deno.test("recipe kvz: planning that failed is done anew, by another codec of the profile too", async () => {
  const shared = { ...kvzProfile };
  const part = cache.slice(0, 300);
  const open = () => Promise.resolve(new FailingGpu(0));
  await using failing = new Codec(shared, await Lanes.open({ backend: "webgpu" }, open));
  await using host = await openCodec(shared, { backend: "wasm" });
  // Side by side: what fails in one is not the other's error.
  const first = failing.compress(part);
  const second = host.compress(part);
  await assertRejects(() => first, KvzBackendError, "its device is lost");
  assertEquals((await second).report.fallback, undefined);
  await assertRejects(() => failing.compress(part, { step: 0.01 }), KvzBackendError, "its device is lost");
  assertEquals((await host.compress(part)).report.backend, "wasm");
});

Deno.test("what a backend gave while it failed is computed anew", async () => {
  const lane = new InlineLane(new FailingGpu(0), () => createBackend({ backend: "wasm" }));
  let open = () => {};
  const gate = new Promise<void>((resolve) => open = resolve);
  const begun: string[] = [];
  const slow = lane.attempt(async () => {
    begun.push(lane.info.backend);
    await gate;
    return lane.info.backend;
  });
  const failing = lane.attempt(async () => {
    if (lane.info.backend === "reference") await lane.backend.read(lane.backend.alloc(4));
    return "done";
  });
  await Promise.resolve().then(open);
  assertEquals(await Promise.all([slow, failing]), ["wasm", "done"]);
  assertEquals(begun, ["reference", "wasm"]);
  lane.close();
});

Deno.test("a GPU asked for by name is not replaced", async () => {
  await using codec = await openFailing(0, { backend: "webgpu" });
  await assertRejects(() => codec.compress(cache), KvzBackendError, "its device is lost");
  assertEquals(codec.info.fallback, undefined);
});

Deno.test("what is no device of WebGPU is refused", async () => {
  for (const device of [{}, null, "0", { lost: Promise.resolve(), queue: {} }]) {
    for (const backend of ["auto", "webgpu"] as const) {
      const options = { backend, device } as unknown as BackendOptions;
      await assertRejects(() => openCodec(profile, options), KvzBackendError, "expected a GPUDevice");
    }
  }
});

Deno.test("several threads take no GPU", async () => {
  await using codec = await openCodec(profile, { threads: 2 });
  assertEquals(codec.info.backend, "wasm");
  for (const backend of ["webgpu", "cuda"] as const) {
    await assertRejects(() => openCodec(profile, { threads: 2, backend }), RangeError, "expected 1 with a GPU");
  }
});

/** Runs with another navigator.gpu. */
async function withGpu(gpu: object, run: () => Promise<void>): Promise<void> {
  Object.defineProperty(navigator, "gpu", { configurable: true, value: gpu });
  try {
    await run();
  } finally {
    Reflect.deleteProperty(navigator, "gpu");
  }
}

/** An adapter by another name. */
function renamed(adapter: GPUAdapter, requestDevice: () => Promise<GPUDevice>): object {
  const { limits, features } = adapter;
  return { limits, features, info: { description: "Fast GPU" }, requestDevice };
}

Deno.test("an adapter without a device, and a device that is lost", async (test) => {
  // Where there is CUDA, it comes first.
  if ((await listBackends()).some(({ name, reason }) => name === "cuda" && reason.startsWith("used"))) return;
  const { gpu } = navigator;
  const adapter = await gpu?.requestAdapter();
  const named = (requestDevice: () => Promise<GPUDevice>) => {
    const limits = {} as GPUSupportedLimits;
    const features = new Set() as unknown as GPUSupportedFeatures;
    const it = renamed(adapter ?? { limits, features } as GPUAdapter, requestDevice);
    return { requestAdapter: () => Promise.resolve(it) };
  };
  await test.step("the codec says at opening that wasm stands in", async () => {
    await withGpu(named(() => Promise.reject(new Error("no memory left"))), async () => {
      await using codec = await openCodec(profile);
      assertEquals(codec.info.backend, "wasm");
      assertStringIncludes(codec.info.fallback!, "no memory left");
      await assertRejects(() => openCodec(profile, { backend: "webgpu" }), KvzBackendError, "no memory left");
    });
  });
  await test.step("looking for an adapter fails", async () => {
    const rejecting = { requestAdapter: () => Promise.reject(new Error("driver crashed")) };
    await withGpu(rejecting, async () => {
      for (let i = 0; i < 2; i++) {
        await using codec = await openCodec(profile);
        assertEquals(codec.info.backend, "wasm");
        assertStringIncludes(codec.info.fallback!, "Cannot use the webgpu backend: its runtime finds no adapter");
        assertStringIncludes(codec.info.fallback!, "driver crashed");
      }
      await assertRejects(() => openCodec(profile, { backend: "webgpu" }), KvzBackendError, "driver crashed");
      const listed = (await listBackends()).find(({ name }) => name === "webgpu")!;
      assertEquals(listed.available, false);
      assertStringIncludes(listed.reason, "driver crashed");
    });
  });
  if (!adapter) return;
  await test.step("a real device goes while the codec works", async () => {
    const device = await adapter.requestDevice();
    await withGpu(named(() => Promise.resolve(device)), async () => {
      await using codec = await openCodec(profile);
      assertEquals([codec.info.backend, codec.info.fallback], ["webgpu", undefined]);
      const first = codec.compress(cache);
      device.destroy();
      const { report } = await first;
      assertEquals(report.backend, "wasm");
      assertStringIncludes(report.fallback!, "lost");
    });
  });
});
