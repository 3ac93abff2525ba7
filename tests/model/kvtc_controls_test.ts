/**
 * Positive controls of KVTC in what SmolLM2 says after a restored cache, on the text of the sample: settings that the
 * paper finds worse must be worse here. Needs `deno task model`; the same for the tensors alone, without a model, is
 * tests/codec/kvtc_controls_test.ts, and all settings on longer texts bench/kvtc_controls.ts.
 */
import { assert, assertEquals, assertLess } from "deno-std/assert";
import { fitLayerGroups, profileBasis } from "../../bench/controls/layer_groups.ts";
import { truncationMethod } from "../../bench/controls/truncation.ts";
import { loadModel } from "../../cli/model_input.ts";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { openCodec } from "../../src/codec/open.ts";
import { evaluateText } from "../../src/eval/evaluate.ts";
import { CONTROLS, recipeMethod } from "../../src/eval/method.ts";
import type { EvalPoint } from "../../src/eval/point.ts";
import { calibratePartial } from "../../src/profile/calibrate.ts";
import { loadProfile } from "../../src/profile/load.ts";
import { requireProfile } from "../../src/profile/require.ts";

const MODEL = "models/smollm2";
const RATIO = 32;
const CONTEXT = 191;
const CONTINUATION = 64;
const options = { ratio: RATIO, sinks: 4, window: 32 };

async function measure(): Promise<Record<string, EvalPoint>> {
  const profile = requireProfile(await loadProfile(await Deno.readFile("samples/smollm2-demo.kvzp")), "kvtc");
  const sample = await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));
  // As in tests/codec: single layers are fitted on the tokens that they are to restore, all layers on other texts.
  const statistics = await calibratePartial([sample.slice(0, CONTEXT)], { threads: 1 });
  const single = (kind: "key" | "value") => fitLayerGroups(statistics, kind, 1, 192 / RATIO);
  const all = (kind: "key" | "value") => profileBasis(profile.kinds[kind], profile.model.layers);
  await using codec = await openCodec(profile);
  const { model } = await loadModel(MODEL);
  await using _model = model;
  const points: EvalPoint[] = [];
  await evaluateText(model, "sample", sample.inputIds!, {
    context: CONTEXT,
    continuation: CONTINUATION,
    dtype: "f16",
    methods: [
      ...CONTROLS,
      recipeMethod(codec, "kvtc", options),
      recipeMethod(codec, "kvtc", { ...options, sinks: 0 }),
      truncationMethod({ key: all("key"), value: all("value") }, options),
      truncationMethod({ key: await single("key"), value: await single("value") }, options),
    ],
    onPoint: (point) => void points.push(point),
  });
  const [untouched, zeroed, quantized, noSinks, allLayers, singleLayers] = points;
  return { untouched, zeroed, quantized, noSinks, allLayers, singleLayers };
}

Deno.test("KL after the restored cache: quantizer < truncation over all layers < truncation of single layers", async () => {
  const points = await measure();
  const kl = Object.fromEntries(Object.entries(points).map(([name, { agreement }]) => [name, agreement.kl]));
  assertEquals(points.untouched.agreement.tokens, CONTINUATION);
  // Measured 0, .041 (without sinks .743), .123, .402, 4.5.
  assertLess(kl.untouched, 1e-5);
  assertLess(kl.quantized * 1.5, kl.allLayers);
  assertLess(kl.allLayers * 1.5, kl.singleLayers);
  assertLess(kl.singleLayers, kl.zeroed);
  // The profile was fitted without sinks, and the basis holds little of them.
  assertLess(kl.quantized * 3, kl.noSinks);
  const { key, value } = points.quantized.errors;
  assert(value.coded! > 1.5 * key.coded!);
});
