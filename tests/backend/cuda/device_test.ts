/** Copies, views, memory of the caller, events, and kernels that only the CUDA backend has. */
import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { packedLength, paddedLength, type QuantGroup } from "../../../src/backend/backend.ts";
import { CudaBackend } from "../../../src/backend/cuda/cuda_backend.ts";
import { CudaDevice } from "../../../src/backend/cuda/device.ts";
import { CudaRows } from "../../../src/backend/cuda/rows.ts";
import { fromFloat32, numberToF16 } from "../../../src/cache/elements.ts";
import type { DType } from "../../../src/cache/types.ts";
import { KvzBackendError } from "../../../src/errors.ts";
import { uniform, upload } from "../backends.ts";
import { testEmulated } from "./emulator.ts";
import { casesFor } from "../../cases.ts";

function bytes(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(length);
  for (let i = 0; i < length; i++) data[i] = seed = Math.imul(seed, 1664525) + 1013904223 >>> 8;
  return data;
}

function assertSameBytes(found: Uint8Array, wanted: Uint8Array): void {
  assertEquals(found.length, wanted.length);
  for (let i = 0; i < wanted.length; i++) if (found[i] !== wanted[i]) throw new Error(`byte ${i} differs`);
}

testEmulated(
  "bytes pass through the rings in pieces, small and large, whatever the device is at",
  { busy: 3 },
  async () => {
    using device = await CudaDevice.open();
    for (const length of [0, 1, 255, 2 ** 21, 2 ** 21 + 1, 2 ** 23 + 12345]) {
      const data = bytes(length, length);
      const buffer = device.alloc(length);
      device.write(buffer, data);
      const back = await device.read(buffer);
      assertEquals(back.length, length);
      assertEquals(back.findIndex((byte, i) => byte !== data[i]), -1);
      buffer.free();
    }
    const small = device.alloc(3_000_000);
    for (let i = 0; i < 30_000; i++) device.write(small, Uint8Array.of(i), i * 100);
    const back = await device.read(small);
    for (let i = 0; i < 30_000; i++) if (back[i * 100] !== (i & 255)) throw new Error(`write ${i} is lost`);
  },
);

testEmulated("reads see the memory of when they were asked for, side by side", { busy: 2 }, async () => {
  using device = await CudaDevice.open();
  const length = 9_000_000;
  const [one, two] = [bytes(length, 1), bytes(length, 2)];
  const buffer = device.alloc(length);
  device.write(buffer, one);
  const first = device.read(buffer);
  const part = device.read(buffer, 5, 10);
  device.write(buffer, two);
  const second = device.read(buffer);
  device.fill(buffer, 3);
  const third = device.read(buffer, length - 4);
  buffer.free();
  const results = await Promise.all([first, part, second, third]);
  assertSameBytes(results[0], one);
  assertEquals([...results[1]], [...one.subarray(5, 15)]);
  assertSameBytes(results[2], two);
  assertEquals([...results[3]], [3, 3, 3, 3]);
});

testEmulated("waiting leaves the event loop free", { busy: 2_000_000 }, async (emulator) => {
  using device = await CudaDevice.open();
  const buffer = device.alloc(4);
  let turns = 0;
  const timer = setInterval(() => {
    if (++turns === 3) emulator.set("busy", 0);
  }, 1);
  const reading = device.read(buffer);
  // Long after: events that were recorded as busy count down while they are asked.
  const other = setInterval(() => turns++, 1);
  await Promise.race([reading, new Promise((resolve) => setTimeout(resolve, 60))]);
  assert(turns > 5, `${turns} turns`);
  clearInterval(timer);
  clearInterval(other);
  device[Symbol.dispose]();
  await assertRejects(() => reading, KvzBackendError, "disposed");
});

testEmulated("memory of the caller is used where it lies, and never freed", {}, async (emulator) => {
  using owner = await CudaBackend.open();
  using backend = await CudaBackend.open();
  const theirs = upload(owner, Uint8Array.from({ length: 1024 }, (_, i) => i));
  const { memory } = backend.gpu;
  const shared = owner.gpu.memory!.memoryOf(theirs);
  const wrapped = memory!.wrap(shared, 256, 512);
  const before = emulator.count("buffers");
  assertEquals([...await backend.read(wrapped, 0, 2)], [0, 1]);
  assertEquals((await backend.read(backend.view(wrapped, 256, 16)))[3], 3);
  wrapped.free();
  assertEquals(emulator.count("buffers"), before);
  assertThrows(() => memory!.wrap(shared, 512, 513), RangeError);
  assertThrows(() => memory!.wrap({ pointer: 8n, byteLength: 4 }), RangeError, "a multiple of 16");
  assertThrows(() => memory!.wrap({ size: 4, usage: 0 }), KvzBackendError, "GPUBuffer");
});

testEmulated("events measure the time of what is enqueued between", {}, async () => {
  using device = await CudaDevice.open();
  const buffer = device.alloc(1 << 22);
  const milliseconds = await device.time(() => {
    for (let i = 0; i < 20; i++) device.fill(buffer, i);
  });
  assert(milliseconds > 0 && milliseconds < 10_000, `${milliseconds} ms`);
});

