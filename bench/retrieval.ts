/**
 * Scores of the retrieval tasks on a real model: what it finds without compression, after recipe kvtc, and after a
 * zeroed cache. Every text gives `--passages` prompts a task and context, each with a seed of its own.
 *
 *     deno run -A bench/retrieval.ts --model models/smollm2 --texts FILE[:BEGIN-END],… [--profile P.kvzp]
 *       [--contexts 512,1024] [--tasks key-value,needle] [--passages 2] [--ratios 8,16,32,64] [--json]
 *
 * Without `--profile` only the controls are scored; with `--plain` nothing but the original cache.
 *
 * @module
 */
import { parseTextSpec, readText } from "../cli/eval/texts.ts";
import { loadModel } from "../cli/model_input.ts";
import { openCodec } from "../src/codec/open.ts";
import { prefill } from "../src/eval/evaluate.ts";
import { CONTROLS, type Method, recipeMethod } from "../src/eval/method.ts";
import { buildRetrieval, RETRIEVAL_CONTEXTS, scoreRetrieval } from "../src/eval/retrieval.ts";
import { RETRIEVAL_TASKS } from "../src/eval/retrieval_facts.ts";
import { evaluateRetrievalPrompt, type RetrievalOutcome, summarizeRetrieval } from "../src/eval/retrieval_run.ts";
import { loadProfile } from "../src/profile/load.ts";
import { flag, option } from "./inputs.ts";

const list = (name: string, otherwise: string) => option(name, otherwise).split(",").filter((part) => part !== "");
const contexts = list("contexts", RETRIEVAL_CONTEXTS.join(",")).map(Number);
const tasks = RETRIEVAL_TASKS.filter((task) => list("tasks", RETRIEVAL_TASKS.join(",")).includes(task));
const passages = Number(option("passages", "2"));
const specs = list("texts", "");
if (specs.length === 0) throw new TypeError("Cannot run retrieval benchmark: --texts FILE[:BEGIN-END],… is missing");

const { model } = await loadModel(option("model", "models/smollm2"));
const profilePath = option("profile", "");
const codec = profilePath === "" ? null : await openCodec(await loadProfile(await Deno.readFile(profilePath)));
const methods: Method[] = [
  ...CONTROLS,
  ...(codec === null
    ? []
    : list("ratios", "8,16,32,64").map((ratio) => recipeMethod(codec, "kvtc", { ratio: +ratio }))),
];

const outcomes: (RetrievalOutcome & { readonly text: string })[] = [];
for (const spec of specs) {
  const text = await readText(parseTextSpec(spec));
  const name = spec.replace(/^.*\//, "");
  for (const context of contexts) {
    for (const task of tasks) {
      for (let passage = 0; passage < passages; passage++) {
        const begin = Math.floor(text.length * passage / passages);
        const prompt = buildRetrieval(model, task, { text: text.slice(begin), context, seed: passage });
        const add = (outcome: RetrievalOutcome) => void outcomes.push({ ...outcome, text: name });
        if (flag("plain")) {
          const before = await scoreRetrieval(model, await prefill(model, prompt.prompt), prompt.questions);
          add({ task, context, method: "original", setting: "", fileRatio: null, before, after: before });
        } else {
          await evaluateRetrievalPrompt(model, task, prompt, { dtype: "f16", methods, onOutcome: add });
        }
        console.error(`${name} ${task} ${context} ${passage + 1}/${passages}`);
      }
    }
  }
}
const rows = ["all texts", ...new Set(outcomes.map(({ text }) => text))].flatMap((name) =>
  summarizeRetrieval(outcomes.filter(({ text }) => name === "all texts" || text === name)).map((point) => ({
    text: name,
    ...point,
  }))
);
if (flag("json")) console.log(JSON.stringify(rows));
else {
  console.table(rows.map(({ logProbability, ...row }) => ({
    ...row,
    before: row.before.toFixed(3),
    after: row.after.toFixed(3),
    "log p before": logProbability.before.toFixed(3),
    "log p after": logProbability.after.toFixed(3),
    fileRatio: row.fileRatio?.toFixed(2) ?? "–",
  })));
}
await codec?.close();
await model[Symbol.asyncDispose]();
