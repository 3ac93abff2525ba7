/** The CUDA backend when things go wrong, and that it gives everything back. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "deno-std/assert";
import type { Backend } from "../../../src/backend/backend.ts";
import { CudaBackend } from "../../../src/backend/cuda/cuda_backend.ts";
import { CudaDevice } from "../../../src/backend/cuda/device.ts";
import { loadTexts } from "../../../src/backend/cuda/modules.ts";
import { createBackend } from "../../../src/backend/select.ts";
import { KvzBackendError } from "../../../src/errors.ts";
import { upload } from "../backends.ts";
import { testEmulated } from "./emulator.ts";

function open(): Promise<Backend> {
  return createBackend({ backend: "cuda" });
}

/** Some kernel. */
function fp8(backend: Backend): () => void {
  const [src, codes, scales] = [upload(backend, new Float32Array(64).fill(1)), backend.alloc(64), backend.alloc(2)];
  return () => backend.encodeFp8(src, 1, 64, codes, scales);
}

testEmulated("a module that is damaged is refused by name", {}, async () => {
  const texts = new Map(await loadTexts());
  texts.set("quantize", texts.get("quantize")!.slice(100));
  using backend = new CudaBackend(await CudaDevice.open(0, { texts }));
  const error = assertThrows(fp8(backend), KvzBackendError);
  assertStringIncludes(error.message, "load kernels quantize");
  assertStringIncludes(error.message, "CUDA_ERROR_INVALID_PTX (218)");
  // The rest goes on.
  const buffer = upload(backend, Uint8Array.of(1, 2, 3));
  assertEquals([...await backend.read(buffer)], [1, 2, 3]);
});

testEmulated("refused modules leave nothing behind while the device is open", {}, async (emulator) => {
  const texts = new Map(await loadTexts());
  texts.set("quantize", texts.get("quantize")!.slice(100));
  using backend = new CudaBackend(await CudaDevice.open(0, { texts }));
  const run = fp8(backend);
  const before = emulator.count("objects");
  for (let i = 0; i < 5; i++) assertThrows(run, KvzBackendError, "load kernels quantize");
  assertEquals(emulator.count("objects"), before);
});

testEmulated("without pools of memory, though the device names them, it comes from the device itself", {
  poolError: 801,
}, async () => {
  using backend = await open();
  const buffer = upload(backend, Uint8Array.of(1, 2, 3));
  assertEquals([...await backend.read(buffer)], [1, 2, 3]);
  buffer.free();
});

testEmulated("a pool that cannot be made is an error that leaves nothing open", { poolError: 2 }, async (emulator) => {
  for (let i = 0; i < 3; i++) {
    await assertRejects(open, KvzBackendError, "Cannot make a memory pool on the cuda backend: CUDA_ERROR_OUT_OF_MEM");
    assertEquals(emulator.count("objects"), 0);
  }
});

testEmulated("a kernel or module that is not there is refused by name", {}, async () => {
  using device = await CudaDevice.open();
  const one = { grid: [1, 1, 1], block: [1, 1, 1] } as const;
  assertThrows(() => device.launch("quantize", "nothing", one, []), KvzBackendError, "find kernel nothing");
  assertThrows(() => device.launch("nothing", "pack", one, []), KvzBackendError, "module nothing");
  assertThrows(
    () => device.launch("quantize", "pack", { grid: [1, 70000, 1], block: [1, 1, 1] }, []),
    KvzBackendError,
    "launch kernel pack of 1 × 70000 × 1 blocks on the cuda backend: CUDA_ERROR_INVALID_VALUE (1)",
  );
});

testEmulated("a device that is lost says so in every call, and disposing of it ends well", {}, async (emulator) => {
  const backend = await open();
  const run = fp8(backend);
  const buffer = upload(backend, new Uint8Array(64));
  run();
  emulator.set("failAfter", 1);
  run();
  const pending = backend.read(buffer);
  run();
  const error = await assertRejects(() => backend.read(buffer), KvzBackendError);
  assertStringIncludes(error.message, "the device was lost by CUDA_ERROR_ILLEGAL_ADDRESS (700)");
  // Read before the fault: it may come either way, but it comes.
  await pending.catch((error) => assert(error instanceof KvzBackendError));
  for (const call of [run, () => backend.alloc(8), () => backend.write(buffer, new Uint8Array(1))]) {
    assertThrows(call, KvzBackendError, "start the process anew");
  }
  buffer.free();
  backend[Symbol.dispose]();
  assertThrows(() => backend.alloc(8), KvzBackendError, "disposed");
  // The next one is as good as new.
  using next = await open();
  assertEquals((await next.read(upload(next, Uint8Array.of(9))))[0], 9);
});

