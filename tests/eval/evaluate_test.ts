import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { openCodec } from "../../src/codec/open.ts";
import { componentBins, ComponentMeter } from "../../src/eval/component_meter.ts";
import { evaluateText, evaluationTokens } from "../../src/eval/evaluate.ts";
import { CONTROLS, describeSetting, type Method, parseMethodSpec, recipeMethod } from "../../src/eval/method.ts";
import type { EvalPoint } from "../../src/eval/point.ts";
import { summarize } from "../../src/eval/summary.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { TOY_POSITIONS, toyIds, toyModel } from "./toy_session.ts";

const CONTEXT = 300;
const CONTINUATION = 40;

async function evaluateToy(settings: readonly Record<string, number>[]): Promise<EvalPoint[]> {
  const model = toyModel();
  const profile = syntheticProfile();
  const codec = await openCodec(profile);
  using components = await ComponentMeter.open(profile);
  const points: EvalPoint[] = [];
  let tokens = 0;
  try {
    const methods = [...CONTROLS, ...settings.map((options) => recipeMethod(codec, "kvtc", options))];
    await evaluateText(model, "toy", toyIds(CONTEXT + CONTINUATION + 1), {
      context: CONTEXT,
      continuation: CONTINUATION,
      dtype: "f16",
      methods,
      components,
      onPoint: (point) => void points.push(point),
      onTokens: (n) => tokens += n,
    });
    assertEquals(tokens, evaluationTokens(CONTEXT, CONTINUATION, methods.length));
  } finally {
    await codec.close();
  }
  return points;
}

Deno.test("the untouched cache loses nothing, the zeroed one much, coarser settings more", async () => {
  const [untouched, zeroed, fine, coarse, window] = await evaluateToy([
    { ratio: 2, window: 32 },
    { ratio: 12, window: 32 },
    { ratio: 12, window: CONTEXT },
  ]);
  assertEquals(untouched.agreement.kl, 0);
  assertEquals(untouched.agreement.perplexityAfter, untouched.agreement.perplexityBefore);
  assertEquals(untouched.ratios.file, null);
  assertEquals(untouched.errors.key.coded, 0);
  assertEquals(zeroed.errors.value.coded, 1);
  // A profile of other caches: the coarse setting is even worse.
  assert(zeroed.agreement.kl > 0.1);
  assert(coarse.agreement.kl > fine.agreement.kl && fine.agreement.kl > 0);
  // A window over the whole cache leaves the rounding to f16 alone.
  assert(window.agreement.kl < fine.agreement.kl / 10);
  assertEquals(window.errors.key.components, null);
  assertEquals(fine.setting, "2×, window 32");
  assertEquals(fine.errors.key.layers.length, 3);
  assertEquals(fine.errors.key.positions.length, 128);
  // Sinks in FP8, then coded tokens, then the exact window.
  assertEquals(fine.errors.value.positions.at(-1), 0);
  assert(fine.errors.value.positions[64]! > 0);
  assert(fine.bytes! > 0 && fine.ratios.file! > 1 && fine.seconds.restore! > 0);
});

/** Evicts: every head but the first of a layer keeps 4 tokens and the newest 30, or as many as `newest` leaves. */
function eviction(newest: number): Method {
  return {
    name: "evict",
    setting: "",
    options: {},
    usesProfile: true,
    run(cache) {
      const whole = cache.positions;
      const kept = whole.filter((_, t) => t < 4 || (t >= whole.length - 30 && t < whole.length - 30 + newest));
      const rows = (bytes: Uint8Array) => {
        const row = bytes.length / whole.length;
        const out = new Uint8Array(kept.length * row);
        kept.forEach((t, i) => out.set(bytes.subarray(t * row, (t + 1) * row), i * row));
        return out;
      };
      const { model, dtype } = cache;
      const evicted = KvCache.ragged({
        model,
        dtype,
        blocks: Array.from({ length: model.layers }, (_, layer) =>
          Array.from({ length: model.kvHeads }, (_, head) => {
            const [key, value] = [cache.key(layer, head), cache.value(layer, head)];
            if (head === 0 && newest === 30) return { key, value, positions: whole };
            return { key: rows(key), value: rows(value), positions: kept };
          })),
      });
      return Promise.resolve({
        cache: evicted,
        ratios: { target: null, paper: null, file: null },
        bytes: null,
        regions: { sinks: 4, coded: whole.length - 34, window: 30 },
        seconds: { compress: null, restore: null },
      });
    },
  };
}

