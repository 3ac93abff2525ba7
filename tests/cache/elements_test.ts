import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import {
  asUint16,
  asUint32,
  bf16ToNumber,
  f16ToNumber,
  fromFloat32,
  numberToBf16,
  numberToF16,
  toFloat32,
} from "../../src/cache/elements.ts";
import { findNonFinite, requireFinite } from "../../src/cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../src/cache/types.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { dtypes, noise } from "./arbitrary.ts";

Deno.test("every binary16 pattern decodes as the platform decodes it, and encodes to itself", () => {
  const view = new DataView(new ArrayBuffer(2));
  for (let bits = 0; bits < 0x10000; bits++) {
    view.setUint16(0, bits);
    const wanted = view.getFloat16(0);
    const found = f16ToNumber(bits);
    if (!Object.is(found, wanted)) assertEquals(found, wanted);
    if (!Number.isNaN(wanted) && numberToF16(wanted) !== bits) assertEquals(numberToF16(wanted), bits);
  }
});

Deno.test("binary16 rounds to nearest even between every two neighbours", () => {
  for (let bits = 0; bits < 0x7bff; bits++) {
    const middle = (f16ToNumber(bits) + f16ToNumber(bits + 1)) / 2; // exact in float32
    const even = bits % 2 === 0 ? bits : bits + 1;
    const step = middle * 2 ** -22;
    const found = [numberToF16(middle), numberToF16(middle - step), numberToF16(middle + step), numberToF16(-middle)];
    const wanted = [even, bits, bits + 1, even | 0x8000];
    if (found.some((x, i) => x !== wanted[i])) assertEquals(found, wanted);
  }
  assertEquals([65519.99, 65520, Infinity, -65520, -Infinity].map(numberToF16), [
    0x7bff,
    0x7c00,
    0x7c00,
    0xfc00,
    0xfc00,
  ]);
  assertEquals(numberToF16(NaN) & 0x7fff, 0x7e00);
  assertEquals(numberToF16(-0), 0x8000);
});

Deno.test("float32 to binary16 agrees with the platform", () => {
  const view = new DataView(new ArrayBuffer(2));
  fc.assert(fc.property(fc.float({ noNaN: true }), (value) => {
    view.setFloat16(0, value);
    assertEquals(numberToF16(value), view.getUint16(0));
  }));
});

Deno.test("bfloat16 is the upper half of float32, rounded to nearest even", () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = bf16ToNumber(bits);
    if (Number.isNaN(value)) assert(Number.isNaN(bf16ToNumber(numberToBf16(value))));
    else if (numberToBf16(value) !== bits) assertEquals(numberToBf16(value), bits);
  }
  fc.assert(fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
    const found = bf16ToNumber(numberToBf16(value));
    const bits = numberToBf16(value);
    for (const other of [bits - 1, bits + 1]) {
      const there = bf16ToNumber(other & 0xffff);
      if (!Number.isFinite(there) || Math.sign(there) !== Math.sign(found)) continue;
      const [mine, theirs] = [Math.abs(found - value), Math.abs(there - value)];
      assert(mine < theirs || (mine === theirs && bits % 2 === 0) || !Number.isFinite(found));
    }
  }));
  assertEquals(bf16ToNumber(numberToBf16(3.4028234663852886e38)), Infinity);
});

Deno.test("elements survive the way to float32 and back, aligned or not", () => {
  fc.assert(fc.property(dtypes, fc.nat(20), fc.nat(3), fc.integer(), (dtype, count, offset, seed) => {
    const size = BYTES_PER_ELEMENT[dtype];
    const bytes = noise(offset + count * size, seed).subarray(offset);
    const values = toFloat32(bytes, dtype);
    assertEquals(values.length, count);
    const back = fromFloat32(values, dtype);
    values.forEach((value, i) => {
      if (!Number.isNaN(value)) {
        assertEquals(back.subarray(i * size, (i + 1) * size), bytes.slice(i * size, (i + 1) * size));
      }
    });
  }));
  assertEquals(fromFloat32(Float64Array.of(0.1), "f32"), new Uint8Array(Float32Array.of(0.1).buffer));
});

Deno.test("views of elements refuse bytes that are no whole number of them", () => {
  assertThrows(() => toFloat32(new Uint8Array(3), "f16"), RangeError, "3 bytes are not a multiple of 2 (f16)");
  assertThrows(() => asUint16(new Uint8Array(1)), RangeError, "1 bytes");
  assertThrows(() => asUint32(new Uint8Array(6)), RangeError, "6 bytes");
});

Deno.test("requireFinite names the first NaN or infinity", () => {
  const place = { kind: "value", heads: 2, tokens: 3, dim: 5, firstLayer: 4, firstToken: 10 } as const;
  fc.assert(fc.property(
    dtypes,
    fc.nat(2 * 2 * 3 * 5 - 1),
    fc.constantFrom(NaN, Infinity, -Infinity),
    (dtype, index, bad) => {
      const values = Float32Array.from({ length: 60 }, (_, i) => Math.sin(i) * 100);
      requireFinite(fromFloat32(values, dtype), dtype, place);
      values[index] = bad;
      const bytes = fromFloat32(values, dtype);
      assertEquals(findNonFinite(bytes, dtype), index);
      const [layer, head, token] = [Math.floor(index / 30), Math.floor(index / 15) % 2, Math.floor(index / 5) % 3];
      assertThrows(
        () => requireFinite(bytes, dtype, place),
        KvzUnsupportedError,
        `value of layer ${layer + 4}, head ${head}, token ${token + 10}, dimension ${index % 5} is ${bad}, expected`,
      );
    },
  ));
});

Deno.test("findNonFinite finds what does not decode to a finite number, in any bytes, aligned or not", () => {
  fc.assert(fc.property(dtypes, fc.nat(40), fc.nat(3), fc.integer(), fc.nat(40), (dtype, count, offset, seed, at) => {
    const size = BYTES_PER_ELEMENT[dtype];
    const bytes = noise(offset + count * size, seed).subarray(offset);
    // Large ones and those that are not finite are rare in noise.
    if (at < count) bytes[at * size + size - 1] |= 0x7f;
    assertEquals(findNonFinite(bytes, dtype), toFloat32(bytes, dtype).findIndex((x) => !Number.isFinite(x)));
  }));
});

Deno.test("the largest finite values pass, a NaN with only low bits does not", () => {
  const cases: [DType, number[], boolean][] = [
    ["f16", [0xff, 0x7b], true],
    ["f16", [0x01, 0x7c], false],
    ["bf16", [0x7f, 0x7f], true],
    ["bf16", [0x80, 0xff], false],
    ["f32", [0xff, 0xff, 0x7f, 0xff], true],
    ["f32", [0x01, 0x00, 0x80, 0x7f], false],
  ];
  for (const [dtype, bytes, finite] of cases) {
    assertEquals(findNonFinite(Uint8Array.from(bytes), dtype), finite ? -1 : 0);
  }
  assertThrows(
    () =>
      requireFinite(Uint8Array.of(1, 0, 0x80, 0x7f), "f32", { kind: "key", heads: 1, tokens: 1, dim: 1, firstHead: 2 }),
    KvzUnsupportedError,
    "key of layer 0, head 2, token 0, dimension 0 is NaN",
  );
});