testEmulated("a kernel that reaches outside of its buffers loses the device", {}, async () => {
  const device = await CudaDevice.open();
  const small = device.alloc(16);
  const args = [small, { u32: 1 << 20 }, { u32: 1 << 12 }, small];
  device.launch("quantize", "decodeFp8", { grid: [1, 1, 1], block: [256, 1, 1] }, [small, ...args]);
  const error = await assertRejects(() => device.read(small), KvzBackendError);
  assertStringIncludes(error.message, "lost by CUDA_ERROR_ILLEGAL_ADDRESS (700)");
  device[Symbol.dispose]();
});

testEmulated("memory that there is not is refused with what is free", { memory: 1 << 20 }, async () => {
  using backend = await open();
  const half = backend.alloc(1 << 19);
  const error = assertThrows(() => backend.alloc(1 << 20), KvzBackendError);
  assertStringIncludes(error.message, "Cannot allocate 1048576 bytes on cuda device 0: 524288 of its 1048576 bytes");
  half.free();
  backend.alloc(1 << 20).free();
  for (const length of [-1, 0.5, NaN]) assertThrows(() => backend.alloc(length), RangeError);
});

testEmulated("what was freed or is of another device is refused", {}, async () => {
  using backend = await open();
  using other = await open();
  const [mine, theirs] = [upload(backend, new Uint8Array(512)), upload(other, new Uint8Array(512))];
  const part = backend.view(mine, 256, 256);
  const rows = (from: typeof mine) => () => backend.decodeFp8(from, mine, 1, 16, mine);
  assertThrows(rows(theirs), KvzBackendError, "another backend");
  assertThrows(() => backend.copy(mine, 0, theirs, 0, 16), KvzBackendError, "another backend");
  const plan = other.uploadPlan([{ first: 0, size: 4, type: 3 }]);
  assertThrows(() => backend.quantize(mine, 4, 1, plan, mine, mine), KvzBackendError, "another backend");
  mine.free();
  mine.free();
  assertThrows(() => backend.write(part, new Uint8Array(1)), KvzBackendError, "freed");
  await assertRejects(() => backend.read(part), KvzBackendError, "freed");
});

testEmulated("a read of memory that is not there fails alone", {}, async () => {
  const backend = await CudaBackend.open();
  const wrapped = backend.gpu.memory!.wrap({ pointer: 0x1000n, byteLength: 64 });
  const mine = upload(backend, new Uint8Array(9_000_000).fill(7));
  // Before it, after it, and longer than the ring.
  const results = await Promise.allSettled([mine, wrapped, mine, wrapped].map((buffer) => backend.read(buffer)));
  const outcomes = results.map((result) =>
    result.status === "fulfilled"
      ? `${result.value.findIndex((byte) => byte !== 7)}`
      : `${result.reason.name}: ${result.reason.message}`
  );
  const refused = "KvzBackendError: Cannot read on the cuda backend: CUDA_ERROR_INVALID_VALUE (1)";
  assertEquals(outcomes.map((outcome) => outcome.slice(0, refused.length)), ["-1", refused, "-1", refused]);
  await assertRejects(() => backend.read(wrapped), KvzBackendError, "CUDA_ERROR_INVALID_VALUE (1)");
  backend.write(mine, Uint8Array.of(8));
  fp8(backend)();
  assertEquals([...await backend.read(mine, 0, 2)], [8, 7]);
  mine.free();
  backend[Symbol.dispose]();
});

testEmulated("10,000 calls leave the memory in use as it was", {}, async (emulator) => {
  using backend = await open();
  const run = fp8(backend);
  const buffer = upload(backend, new Uint8Array(64));
  run();
  await backend.read(buffer);
  const counts = () => [emulator.count("bytes"), emulator.count("buffers"), emulator.count("objects")];
  const before = counts();
  for (let i = 0; i < 10_000; i++) {
    run();
    if (i % 100 === 0) {
      const plan = backend.uploadPlan([{ first: 0, size: 16, type: 1 }]);
      const extra = upload(backend, new Uint8Array(i));
      await backend.read(buffer);
      extra.free();
      plan.free();
    }
  }
  assertEquals(counts(), before);
});

testEmulated("a disposed backend is refused, twice disposed of or not; what waits for it ends", {}, async () => {
  for (const length of [0, 8, 9_000_000]) {
    const backend = await CudaBackend.open(0, { timeKernels: true });
    const buffer = backend.alloc(length);
    fp8(backend)();
    const waiting = [backend.read(buffer), backend.read(buffer), backend.profile(), backend.device.time(fp8(backend))];
    backend[Symbol.dispose]();
    backend[Symbol.dispose]();
    for (const result of await Promise.allSettled(waiting)) {
      if (result.status === "rejected") assert(result.reason instanceof KvzBackendError, `${result.reason}`);
    }
    buffer.free();
    assertThrows(() => backend.alloc(8), KvzBackendError, "disposed");
    await assertRejects(() => backend.read(buffer), KvzBackendError);
  }
});
