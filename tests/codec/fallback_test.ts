/** A GPU that "auto" takes but that fails is replaced by wasm, the work is done again there, and the report says so. */
import { assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import type { DeviceBuffer } from "../../src/backend/backend.ts";
import type { GpuKernels } from "../../src/backend/gpu/kernels.ts";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";
import { type BackendOptions, createBackend, listBackends } from "../../src/backend/select.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzBackendError } from "../../src/errors.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

const profile = syntheticProfile();
const cache = syntheticCache(700);

/** The reference posing as a GPU that is lost after some reads. */
class FailingGpu extends ReferenceBackend {
  override readonly gpu = { memory: null, entropy: null, integer: null, trellis: null } as GpuKernels & null;
  #reads: number;
  constructor(reads: number) {
    super();
    this.#reads = reads;
  }
  override async read(src: DeviceBuffer, byteOffset?: number, byteLength?: number): Promise<Uint8Array> {
    if (this.#reads-- === 0) throw new KvzBackendError("Cannot use the test backend: its device is lost");
    return await super.read(src, byteOffset, byteLength);
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

Deno.test("a GPU asked for by name is not replaced", async () => {
  await using codec = await openFailing(0, { backend: "webgpu" });
  await assertRejects(() => codec.compress(cache), KvzBackendError, "its device is lost");
  assertEquals(codec.info.fallback, undefined);
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
