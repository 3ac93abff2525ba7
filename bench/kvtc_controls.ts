/**
 * Positive controls of KVTC on a real model: what the paper's ablations say must show here too, in the errors of the
 * tensors and in what the model says after the restored cache. Truncated PCA over 1 … all layers (Table 16), the
 * quantizer against truncation (Table 15), sinks (Table 6), the gain of DEFLATE (Table 14).
 *
 *     deno run -A bench/kvtc_controls.ts --profile P.kvzp --statistics P.kvzs --texts a.txt,b.txt:0-9000,c.jsonl:1-99
 *         [--model models/smollm2] [--context 1024] [--continuation 512] [--window 128] [--ratios 8,16,32,64]
 *         [--layers 1,2,5,10,15,30] [--sinks 4,0] [--json FILE]
 *
 * The profile is a whole one (not trimmed), the statistics are of the same caches (`kvz calibrate --recipe kvtc
 * --partial`). Every variant keeps the oldest tokens in FP8 and the window bit-exact, as the codec does; truncation keeps as many as
 * `--sinks` names first.
 *
 * @module
 */
import { loadModel } from "../cli/model_input.ts";
import { checkHeldOut, loadTexts, parseTextSpec } from "../cli/eval/texts.ts";
import type { Codec } from "../src/codec/codec.ts";
import { inspect } from "../src/codec/inspect.ts";
import { openCodec } from "../src/codec/open.ts";
import { evaluateText } from "../src/eval/evaluate.ts";
import { CONTROLS, describeSetting, type Method } from "../src/eval/method.ts";
import type { EvalPoint } from "../src/eval/point.ts";
import { readPartial } from "../src/profile/partial.ts";
import { parseProfile } from "../src/profile/profile.ts";
import { requireProfile } from "../src/profile/require.ts";
import type { KvtcProfile } from "../src/profile/types.ts";
import { deflateGain } from "./controls/deflate_gain.ts";
import { fitLayerGroups, profileBasis } from "./controls/layer_groups.ts";
import { digits, markdown, meanTable, pointTable, ratioMatrix } from "./controls/tables.ts";
import { truncationMethod } from "./controls/truncation.ts";
import { option } from "./inputs.ts";

const context = Number(option("context", "1024"));
const continuation = Number(option("continuation", "512"));
const window = Number(option("window", "128"));
const ratios = option("ratios", "8,16,32,64").split(",").map(Number);
const layerCounts = option("layers", "1,2,5,10,15,30").split(",").map(Number);
const sinkCounts = option("sinks", "4,0").split(",").map(Number);
const [sinks] = sinkCounts;
const note = (text: string) => console.error(`${(performance.now() / 1000).toFixed(0)} s  ${text}`);

interface Gain {
  readonly text: string;
  readonly setting: string;
  readonly key: number;
  readonly value: number;
  readonly both: number;
}

/** The codec's own method; also notes what DEFLATE gained. */
function codedMethod(codec: Codec, options: { ratio: number; sinks: number }, gains: Omit<Gain, "text">[]): Method {
  const setting = describeSetting({ ...options });
  return {
    name: "kvtc",
    setting,
    options,
    usesProfile: false,
    async run(cache) {
      const { bytes, report } = await codec.compress(cache, { ...options, window });
      const restored = await codec.decompress(bytes);
      const { regions } = await inspect(bytes);
      gains.push({ setting, ...deflateGain(profile, options.ratio, regions.coded, report.streams) });
      return {
        cache: restored.cache,
        ratios: { target: report.targetRatio, paper: report.paperRatio, file: report.fileRatio },
        bytes: bytes.length,
        regions,
        seconds: { compress: report.seconds, restore: restored.report.seconds },
      };
    },
  };
}

