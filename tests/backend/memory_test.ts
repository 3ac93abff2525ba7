import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { KvzBackendError, KvzLimitError } from "../../src/errors.ts";
import { createBackend } from "../../src/backend/select.ts";
import { WasmAllocator } from "../../src/backend/wasm/memory.ts";
import { testBackends, upload } from "./backends.ts";

Deno.test("blocks never overlap, are aligned, and freed memory is used again", () => {
  const steps = fc.array(fc.record({ length: fc.nat(100_000), free: fc.nat() }), { maxLength: 60 });
  fc.assert(fc.property(steps, (steps) => {
    const base = 1000;
    const memory = new WebAssembly.Memory({ initial: 0 });
    const allocator = new WasmAllocator(memory, base);
    const blocks: { begin: number; end: number }[] = [];
    for (const { length, free } of steps) {
      const begin = allocator.alloc(length);
      const block = { begin, end: begin + length };
      assertEquals(begin % 16, 0);
      assert(begin >= base && block.end <= memory.buffer.byteLength);
      for (const other of blocks) assert(block.begin >= other.end || other.begin >= block.end || length === 0);
      blocks.push(block);
      if (free % 3 === 0) allocator.free(blocks.splice(free % blocks.length, 1)[0].begin);
    }
    for (const { begin } of blocks) allocator.free(begin);
    assertEquals(allocator.used, 0);
    // All of it is one range again: a block of the whole size does not grow the memory.
    const size = memory.buffer.byteLength;
    if (size > 0 && steps.length > 0) {
      const begin = allocator.alloc(1);
      allocator.free(begin);
      allocator.free(allocator.alloc(size - begin));
      assertEquals(memory.buffer.byteLength, size);
    }
  }));
});

Deno.test("the allocator refuses lengths that are none, and blocks that it did not give", () => {
  const allocator = new WasmAllocator(new WebAssembly.Memory({ initial: 1 }), 0);
  for (const length of [-1, 0.5, NaN, Infinity]) assertThrows(() => allocator.alloc(length), RangeError);
  const block = allocator.alloc(8);
  allocator.free(block);
  assertThrows(() => allocator.free(block), RangeError, "no block in use");
});

Deno.test("memory that cannot grow is a KvzLimitError that says how far", async () => {
  const allocator = new WasmAllocator(new WebAssembly.Memory({ initial: 1, maximum: 2 }), 0);
  assertThrows(() => allocator.alloc(3 * 65536), KvzLimitError, "does not grow a memory of 65536 bytes to 196608");
  allocator.free(allocator.alloc(2 * 65536));
  using backend = await createBackend({ backend: "wasm" });
  assertThrows(() => backend.alloc(5 * 2 ** 30), KvzLimitError, "at most 4294967296");
  backend.alloc(64).free();
});

testBackends("buffers hold what is written, by offsets, across growth", async (backend) => {
  const buffer = backend.alloc(10);
  backend.write(buffer, Uint8Array.from({ length: 10 }, (_, i) => i));
  backend.write(buffer, Uint16Array.of(0x1122).subarray(0, 1), 3);
  const big = backend.alloc(40_000_000);
  backend.write(big, Uint8Array.of(7), 39_999_999);
  assertEquals([...await backend.read(buffer)], [0, 1, 2, 0x22, 0x11, 5, 6, 7, 8, 9]);
  assertEquals([...await backend.read(buffer, 4, 2)], [0x11, 5]);
  assertEquals([...await backend.read(buffer, 8)], [8, 9]);
  assertEquals([...await backend.read(buffer, 10)], []);
  assertEquals([...await backend.read(big, 39_999_999, 1)], [7]);
  const copy = await backend.read(buffer);
  copy.fill(0);
  assertEquals((await backend.read(buffer))[9], 9);
});

testBackends("buffers refuse what lies outside of them", async (backend) => {
  const buffer = backend.alloc(10);
  assertThrows(() => backend.write(buffer, new Uint8Array(11)), RangeError);
  assertThrows(() => backend.write(buffer, new Uint8Array(5), 6), RangeError);
  assertThrows(() => backend.write(buffer, new Uint8Array(1), -1), RangeError);
  for (const [offset, length] of [[0, 11], [8, 3], [-1, 2], [11, 0], [0, -1]]) {
    await assertRejects(() => backend.read(buffer, offset, length), RangeError);
  }
});

testBackends("what was freed or is another backend's is refused", async (backend) => {
  const used = upload(backend, new Uint8Array(64));
  const basis = backend.uploadBasis(new Uint16Array(4), 2, 2);
  used.free();
  used.free();
  basis.free();
  const [x, y] = [backend.alloc(64), backend.alloc(64)];
  assertThrows(() => backend.write(used, new Uint8Array(1)), KvzBackendError, "freed");
  await assertRejects(() => backend.read(used), KvzBackendError, "freed");
  assertThrows(() => backend.project(x, 1, basis, y), KvzBackendError, "freed");
  using other = await createBackend({ backend: "wasm", build: "base" });
  const theirs = other.alloc(64);
  assertThrows(() => backend.write(theirs, new Uint8Array(1)), KvzBackendError, "another backend");
  const foreign = other.uploadBasis(new Uint16Array(4), 2, 2);
  assertThrows(() => backend.project(x, 1, foreign, y), KvzBackendError, "another backend");
});

Deno.test("a disposed wasm backend is refused", async () => {
  const backend = await createBackend({ backend: "wasm" });
  const buffer = backend.alloc(8);
  backend[Symbol.dispose]();
  assertThrows(() => backend.alloc(8), KvzBackendError, "disposed");
  await assertRejects(() => backend.read(buffer), KvzBackendError, "disposed");
});
