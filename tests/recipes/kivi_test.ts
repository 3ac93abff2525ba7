import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import { createBackend } from "../../src/backend/select.ts";
import { asUint16, toFloat32 } from "../../src/cache/elements.ts";
import { type Kind, KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { kivi, type KiviOptions } from "../../src/recipes/baselines/kivi.ts";
import { unpackBits } from "../../src/stages/quantize/bit_packing.ts";
import { relativeError } from "../codec/helpers.ts";
import { random, syntheticCache } from "../synthetic.ts";
import golden from "./kivi_golden.json" with { type: "json" };
import { BLOCK_MODEL } from "./models.ts";
import { cacheOf, checkRecipe, decodeHex, roundTrip } from "./recipe_checks.ts";

const REFUSAL = "coded in part";
checkRecipe({ recipe: "kivi", model: BLOCK_MODEL, error: 0.4, append: REFUSAL });
checkRecipe({ recipe: "kivi", options: { bits: 4 }, model: BLOCK_MODEL, error: 0.08, append: REFUSAL, tokens: 420 });
checkRecipe({ recipe: "kivi", options: { residual: 0 }, model: BLOCK_MODEL, error: 0.4, append: REFUSAL });

for (const bits of [2, 4] as const) {
  Deno.test(`kivi: scales and zeros of ${bits} bits are those of half-precision code, codes but for ties`, async () => {
    using backend = await createBackend({ backend: "wasm" });
    const x = toFloat32(decodeHex(golden.x), "f16");
    for (const kind of KINDS) {
      const shape = { kind, layers: 1, heads: 1, dim: 64 };
      const { open } = await import("../../src/recipes/baselines/kivi_coder.ts");
      const options: KiviOptions = { bits, group: 32, residual: 0 };
      const coder = await open(options, { shapes: [shape], region: "chunk", storedDType: "f16", backend });
      const [packed, params] = await coder.encode([{ ...shape, x: x.slice(), tokens: 64, begin: 0 }]);
      const wanted = golden[bits][kind];
      const numbers = asUint16(params);
      assertEquals(numbers.filter((_, i) => i % 2 === 0), asUint16(decodeHex(wanted.scale)));
      assertEquals(numbers.filter((_, i) => i % 2 === 1), asUint16(decodeHex(wanted.zero)));
      const wantedCodes = decodeHex(wanted.codes);
      const codes = unpackBits(packed, 64 * 64, bits);
      let other = 0;
      codes.forEach((code, i) => {
        assert(Math.abs(code - wantedCodes[i]) <= 1);
        if (code !== wantedCodes[i]) other++;
      });
      assertLess(other / codes.length, 0.005);
    }
  });
}

Deno.test("kivi: 3.0 and 5.0 bits a value exactly, and the residual in 16", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const perToken = (kind: Kind) => 2 * 2 * (kind === "key" ? 64 : 32);
  for (const bits of [2, 4]) {
    for (const tokens of [100, 128, 200, 256, 1500]) {
      const { bytes, report } = await codec.compress(syntheticCache(tokens, { model: BLOCK_MODEL }), {
        recipe: "kivi",
        bits,
      });
      for (const kind of KINDS) {
        const raw = kind === "key" ? tokens % 128 : Math.min(tokens, 128);
        const [cod, par, res] = ["COD", "PAR", "RES"].map((tag) => report.streams[kind[0].toUpperCase() + tag] ?? 0);
        assertEquals((cod + par) * 8, perToken(kind) * (tokens - raw) * (bits + 1), `${kind} ${tokens}`);
        assertEquals(res, perToken(kind) * raw * 2);
      }
      assert(bytes.length < 2 * (report.streams.KCOD + report.bytesIn));
    }
  }
});

Deno.test("kivi: the residual is bit-exact: of values 128 tokens, of keys those beyond a multiple of 128", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  for (const tokens of [90, 300, 1300]) {
    const cache = syntheticCache(tokens, { model: BLOCK_MODEL });
    const { cache: back } = await roundTrip(codec, cache, { recipe: "kivi" });
    const rows = (kind: Kind, begin: number, end: number) =>
      [cache, back].map((c) => Array.from(c.read(kind, begin, end)));
    for (const kind of KINDS) {
      const border = kind === "key" ? tokens - tokens % 128 : Math.max(0, tokens - 128);
      const [a, b] = rows(kind, border, tokens);
      assertEquals(a, b, `${kind} of ${tokens}`);
      if (border > 0) assertLess(0, relativeError(cache, back, kind, border - 1, border));
    }
  }
});

Deno.test("kivi: |x − x̂| is at most half a step of its group", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const next = random(5);
  const cache = cacheOf(BLOCK_MODEL, 64, "f32", () => 8 * next() - 3);
  const { cache: back } = await roundTrip(codec, cache, { recipe: "kivi", residual: 0, bits: 4 });
  for (const kind of KINDS) {
    const dim = kind === "key" ? 64 : 32;
    const [a, b] = [cache, back].map((c) => toFloat32(c.read(kind, 0, 64), "f32"));
    for (let i = 0; i < a.length; i++) {
      const [row, channel] = [Math.floor(i / dim), i % dim];
      const group = Array.from(
        { length: 32 },
        (_, n) =>
          kind === "key"
            ? a[(Math.floor(row / 32) * 32 + n) * dim + channel]
            : a[row * dim + Math.floor(channel / 32) * 32 + n],
      );
      const range = Math.max(...group) - Math.min(...group);
      // Rounding of scale (15 times) and zero to binary16 besides.
      assertLess(Math.abs(a[i] - b[i]), range / 30 + 8 * 2 ** -10, `${kind} ${i}`);
    }
  }
});

// The defining step: outlying channels of keys cost nothing, since every channel has its own scale.
Deno.test("kivi: keys with outlying channels lose a fraction of what quantizing them by token loses", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const next = random(6);
  const outlying = (i: number) => i % 16 === 3 ? 30 : 0;
  const cache = cacheOf({ ...BLOCK_MODEL, rope: null }, 128, "f32", (_k, _l, _h, _t, i) => next() + outlying(i));
  const { cache: back } = await roundTrip(codec, cache, { recipe: "kivi", residual: 0 });
  const errorOf = (kind: Kind) => {
    const [a, b] = [cache, back].map((c) => toFloat32(c.read(kind, 0, 128), "f32"));
    return a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0) / a.length;
  };
  // By channel the range is 1, the mean error step² ÷ 12 ; by token the range is 30.
  assertLess(errorOf("key"), 1.2 * (1 / 3) ** 2 / 12);
  assertLess(10 * errorOf("key"), errorOf("value"));
});

Deno.test("kivi: options out of range are refused by name", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(10, { model: BLOCK_MODEL });
  const refused = (options: object, name: string) =>
    assertRejects(() => codec.compress(cache, { recipe: "kivi", ...options }), RangeError, name);
  await refused({ bits: 3 }, `"bits"`);
  await refused({ group: 48 }, `"group"`);
  await refused({ residual: 100 }, `"residual"`);
  await refused({ window: 3 }, `"window"`);
  assertEquals(kivi.regions({ bits: 2, group: 32, residual: 128, sinks: 4 }, 1000), {
    sinks: 4,
    window: 128 + 996 % 128,
  });
});
