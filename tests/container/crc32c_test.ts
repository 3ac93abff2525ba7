import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { crc32c, crc32cOfRecord } from "../../src/container/crc32c.ts";
import { crc32cOfLong } from "../../src/container/crc32c_fold.ts";
import { WASM } from "../../src/container/crc32c_wasm.ts";

/** Bit by bit, from the definition. */
function bitwise(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) {
    c ^= byte;
    for (let bit = 0; bit < 8; bit++) c = (c >>> 1) ^ ((c & 1) * 0x82f63b78);
  }
  return ~c >>> 0;
}

Deno.test("crc32c: known answers (RFC 3720, B.4)", () => {
  assertEquals(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  assertEquals(crc32c(new Uint8Array(0)), 0);
  assertEquals(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assertEquals(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assertEquals(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assertEquals(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
});

Deno.test("crc32c: equals the bitwise definition at any length and alignment, whole and in pieces", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(15), fc.nat(300), (data, shift, cut) => {
      const bytes = new Uint8Array(data.length + shift).subarray(shift);
      bytes.set(data);
      const expected = bitwise(bytes);
      assertEquals(crc32c(bytes), expected);
      assertEquals(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut))), expected);
    }),
  );
});

Deno.test("crc32c: long data is folded: the bitwise definition's checksum around every border", async () => {
  const data = new Uint8Array(220_000);
  let x = 1;
  for (let i = 0; i < data.length; i++) data[i] = (x = Math.imul(x, 1664525) + 1013904223 | 0) >>> 24;
  // Blocks of 57,344 bytes, what is left of 3,344, what records are folded from, and beside all of them.
  const lengths = [57344, 57344 + 3344, 57360 + 3344, 65536, 2 * 57344 + 3344, 150_001, 219_985];
  for (const length of lengths.flatMap((n) => [n - 1, n, n + 1, n + 7])) {
    const bytes = data.subarray(length % 16, length % 16 + length);
    const expected = bitwise(bytes);
    assertEquals(crc32cOfLong(bytes), expected, `${length}`);
    assertEquals(await crc32cOfRecord(bytes), expected, `${length}`);
    assertEquals(crc32c(bytes), expected, `${length}`);
  }
  const zeros = new Uint8Array(100_000);
  assertEquals(crc32cOfLong(zeros), bitwise(zeros));
  // And tables have not done all of it.
  const module = new WebAssembly.Module(Uint8Array.from(atob(WASM), (char) => char.charCodeAt(0)));
  const { memory, fold } = new WebAssembly.Instance(module).exports as Record<string, CallableFunction>;
  assert(memory instanceof WebAssembly.Memory && typeof fold === "function");
});

Deno.test("crc32c: the generator divides what long data is folded by", () => {
  // x^n mod G, the bits of the register as in the tables: x^0 is the highest.
  const power = (n: number) => {
    let r = 0x80000000;
    for (let i = 0; i < n; i++) r = (r >>> 1) ^ (r & 1) * 0x82f63b78;
    return r >>> 0;
  };
  const terms = [0, 14, 39, 54, 144, 209];
  assertEquals(terms.reduce((sum, n) => (sum ^ power(n)) >>> 0, 0), 0);
  assertEquals(terms.reduce((sum, n) => (sum ^ power(128 * n)) >>> 0, 0), 0);
  assert(terms.slice(1).reduce((sum, n) => (sum ^ power(n)) >>> 0, 0) !== 0);
});

Deno.test("crc32c: 64 MiB in well under a second", () => {
  const bytes = new Uint8Array(64 << 20);
  crc32c(bytes.subarray(0, 1 << 20));
  const start = performance.now();
  crc32c(bytes);
  const seconds = (performance.now() - start) / 1000;
  // About 0.03 s on one free core; the bound leaves room for a busy machine but not for a bytewise loop.
  assert(seconds < 0.5, `took ${seconds} s`);
});
