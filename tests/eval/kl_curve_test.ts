import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { curveOf, curveSteps, curveTokens, measureSteps, type StepMeasurement } from "../../src/eval/kl_curve.ts";
import { castCache } from "../../src/cache/cast.ts";
import { prefill } from "../../src/eval/evaluate.ts";
import { calibrateKvz } from "../../src/profile/kvz/calibrate.ts";
import { requireProfile } from "../../src/profile/require.ts";
import { openCodec } from "../../src/codec/open.ts";
import { parseProfile, serializeProfile } from "../../src/profile/profile_format.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { syntheticCache } from "../synthetic.ts";
import { toyIds, toyModel } from "./toy_session.ts";

const CONTEXT = 200;
const CONTINUATION = 20;
const texts = [1, 2].map((seed) => ({ name: `toy ${seed}`, ids: toyIds(CONTEXT + CONTINUATION + 1, seed) }));

/** A profile of the toy model's own caches: with a foreign one, finer steps need not lose less. */
async function toyProfile() {
  const model = toyModel();
  const caches = [];
  for (const seed of [11, 12]) {
    const ids = toyIds(400, seed);
    caches.push(castCache(await model.unload(await prefill(model, ids), ids), "f16"));
  }
  return await calibrateKvz(caches, { rank: 64, svd: "exact" });
}

Deno.test("finer steps lose less and cost more; a run that ended early is not repeated", async () => {
  const profile = await toyProfile();
  const middle = profile.stepSets[profile.stepSets.length >> 1].s;
  const steps = [middle - 240, middle, middle + 240];
  const options = { context: CONTEXT, continuation: CONTINUATION, steps };
  const kept: StepMeasurement[] = [];
  let tokens = 0;
  const measured = await measureSteps(toyModel(), profile, texts, {
    ...options,
    onMeasured: (one) => void kept.push(one),
    onTokens: (n) => tokens += n,
  });
  assertEquals(tokens, curveTokens(profile, texts, options));
  assertEquals(measured.length, 6);
  assertEquals(kept.length, 6);
  const curve = curveOf(measured);
  assertEquals(curve.map(({ s }) => s), steps);
  for (let i = 1; i < curve.length; i++) {
    assert(curve[i].kl < curve[i - 1].kl && curve[i].bits > curve[i - 1].bits, JSON.stringify(curve));
  }

  // Half of it known: the same result, by running only the other half.
  const known = measured.slice(0, 3);
  let again = 0;
  const resumed = await measureSteps(toyModel(), profile, texts, { ...options, known, onTokens: (n) => again += n });
  assertEquals(resumed, measured);
  assertEquals(again, tokens / 2);

  // The curve goes into the file, and finds the step of a KL.
  const stored = requireProfile(await parseProfile(await serializeProfile({ ...profile, curve })), "kvz");
  assertEquals(stored.curve, curve);
  assertEquals(stored.fingerprint, profile.fingerprint);
  const codec = await openCodec(stored);
  try {
    const size = async (maxKl: number) =>
      (await codec.compress(syntheticCache(300, { seed: 9 }), { recipe: "kvz", maxKl })).bytes.length;
    assert(await size(curve[2].kl) > await size(curve[0].kl));
  } finally {
    await codec.close();
  }
});

Deno.test("noise in the measurement is pooled, so that KL falls strictly", () => {
  const of = (s: number, kl: number, text = "a") => ({ text, s, kl, bits: s });
  assertEquals(curveOf([of(10, 4), of(20, 2), of(30, 1)]).map(({ kl }) => kl), [4, 2, 1]);
  const pooled = curveOf([of(30, 0.5), of(20, 2), of(10, 1), of(40, 0.25)]);
  assertEquals(pooled.map(({ s }) => s), [15, 30, 40]);
  assertAlmostEquals(pooled[0].kl, Math.SQRT2, 1e-12);
  assertEquals(pooled[0].bits, 15);
  assertEquals(curveOf([of(1, 1), of(1, 3, "b")]), [{ s: 1, kl: 2, bits: 1 }]);
  assertThrows(() => curveOf([of(1, 1), of(1, 3, "b"), of(2, 1)]), RangeError, "step s 2 has 1 measurements");
  assertThrows(() => curveOf([of(1, 0)]), RangeError, "mean KL of 0");
});

Deno.test("the default steps are those of training and the finest", () => {
  const stepSets = [10, 40, 70].map((s) => ({ s, rho32: new Int8Array(), logSigma: new Int16Array() }));
  assertEquals(curveSteps({ stepSets, finestS: 50 }), [10, 40, 50, 70]);
  assertEquals(curveSteps({ stepSets, finestS: 70 }), [10, 40, 70]);
});

Deno.test("measurements without texts, steps or tokens are refused", async () => {
  const profile = await smallKvzProfile();
  const model = toyModel();
  await assertRejects(() => measureSteps(model, profile, []), RangeError, "found 0 texts");
  await assertRejects(() => measureSteps(model, profile, texts, { steps: [] }), RangeError, "0 steps");
  await assertRejects(() => measureSteps(model, profile, [texts[0], texts[0]]), RangeError, "different names");
  await assertRejects(() => measureSteps(model, profile, texts, { context: 1 }), RangeError, "context 1");
  await assertRejects(
    () => measureSteps(model, profile, texts, { context: 210, continuation: 20 }),
    RangeError,
    "has 221 tokens",
  );
});
