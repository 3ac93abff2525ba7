import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { AgreementMeter } from "../../src/eval/agreement.ts";
import {
  bandsOf,
  measureSensitivity,
  type PartMeasurement,
  sensitivityParts,
} from "../../src/eval/forward_sensitivity.ts";
import { forwardBlocks } from "../../src/eval/forward_weights.ts";
import { KlMeter } from "../../src/eval/kl_meter.ts";
import { LINEAR_SPEC, linearFisher, linearModel } from "./linear_model.ts";
import { toyIds, toyModel } from "./toy_session.ts";

const CONTEXT = 304;
const CONTINUATION = 300;
const text = (name: string) => ({ name, ids: new Int32Array(CONTEXT + CONTINUATION + 1) });

Deno.test("weights are the diagonal of the Fisher matrix, part by part", async () => {
  const options = { context: CONTEXT, continuation: CONTINUATION, bands: 2, heads: true };
  const texts = ["a", "b", "c", "d"].map(text);
  const measured = await measureSensitivity(linearModel(), texts, options);
  const fisher = linearFisher(CONTEXT, CONTINUATION);
  const bands = { key: bandsOf(LINEAR_SPEC, "key", 2), value: bandsOf(LINEAR_SPEC, "value", 2) };
  const parts = sensitivityParts(LINEAR_SPEC, options);
  assertEquals(parts.length, 2 * 2 * (2 + 1));
  for (const part of parts) {
    const expected = fisher.filter(({ layer, kind, head, i }) =>
      layer === part.layer && kind === part.kind && head === part.head && bands[kind][i] === part.band
    );
    const mean = expected.reduce((sum, { f }) => sum + f, 0) / expected.length;
    const own = measured.filter((m) =>
      m.layer === part.layer && m.kind === part.kind && m.head === part.head && m.band === part.band
    );
    assertEquals(own.length, 4);
    const weight = own.reduce((sum, one) => sum + one.weight, 0) / 4;
    // 4 × 300 independent tokens of at least two elements: a few percent of noise; curvature costs as much.
    assert(Math.abs(weight / mean - 1) < 0.12, `${JSON.stringify(part)}: ${weight} instead of ${mean}`);
  }
  // Blocks are in the same proportions, on the diagonal.
  const { source, key, value } = forwardBlocks(LINEAR_SPEC, measured, options);
  assertEquals(source, "forward");
  const find = (kind: "key" | "value", layer: number, head: number, i: number) =>
    fisher.find((e) => e.kind === kind && e.layer === layer && e.head === head && e.i === i)!.f;
  const pair = (band: number) => (find("key", 1, 1, band) + find("key", 1, 1, band + 2)) / 2;
  const block = key.subarray(3 * 16);
  assertAlmostEquals(block[1 * 5] / block[0] / (pair(1) / pair(0)), 1, 0.2);
  assertEquals([block[2 * 5], block[3 * 5], block[1]], [block[0], block[5], 0]);
  const largest = Math.max(...key, ...value);
  assert(largest >= 1 && largest < 2);
});

Deno.test("an interrupted measurement goes on, and its noise does not depend on that", async () => {
  const texts = [1, 2].map((seed) => ({ name: `toy ${seed}`, ids: toyIds(81, seed) }));
  const options = { context: 60, continuation: 20, bands: 2 };
  let tokens = 0;
  const measured = await measureSensitivity(toyModel(), texts, { ...options, onTokens: (n) => tokens += n });
  const parts = sensitivityParts(toyModel().spec, options).length;
  assertEquals(measured.length, 2 * parts);
  for (const { kl, weight, level } of measured) assert(kl > 0 && weight > 0 && level > 0);
  const kept: PartMeasurement[] = [];
  let again = 0;
  const known = measured.slice(0, parts + 2);
  const resumed = await measureSensitivity(toyModel(), texts, {
    ...options,
    known,
    onTokens: (n) => again += n,
    onMeasured: (one) => void kept.push(one),
  });
  assertEquals(resumed, measured);
  assertEquals(kept, measured.slice(parts + 2));
  assert(again < tokens / 2);
  const other = await measureSensitivity(toyModel(), texts, { ...options, seed: 1 });
  assert(other[0].kl !== measured[0].kl);
});

Deno.test("bands go by rotary frequency; what is not rotated has its own", () => {
  const spec = { ...LINEAR_SPEC, keyDim: 10, rope: { theta: 1e4, dim: 8, pairing: "half-split" as const } };
  assertEquals([...bandsOf(spec, "key", 2)], [0, 0, 1, 1, 0, 0, 1, 1, 2, 2]);
  assertEquals([...bandsOf(spec, "key", 100)], [0, 1, 2, 3, 0, 1, 2, 3, 4, 4]);
  assertEquals([...bandsOf({ ...spec, rope: null }, "key", 2)], Array(10).fill(0));
  assertEquals([...bandsOf(spec, "value", 2)], [0, 0, 0]);
});

Deno.test("KL against a fixed distribution is that of the evaluation", () =>
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 2, max: 20 }),
    fc.infiniteStream(fc.float({ min: -30, max: 30, noNaN: true })),
    (rows, width, stream) => {
      const take = () => Float32Array.from({ length: rows * width }, () => stream.next().value);
      const [before, after] = [take(), take()];
      const meter = new AgreementMeter(width);
      meter.add(before, after, new Int32Array(rows));
      assertAlmostEquals(new KlMeter(before, width).kl(after), meter.result().kl, 1e-4);
      assertAlmostEquals(new KlMeter(before, width).kl(before), 0, 1e-5);
    },
  )));

Deno.test("what cannot be measured is refused", async () => {
  const model = toyModel();
  const one = { name: "toy", ids: toyIds(81, 1) };
  const options = { context: 60, continuation: 20 };
  await assertRejects(() => measureSensitivity(model, [], options), RangeError, "found 0 texts");
  await assertRejects(() => measureSensitivity(model, [one, one], options), RangeError, "different names");
  await assertRejects(() => measureSensitivity(model, [one], { ...options, sinks: 60 }), RangeError, "sinks 60");
  await assertRejects(() => measureSensitivity(model, [one], { ...options, context: 61 }), RangeError, "81 tokens");
  const [first] = await measureSensitivity(model, [one], { ...options, bands: 1 });
  assertThrows(() => forwardBlocks(model.spec, [first], { bands: 1 }), RangeError, "have 0 measurements, expected 1");
  assertThrows(() => new KlMeter(new Float32Array(7), 2), RangeError, "7 logits");
});
