/** The WebGPU backend's own ways: small limits, devices that are lost, memory of the caller's, errors, times. */
import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { findAdapter, openDevice } from "../../src/backend/webgpu/adapter.ts";
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import { type DeviceLimits, WebGpuDevice } from "../../src/backend/webgpu/device.ts";
import { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { KvzBackendError, KvzLimitError } from "../../src/errors.ts";
import { BACKENDS, uniform, upload } from "./backends.ts";
import { checkKernels } from "./kernel_suite.ts";

/** Registers a test where there is an adapter. */
function testWebGpu(name: string, test: () => Promise<void>): void {
  if (BACKENDS.some(([label]) => label === "webgpu")) Deno.test(`webgpu: ${name}`, test);
}

async function openWith(limits: Partial<DeviceLimits>): Promise<WebGpuBackend> {
  return new WebGpuBackend(new WebGpuDevice(await openDevice(await findAdapter()), { limits }));
}

const USAGE = { copySrc: 4, copyDst: 8, storage: 0x80 };
const SHARED = USAGE.copySrc | USAGE.copyDst | USAGE.storage;

async function plainDevice(): Promise<GPUDevice> {
  return await (await findAdapter()).requestDevice();
}

testWebGpu("every kernel is right where little can be bound and few workgroups run", async () => {
  using backend = await openWith({
    // The integer product takes 128 rows at once, 52 KiB in this suite; costs and limits of the trellis's tables are 64.1.
    maxStorageBufferBindingSize: 65 << 10,
    maxComputeWorkgroupsPerDimension: 40,
    minStorageBufferOffsetAlignment: 256,
  });
  const checked = await checkKernels(backend);
  assertEquals(checked.filter(({ difference }) => difference !== ""), []);
});

testWebGpu("a device of the default limits and no features does, and stays the caller's", async () => {
  const device = await plainDevice();
  {
    using backend = await createWebGpuBackend({ device });
    const checked = await checkKernels(backend);
    assertEquals(checked.filter(({ difference }) => difference !== ""), []);
  }
  const buffer = device.createBuffer({ size: 16, usage: SHARED });
  device.queue.writeBuffer(buffer, 0, Uint32Array.of(1));
  assertEquals(await Promise.race([device.lost, Promise.resolve("in use")]), "in use");
  device.destroy();
});

testWebGpu("what the device cannot hold or bind is a KvzLimitError", async () => {
  using backend = await openWith({ maxBufferSize: 1 << 20, maxStorageBufferBindingSize: 1 << 10 });
  assertThrows(() => backend.alloc((1 << 20) + 1), KvzLimitError, "at most 1048576");
  const [from, to] = [backend.alloc(1 << 16), backend.alloc(1 << 16)];
  const shape = { dtype: "f32", blocks: 1, tokens: 2, dim: 1000, rotaryDim: 0 } as const;
  assertThrows(() => backend.gather(from, shape, null, null, to), KvzLimitError, "row of 4000 bytes");
  assertThrows(() => backend.encodeFp8(from, 2, 1000, to, backend.alloc(4)), KvzLimitError, "4 rows of 4000 bytes");
  // A refused call leaves the backend in order.
  backend.write(to, Uint8Array.of(5));
  assertEquals([...await backend.read(to, 0, 1)], [5]);
});

testWebGpu("a lost device fails every later call, and a read under way; a new backend works", async () => {
  const device = await plainDevice();
  using backend = await createWebGpuBackend({ device });
  const buffer = upload(backend, uniform(1 << 20, 1));
  const copy = backend.alloc(buffer.byteLength);
  backend.copy(buffer, 0, copy, 0, buffer.byteLength);
  const reading = backend.read(copy);
  device.destroy();
  await assertRejects(() => reading, KvzBackendError, "lost");
  assertThrows(() => backend.alloc(16), KvzBackendError, "lost (destroyed");
  assertThrows(() => backend.write(buffer, Uint8Array.of(1)), KvzBackendError, "lost");
  assertThrows(() => backend.copy(buffer, 0, copy, 0, 16), KvzBackendError, "lost");
  await assertRejects(() => backend.read(buffer), KvzBackendError, "open it again");
  buffer.free();
  using again = await createWebGpuBackend();
  assertEquals([...await again.read(upload(again, Uint8Array.of(3)))], [3]);
});

testWebGpu("the caller's buffers are read and written where they lie", async () => {
  const device = await plainDevice();
  using backend = await createWebGpuBackend({ device });
  const { memory } = backend.gpu;
  const theirs = device.createBuffer({ size: 1024, usage: SHARED });
  device.queue.writeBuffer(theirs, 256, Float32Array.of(1, 2, 3, 4));
  const wrapped = memory!.wrap(theirs, 256, 32);
  assertEquals(new Float32Array((await backend.read(wrapped, 0, 16)).buffer), Float32Array.of(1, 2, 3, 4));
  backend.write(wrapped, Float32Array.of(5), 4);
  wrapped.free();
  // Freed as a buffer of kvz, it is still the caller's.
  assertEquals([...new Float32Array((await backend.read(memory!.wrap(theirs), 256, 8)).buffer)], [1, 5]);
  const ours = backend.alloc(64);
  assertEquals(memory!.memoryOf(ours), ours.gpuBuffer);
  theirs.destroy();
  device.destroy();
});

testWebGpu("buffers that cannot be shared are refused", async () => {
  const device = await plainDevice();
  using backend = await createWebGpuBackend({ device });
  const { memory } = backend.gpu;
  const plain = device.createBuffer({ size: 512, usage: USAGE.storage | USAGE.copyDst });
  assertThrows(() => memory!.wrap(plain), KvzBackendError, "its usage is 0x88");
  assertThrows(() => memory!.wrap({ pointer: 0n, byteLength: 8 }), KvzBackendError, "CUDA");
  const good = device.createBuffer({ size: 520, usage: SHARED });
  for (const [offset, length] of [[16, 16], [-256, 16], [256, 500], [512, 8], [0, 520], [0, 0.5]]) {
    assertThrows(() => memory!.wrap(good, offset, length), RangeError, "wrap");
  }
  memory!.wrap(good, 512, 0);
  using other = await createWebGpuBackend();
  assertThrows(() => other.write(backend.alloc(16), new Uint8Array(4)), KvzBackendError, "another backend");
  // Only WebGPU knows whose buffer it is: it says so at the next read.
  const foreign = other.gpu.memory!.wrap(good, 0, 256);
  const to = upload(other, new Uint8Array(256).fill(7));
  other.copy(foreign, 0, to, 0, 256);
  const error = await assertRejects(() => other.read(to), KvzBackendError);
  assert(error.message.startsWith("Cannot run copy: WebGPU reports"), error.message);
  // Nothing of the refused batch was done, and the backend goes on.
  assertEquals(new Set(await other.read(to)), new Set([7]));
  device.destroy();
});

testWebGpu("the first element that is not finite is found", async () => {
  using backend = await createWebGpuBackend();
  const found = backend.alloc(4);
  const find = async (words: ArrayBufferView, dtype: "f32" | "f16" | "bf16", elements: number) => {
    backend.gpu.memory!.findNonFinite(upload(backend, words), dtype, elements, found);
    return new Uint32Array((await backend.read(found)).buffer)[0];
  };
  const floats = uniform(5000, 1);
  assertEquals(await find(floats, "f32", 5000), 0xffffffff);
  floats[4711] = Infinity;
  floats[4712] = NaN;
  assertEquals(await find(floats, "f32", 5000), 4711);
  assertEquals(await find(floats, "f32", 4711), 0xffffffff);
  for (const [dtype, bad, fine] of [["f16", 0xfc01, 0x7bff], ["bf16", 0x7f80, 0xff7f]] as const) {
    for (const at of [0, 1, 2000, 3001]) {
      const halves = new Uint16Array(3003).fill(fine);
      assertEquals(await find(halves, dtype, 3003), 0xffffffff);
      halves[at] = bad;
      assertEquals(await find(halves, dtype, 3003), at);
      assertEquals(await find(halves, dtype, at), 0xffffffff);
    }
  }
});

testWebGpu("kernels are timed where that is asked for", async () => {
  using plain = await createWebGpuBackend();
  await assertRejects(() => plain.profile(), KvzBackendError, "timeKernels");
  const device = await plainDevice();
  await assertRejects(() => createWebGpuBackend({ device, timeKernels: true }), KvzBackendError, "timestamp-query");
  device.destroy();
  using backend = await createWebGpuBackend({ timeKernels: true });
  const [from, to] = [upload(backend, uniform(1 << 16, 1)), backend.alloc(1 << 18)];
  const shape = { dtype: "f32", blocks: 16, tokens: 64, dim: 64, rotaryDim: 0 } as const;
  for (let i = 0; i < 150; i++) backend.gather(from, shape, null, null, to);
  backend.copy(from, 0, to, 0, 16);
  const [time, ...others] = await backend.profile();
  assertEquals([time.kernel, time.calls, others.length], ["gather.gather", 150, 0]);
  assert(time.nanoseconds > 0);
  assertEquals(await backend.profile(), []);
});

testWebGpu("thousands of calls leave nothing behind", async () => {
  using backend = await createWebGpuBackend();
  const plan = backend.uploadPlan([{ first: 0, size: 16, type: 2 }]);
  const before = backend.bytesInUse;
  for (let i = 0; i < 2000; i++) {
    const buffers = [1024, 256, 64].map((bytes) => backend.alloc(bytes));
    const [x, symbols, params] = buffers;
    backend.write(x, Float32Array.of(i));
    backend.quantize(x, 16, 16, plan, symbols, params);
    if (i % 500 === 0) await backend.read(symbols);
    for (const buffer of buffers) buffer.free();
  }
  assertEquals(backend.bytesInUse, before);
});