async function truncationMethods(profile: KvtcProfile): Promise<Method[]> {
  const statistics = await readPartial(await Deno.readFile(option("statistics", "smollm2.kvzs")));
  if (statistics.shingles.join() !== profile.shingles.join()) {
    throw new Error("Cannot compare layer groups: the statistics and the profile are of different texts");
  }
  const { layers } = profile.model;
  const whole = { key: profileBasis(profile.kinds.key, layers), value: profileBasis(profile.kinds.value, layers) };
  // What is left when coded tokens say nothing: settings near it have lost them.
  const methods = [truncationMethod(whole, { ratio: Infinity, sinks, window })];
  for (const count of layerCounts) {
    const bases = async (kind: "key" | "value") => {
      if (count === layers) return whole[kind];
      const perGroup = Math.floor(profile.kinds[kind].features / Math.min(...ratios) / (layers / count));
      return await fitLayerGroups(statistics, kind, count, perGroup);
    };
    const fitted = { key: await bases("key"), value: await bases("value") };
    note(`fitted bases of ${count} layers`);
    methods.push(...ratios.map((ratio) => truncationMethod(fitted, { ratio, sinks, window })));
  }
  return methods;
}

const profile = requireProfile(await parseProfile(await Deno.readFile(option("profile", "smollm2.kvzp"))), "kvtc");
await using codec = await openCodec(profile, { threads: 2 });
const { model } = await loadModel(option("model", "models/smollm2"));
await using _model = model;
const specs = option("texts", "").split(",").map(parseTextSpec);
const texts = await loadTexts(specs, model, context + continuation + 1, 1);
if (!checkHeldOut(texts, profile)) throw new Error("Cannot keep texts apart: the profile holds no hashes of its texts");

const ofText: Omit<Gain, "text">[] = [];
const methods = [
  ...CONTROLS,
  ...sinkCounts.flatMap((sinks) => ratios.map((ratio) => codedMethod(codec, { ratio, sinks }, ofText))),
  ...await truncationMethods(profile),
];
const points: EvalPoint[] = [];
const gains: Gain[] = [];
for (const { name, ids } of texts) {
  await evaluateText(model, name, ids, {
    context,
    continuation,
    dtype: "f16",
    methods,
    onPoint: (point) => {
      points.push(point);
      note(`${name}, ${point.method} ${point.setting}: KL ${digits(point.agreement.kl)}`);
    },
  });
  gains.push(...ofText.splice(0).map((gain) => ({ text: name, ...gain })));
}

/** Errors of the first stretch of tokens, which holds the sinks. */
const first = (point: EvalPoint) =>
  [point.errors.key.positions[0], point.errors.value.positions[0]].map(digits).join(" / ");
const of = (name: string, setting: string) => points.filter((p) => p.method === name && p.setting === setting);

console.log(`\nKL / perplexity / K error / V error, means over ${texts.length} texts, window ${window}\n`);
console.log(ratioMatrix(points, [
  ...layerCounts.map((count) => ({
    name: `truncation, PCA of ${count === 1 ? "1 layer" : `${count} layers`}`,
    has: ({ method, options }: EvalPoint) => method === "truncation" && options.layersPerGroup === count,
  })),
  ...sinkCounts.map((count) => ({
    name: `kvtc, sinks ${count}`,
    has: ({ method, options }: EvalPoint) => method === "kvtc" && options.sinks === count,
  })),
], ratios));
console.log(`\nSinks: K / V error of the first ${Math.ceil(context / 128)} tokens, sinks included\n`);
console.log(markdown(
  ["text", ...ratios.flatMap((ratio) => sinkCounts.map((count) => `${ratio}×, sinks ${count}`))],
  texts.map(({ name }) => [
    name,
    ...ratios.flatMap((ratio) =>
      sinkCounts.map((count) => {
        const [point] = of("kvtc", describeSetting({ ratio, sinks: count })).filter(({ text }) => text === name);
        return first(point);
      })
    ),
  ]),
));
console.log("\nGain of DEFLATE over codes, shifts and scales, and V error ÷ K error\n");
console.log(markdown(
  ["text", "setting", "K", "V", "both", "V error ÷ K error"],
  gains.map(({ text, setting, key, value, both }) => {
    const [{ errors }] = of("kvtc", setting).filter((point) => point.text === text);
    return [text, setting, digits(key), digits(value), digits(both), digits(errors.value.coded! / errors.key.coded!)];
  }),
));
console.log("\nMeans over the texts\n");
console.log(meanTable(points));
for (const { name } of texts) {
  console.log(`\n${name}\n`);
  console.log(pointTable(points.filter(({ text }) => text === name)));
}
const json = option("json", "");
if (json !== "") await Deno.writeTextFile(json, JSON.stringify({ context, continuation, window, points, gains }));