testEmulated("kernels are timed where it is asked for", {}, async () => {
  using backend = await CudaBackend.open(0, { timeKernels: true });
  const buffer = upload(backend, new Uint8Array(256).fill(0x38));
  const to = backend.alloc(1024);
  for (let i = 0; i < 3; i++) backend.decodeFp8(buffer, buffer, 1, 256, to);
  backend.gpu.memory!.findNonFinite(to, "f32", 256, buffer);
  const times = await backend.profile();
  assertEquals(times.map(({ kernel, calls }) => `${kernel} ${calls}`).sort(), [
    "elementwise.findNonFinite 1",
    "quantize.decodeFp8 3",
  ]);
  assert(times.every(({ nanoseconds }) => nanoseconds > 0));
  assertEquals(await backend.profile(), []);
  using other = await CudaBackend.open();
  await assertRejects(() => other.profile(), KvzBackendError, '"timeKernels"');
});

testEmulated("the first element that is no number is found, wherever it is", {}, async () => {
  using backend = await CudaBackend.open();
  const cases = fc.record({
    dtype: fc.constantFrom<DType>("f32", "f16", "bf16"),
    length: fc.integer({ min: 1, max: 5000 }),
    at: fc.array(fc.nat(6000), { maxLength: 4 }),
    value: fc.constantFrom(NaN, Infinity, -Infinity),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ dtype, length, at, value }) => {
      // Beyond the elements searched there may be anything.
      const values = new Float32Array(length + 16).fill(60000);
      values.fill(NaN, length);
      for (const i of at) values[i] = value;
      const src = upload(backend, fromFloat32(values, dtype));
      const found = backend.alloc(4);
      backend.gpu.memory!.findNonFinite(src, dtype, length, found);
      const [index] = new Uint32Array((await backend.read(found)).buffer);
      const wanted = values.subarray(0, length).findIndex((x) => !Number.isFinite(x));
      assertEquals(index, wanted < 0 ? 0xffffffff : wanted);
      src.free();
      found.free();
    }),
    { numRuns: casesFor(100) },
  );
});

testEmulated("gatherHalf is gather rounded to binary16", {}, async () => {
  using device = await CudaDevice.open();
  const rows = new CudaRows(device);
  for (const [blocks, tokens, dim, rotaryDim] of [[3, 5, 16, 16], [2, 40, 20, 8], [5, 3, 7, 4], [40, 9, 64, 0]]) {
    const shape = { dtype: "f16", blocks, tokens, dim, rotaryDim } as const;
    const length = tokens * paddedLength(blocks * dim);
    const put = (data: ArrayBufferView) => {
      const buffer = device.alloc(data.byteLength);
      device.write(buffer, data);
      return buffer;
    };
    const src = put(fromFloat32(uniform(blocks * tokens * dim, 1, 100), "f16"));
    const [table, mean] = [put(uniform(tokens * rotaryDim, 2)), put(uniform(blocks * dim, 3))];
    const [floats, halves] = [device.alloc(length * 4), device.alloc(length * 2)];
    rows.gather(src, shape, table, mean, floats);
    rows.gatherHalf(src, shape, table, mean, halves);
    const wanted = new Float32Array((await device.read(floats)).buffer);
    const found = new Uint16Array((await device.read(halves)).buffer);
    assertEquals(found.findIndex((bits, i) => bits !== numberToF16(wanted[i])), -1);
  }
});

testEmulated(
  "plans of groups wider than a slice, gaps, odd offsets, several tiles give what the reference gives",
  {},
  async () => {
    const { ReferenceBackend } = await import("../../../src/backend/reference/reference_backend.ts");
    const reference = new ReferenceBackend();
    using backend = await CudaBackend.open();
    const plans = [
      [{ first: 3, size: 1, type: 2 }, { first: 4, size: 5000, type: 1 }, { first: 9001, size: 70, type: 3 }],
      [{ first: 9000, size: 1, type: 3 }],
      [{ first: 0, size: 1024, type: 2 }, { first: 1024, size: 4096, type: 3 }, { first: 5121, size: 33, type: 1 }],
      [{ first: 0, size: 64, type: 1 }, { first: 64, size: 16, type: 2 }, { first: 80, size: 40, type: 3 }],
      [{ first: 0, size: 64, type: 1 }, { first: 66, size: 16, type: 2 }, { first: 90, size: 45, type: 3 }],
      Array.from({ length: 300 }, (_, g) => ({ first: g * 17 + 1, size: g % 17 + 1, type: g % 3 + 1 })),
    ] as const;
    for (const groups of plans) {
      const results: Uint8Array[][] = [];
      for (const one of [reference, backend]) {
        const plan = one.uploadPlan(groups as unknown as readonly QuantGroup[]);
        const { components } = plan;
        const [tokens, stride] = [components > 1000 ? 3 : 300, plan.components + 5];
        const x = upload(one, uniform(tokens * stride, groups.length, 7));
        const [symbols, params] = [one.alloc(tokens * plan.components), one.alloc(tokens * groups.length * 4)];
        one.quantize(x, stride, tokens, plan, symbols, params);
        one.dequantize(symbols, params, plan, tokens, x, stride);
        const packed = one.alloc(packedLength(plan.groups, tokens));
        one.pack(symbols, plan, tokens, packed);
        results.push(await Promise.all([symbols, x, params, packed].map((buffer) => one.read(buffer))));
        one.unpack(packed, plan, tokens, symbols);
        assertSameBytes(await one.read(symbols), results[0][0]);
        for (const it of [plan, x, symbols, params, packed]) it.free();
      }
      results[0].forEach((wanted, i) => assertSameBytes(results[1][i], wanted));
    }
  },
);
