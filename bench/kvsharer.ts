/**
 * KVSharer's claim on a model: sharing the most dissimilar layers costs less than sharing similar ones or any. Layers are
 * searched in each order on sentences of one text, the maps are measured on others, as far as `--shared` goes and at half of
 * it: the prompt read with the layers shared (as the paper runs models) and read without (as a cache from elsewhere is).
 *
 *     deno run -A bench/kvsharer.ts --model models/smollm2 --sentences A.txt --texts B.txt [--count 30] [--shared 8]
 *       [--context 512] [--continuation 256] [--seeds 2]
 *
 * @module
 */
import process from "node:process";
import { cutSentences } from "../cli/calibrate/sequences.ts";
import { loadTexts, parseTextSpec } from "../cli/eval/texts.ts";
import { loadModel } from "../cli/model_input.ts";
import { openCodec } from "../src/codec/open.ts";
import { evaluateText } from "../src/eval/evaluate.ts";
import { type Method, recipeMethod } from "../src/eval/method.ts";
import type { EvalPoint } from "../src/eval/point.ts";
import { measureLayers, searchSharing, type SharingOrder, type TriedPair } from "../src/eval/sharing_search.ts";
import { summarize } from "../src/eval/summary.ts";
import { formatLayerMap, ownLayers, resolveChains } from "../src/stages/sharing/layer_map.ts";
import { markdown } from "./controls/tables.ts";
import { option } from "./inputs.ts";

const shared = Number(option("shared", "8"));
const [context, continuation] = [Number(option("context", "512")), Number(option("continuation", "256"))];
const { model } = await loadModel(option("model", "models/smollm2"), { graph: "capture" });
const files = (name: string) => option(name, "README.md").split(",").map(parseTextSpec);
const sentences = await cutSentences(files("sentences"), model, 64, Number(option("count", "30")));
const texts = await loadTexts(files("texts"), model, context + continuation + 1, 1);

/** The map after so many layers were accepted. */
function mapAfter(tried: readonly TriedPair[], count: number): number[] {
  let map = ownLayers(model.spec.layers);
  for (const { layer, source } of tried.filter(({ accepted }) => accepted).slice(0, count)) {
    map = resolveChains(map.map((from, at) => at === layer ? source : from));
  }
  return map;
}

const say = (line: string) => process.stderr.write(`${line}\n`);
say(`reading ${sentences.length} sentences`);
const measured = await measureLayers(model, sentences);
const orders: { name: string; order: SharingOrder; seed: number }[] = [
  { name: "dissimilar", order: "dissimilar", seed: 0 },
  { name: "similar", order: "similar", seed: 0 },
  ...Array.from({ length: Number(option("seeds", "2")) }, (_, i) => ({
    name: `random ${i + 1}`,
    order: "random" as const,
    seed: i + 1,
  })),
];
await using codec = await openCodec(null, { threads: 1 });
const methods: Method[] = [];
for (const { name, order, seed } of orders) {
  const { tried } = await searchSharing(model, sentences, measured, { shared, order, seed });
  for (const count of [Math.floor(shared / 2), shared]) {
    const map = formatLayerMap(mapAfter(tried, count));
    const refused = tried.filter(({ accepted }) => !accepted).length;
    const cosine = tried.filter(({ accepted }) => accepted)[count - 1]?.similarity ?? NaN;
    say(`${name}, ${count} layers: ${map}, cosine ${cosine.toFixed(4)}, ${refused} pairs refused`);
    const method = recipeMethod(codec, "kvsharer", { map });
    // Its options tell settings apart; the page has the order.
    methods.push({ ...method, name: `${name}, ${count}`, setting: "prompt shared too" });
    const { layerSource: _, ...late } = method;
    methods.push({ ...late, name: `${name}, ${count}`, setting: "prompt read without" });
  }
}
const points: EvalPoint[] = [];
for (const { name, ids } of texts) {
  say(`evaluating ${methods.length} settings on ${name}`);
  await evaluateText(model, name, ids, {
    ...{ context, continuation, dtype: "f16", methods },
    onPoint: (point) => {
      points.push(point);
      say(`  ${point.method} ${point.setting}: KL ${point.agreement.kl.toPrecision(4)}`);
    },
  });
}
const rows = summarize(points).map(({ method, setting, ratios, perplexityBefore, perplexityAfter, kl, topOne }) => [
  method,
  setting,
  ratios.file!.toFixed(3),
  perplexityBefore.toFixed(2),
  perplexityAfter.toFixed(2),
  kl.toFixed(4),
  `${(100 * topOne).toFixed(1)} %`,
]);
console.log(markdown(["order, layers", "prompt", "file ratio", "ppl before", "after", "KL", "top-1"], rows));
await model[Symbol.asyncDispose]();
