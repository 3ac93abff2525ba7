import { assert, assertEquals, assertLessOrEqual, assertRejects } from "deno-std/assert";
import { toFloat32 } from "../../src/cache/elements.ts";
import { KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { cacheOf, checkRecipe, roundTrip } from "./recipe_checks.ts";

checkRecipe({ recipe: "fp8", model: SMALL_MODEL, error: 0.04, append: "chunks of 1024 tokens" });

Deno.test("fp8: 8 bits a value and 16 a head", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const { report } = await codec.compress(syntheticCache(300), { recipe: "fp8" });
  assertEquals(report.streams, { ...report.streams, KCOD: 6 * 300 * 10, KSCL: 12, VCOD: 6 * 300 * 6, VSCL: 12 });
});

// The defining step is the scale: without it everything beyond 448 saturates, and small heads vanish.
Deno.test("fp8: every head keeps three fraction bits, whatever its size", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const next = random(4);
  const size = (layer: number, head: number) => [0.1, 1, 3e4][(layer + head) % 3];
  const cache = cacheOf(SMALL_MODEL, 50, "f32", (_k, l, h) => size(l, h) * (0.05 + next()));
  const { cache: back } = await roundTrip(codec, cache, { recipe: "fp8" });
  for (const kind of KINDS) {
    const [a, b] = [cache, back].map((c) => toFloat32(c.read(kind, 0, 50), "f32"));
    a.forEach((x, i) =>
      assertLessOrEqual(Math.abs(x - b[i]), Math.abs(x) * 2 ** -4 * 1.001, `${kind} ${i}: ${x}, ${b[i]}`)
    );
    const row = 50 * (kind === "key" ? 10 : 6);
    for (let at = 0; at < a.length; at += row) {
      const most = (x: Float32Array) => x.subarray(at, at + row).reduce((m, v) => Math.max(m, v), 0);
      assert(Math.abs(most(a) / most(b) - 1) < 2 ** -10, "the largest element is the scale's 448");
    }
  }
});

Deno.test("fp8: elements beyond the scale's range are refused with their place", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = cacheOf(SMALL_MODEL, 5, "f32", (kind, l, h) => kind === "key" && l === 2 && h === 1 ? 1e9 : 1);
  await assertRejects(() => codec.compress(cache, { recipe: "fp8" }), KvzUnsupportedError, "key of layer 2, head 1");
});
