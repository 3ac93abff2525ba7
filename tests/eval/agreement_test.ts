import { assert, assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { AgreementMeter, argmax, stretches } from "../../src/eval/agreement.ts";

/** Probabilities by definition, in float64. */
function softmax(row: readonly number[]): number[] {
  const top = Math.max(...row);
  const weights = row.map((x) => Math.exp(x - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

const rows = fc.integer({ min: 1, max: 12 }).chain((count) =>
  fc.record({
    before: fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 5 * count, maxLength: 5 * count }),
    after: fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 5 * count, maxLength: 5 * count }),
    targets: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: count, maxLength: count }),
  })
);

Deno.test("perplexity, KL and agreement are those of the definitions", () => {
  fc.assert(fc.property(rows, ({ before, after, targets }) => {
    const meter = new AgreementMeter(5);
    const half = Math.floor(targets.length / 2);
    const [a, b] = [Float32Array.from(before), Float32Array.from(after)];
    meter.add(a.subarray(0, half * 5), b.subarray(0, half * 5), targets.slice(0, half));
    meter.add(a.subarray(half * 5), b.subarray(half * 5), targets.slice(half));
    const result = meter.result();
    const kls = targets.map((_, t) => {
      const p = softmax(Array.from(a.subarray(t * 5, t * 5 + 5)));
      const q = softmax(Array.from(b.subarray(t * 5, t * 5 + 5)));
      return p.reduce((sum, x, i) => x === 0 ? sum : sum + x * Math.log(x / q[i]), 0);
    });
    const nll = (logits: Float32Array) =>
      targets.reduce(
        (sum, target, t) => sum - Math.log(softmax(Array.from(logits.subarray(t * 5, t * 5 + 5)))[target]),
        0,
      );
    assertAlmostEquals(result.kl, kls.reduce((x, y) => x + y, 0) / kls.length, 1e-9);
    assertAlmostEquals(result.klMax, Math.max(...kls), 1e-9);
    assertAlmostEquals(Math.log(result.perplexityBefore), nll(a) / targets.length, 1e-9);
    assertAlmostEquals(Math.log(result.perplexityAfter), nll(b) / targets.length, 1e-9);
    assertEquals(result.tokens, targets.length);
    assert(result.klByPosition.length === targets.length);
  }));
});

Deno.test("equal logits have KL 0 and agree; shifted ones as well", () => {
  const logits = Float32Array.of(1, 2, 3, 4, 5, -8, 30, 2, 1, 0);
  const meter = new AgreementMeter(5);
  meter.add(logits, logits, [0, 1]);
  meter.add(logits, logits.map((x) => x + 4), [0, 1]);
  const { kl, topOne, perplexityBefore, perplexityAfter } = meter.result();
  assertAlmostEquals(kl, 0, 1e-6);
  assertEquals(topOne, 1);
  assertAlmostEquals(perplexityBefore, perplexityAfter, 1e-6);
});

Deno.test("agreement counts the rows with the same most likely token", () => {
  const meter = new AgreementMeter(2);
  meter.add(Float32Array.of(0, 1, 0, 1, 1, 0, 1, 0), Float32Array.of(0, 1, 1, 0, 1, 0, 1, 0), [0, 0, 0, 0]);
  assertEquals(meter.result().topOne, 0.75);
  assertEquals(argmax(Float32Array.of(3, 7, 7, 1)), 1);
});

Deno.test("sizes that do not fit, and no rows, are refused", () => {
  const meter = new AgreementMeter(4);
  assertThrows(
    () => meter.add(new Float32Array(8), new Float32Array(4), [1, 2]),
    RangeError,
    "8 and 4 for 2 tokens of 4",
  );
  assertThrows(() => meter.result(), RangeError, "there are no rows");
});

Deno.test("stretches cover a length without overlap", () => {
  fc.assert(fc.property(fc.nat(500), fc.integer({ min: 1, max: 64 }), (length, most) => {
    const cut = stretches(length, most);
    assertEquals(cut.length, Math.min(length, most));
    assertEquals(cut.at(0)?.[0] ?? 0, 0);
    assertEquals(cut.at(-1)?.[1] ?? 0, length);
    cut.forEach(([begin, end], i) => {
      assert(end > begin);
      if (i > 0) assertEquals(begin, cut[i - 1][1]);
    });
  }));
});
