import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { crc32c } from "../../src/container/crc32c.ts";

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

Deno.test("crc32c: 64 MiB in well under a second", () => {
  const bytes = new Uint8Array(64 << 20);
  crc32c(bytes.subarray(0, 1 << 20));
  const start = performance.now();
  crc32c(bytes);
  const seconds = (performance.now() - start) / 1000;
  // About 0.03 s on one free core; the bound leaves room for a busy machine but not for a bytewise loop.
  assert(seconds < 0.5, `took ${seconds} s`);
});