Deno.test("caches with evicted tokens are evaluated: what is missing counts as zero", async () => {
  const model = toyModel({ bias: true });
  using components = await ComponentMeter.open(syntheticProfile());
  const points: EvalPoint[] = [];
  const options = {
    context: CONTEXT,
    continuation: CONTINUATION,
    dtype: "f16" as const,
    components,
    onPoint: (point: EvalPoint) => void points.push(point),
  };
  const ids = toyIds(CONTEXT + CONTINUATION + 1);
  await evaluateText(model, "toy", ids, { ...options, methods: [...CONTROLS, eviction(30)] });
  const [, zeroed, evicted] = points;
  // Not those of zeros that are attended to, as in "zeroed".
  assert(evicted.agreement.kl > 1e-4 && evicted.agreement.kl < zeroed.agreement.kl);
  // One of two heads lacks all coded tokens: half of the energy, more or less.
  for (const kind of ["key", "value"] as const) {
    assertAlmostEquals(evicted.errors[kind].coded!, Math.SQRT1_2, 0.15);
    assertEquals(evicted.errors[kind].positions[0], 0);
    assertEquals(evicted.errors[kind].positions.at(-1), 0);
    assert(evicted.errors[kind].components !== null);
  }
  await assertRejects(
    () => evaluateText(model, "toy", ids, { ...options, methods: [eviction(10)] }),
    KvzMismatchError,
    `the restored cache ends before position ${CONTEXT - 20}, expected ${CONTEXT}; the newest token must stay`,
  );
});

Deno.test("errors by component are those of the coefficients", async () => {
  const profile = syntheticProfile();
  using meter = await ComponentMeter.open(profile, { backend: "reference" });
  const cache = syntheticCache(40);
  const same = await meter.measure(cache, cache, 0, 40);
  assert(same.key.errors.every((error) => error === 0));
  assertEquals(same.value.first, componentBins(profile.kinds.value.components));
  // All tokens are looked at, and the basis is complete: the bins' squares add up to the whole error.
  const codec = await openCodec(profile);
  try {
    const { bytes } = await codec.compress(cache, { ratio: 8, window: 0, sinks: 0 });
    const { cache: restored } = await codec.decompress(bytes);
    const { value } = await meter.measure(cache, restored, 0, 40);
    assert(value.errors.every((error) => error !== null && error <= 1.2));
    assert(value.errors.at(-1)! > value.errors[0]!);
  } finally {
    await codec.close();
  }
});

Deno.test("bins of components grow and cover all", () => {
  assertEquals(componentBins(1), [0]);
  const bins = componentBins(2048);
  assertEquals(bins.slice(0, 6), [0, 1, 2, 3, 4, 5]);
  bins.slice(1).forEach((first, i) => assert(first > bins[i]));
  assert(bins.at(-1)! < 2048 && bins.length < 50);
});

Deno.test("too short texts and too long contexts are refused", async () => {
  const model = toyModel();
  const options = { continuation: 10, dtype: "f16" as const, methods: CONTROLS, onPoint: () => {} };
  await assertRejects(
    () => evaluateText(model, "short", toyIds(50), { ...options, context: 40 }),
    RangeError,
    "Cannot evaluate context 40: short has 50 tokens, expected at least 51",
  );
  await assertRejects(
    () => evaluateText(model, "long", toyIds(50), { ...options, context: TOY_POSITIONS }),
    RangeError,
    `it needs ${TOY_POSITIONS + 10} positions, the model has ${TOY_POSITIONS}`,
  );
});

Deno.test("method specifications name every combination", () => {
  assertEquals(parseMethodSpec("kvtc"), [{ recipe: "kvtc", options: {} }]);
  assertEquals(parseMethodSpec("kvtc:ratio=8/16,window=0/128").map(({ options }) => options), [
    { ratio: 8, window: 0 },
    { ratio: 8, window: 128 },
    { ratio: 16, window: 0 },
    { ratio: 16, window: 128 },
  ]);
  assertEquals(describeSetting({ ratio: 16, window: 0, fast: true }), "16×, window 0, fast true");
  assertEquals(describeSetting({ fileRatio: 6 }), "file 6×");
  for (const bad of ["", ":ratio=1", "kvtc:ratio", "kvtc:ratio=", "kvtc:"]) {
    assertThrows(() => parseMethodSpec(bad), RangeError, `Cannot read method "${bad}"`);
  }
});

Deno.test("summaries are means over texts and name the worst", async () => {
  const [untouched, , point] = await evaluateToy([{ ratio: 8, window: 32 }]);
  const other: EvalPoint = {
    ...point,
    text: "worse",
    agreement: { ...point.agreement, kl: point.agreement.kl * 3, perplexityAfter: point.agreement.perplexityAfter * 4 },
    ratios: { ...point.ratios, file: point.ratios.file! * 4 },
  };
  const summaries = summarize([untouched, point, other]);
  assertEquals(summaries.map(({ method, texts }) => [method, texts]), [["untouched", 1], ["kvtc", 2]]);
  const [, kvtc] = summaries;
  assertAlmostEquals(kvtc.kl, point.agreement.kl * 2, 1e-12);
  assertAlmostEquals(kvtc.perplexityAfter, point.agreement.perplexityAfter * 2, 1e-9);
  assertAlmostEquals(kvtc.ratios.file!, point.ratios.file! * 2, 1e-9);
  assertEquals(kvtc.worst, { text: "worse", kl: other.agreement.kl });
  assertEquals(summaries[0].ratios.file, null);
});
