/**
 * Recipe kvz-free against the other recipes that need no profile, in what a model says after the restored cache. Ratios
 * are those of whole files; the others keep the same oldest tokens as they are that kvz-free keeps in FP8, which their
 * papers do not.
 *
 *     deno run -A bench/profile_free.ts --texts a.txt,b.txt:0-9000,c.jsonl:1-99 [--model models/smollm2]
 *         [--context 1024] [--continuation 256] [--sinks 4] [--steps 0.1,0.15,0.22,0.32,0.43] [--only kvz-free,q4_0]
 *         [--journal FILE.jsonl]
 *
 * A journal keeps every point as it is measured; run again, what it holds is not measured anew.
 *
 * @module
 */
import { loadTexts, parseTextSpec } from "../cli/eval/texts.ts";
import { loadModel } from "../cli/model_input.ts";
import { openCodec } from "../src/codec/open.ts";
import { evaluateText } from "../src/eval/evaluate.ts";
import type { EvalPoint } from "../src/eval/point.ts";
import { digits, markdown } from "./controls/tables.ts";
import { option } from "./inputs.ts";
import { profileFreeMethods } from "./profile_free_methods.ts";

const context = Number(option("context", "1024"));
const continuation = Number(option("continuation", "256"));
const sinks = Number(option("sinks", "4"));
const steps = option("steps", "0.1,0.15,0.22,0.32,0.43").split(",").map(Number);
const only = option("only", "").split(",").filter((name) => name !== "");
const note = (text: string) => console.error(`${(performance.now() / 1000).toFixed(0)} s  ${text}`);

await using codec = await openCodec(null, { threads: 1 });
const { model } = await loadModel(option("model", "models/smollm2"));
await using _model = model;
const texts = await loadTexts(option("texts", "").split(",").map(parseTextSpec), model, context + continuation + 1, 1);
const methods = profileFreeMethods(codec, steps, sinks).filter(({ name }) => only.length === 0 || only.includes(name));
const journal = option("journal", "");
const kept = journal === "" ? "" : await Deno.readTextFile(journal).catch(() => "");
const points: EvalPoint[] = kept.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
for (const { name, ids } of texts) {
  const left = methods.filter((m) =>
    !points.some((p) => p.text === name && p.method === m.name && p.setting === m.setting && p.context === context)
  );
  if (left.length === 0) continue;
  await evaluateText(model, name, ids, {
    context,
    continuation,
    dtype: "f16",
    methods: left,
    onPoint: async (point) => {
      points.push(point);
      if (journal !== "") await Deno.writeTextFile(journal, `${JSON.stringify(point)}\n`, { append: true });
      const { method, setting, ratios, agreement, errors } = point;
      note(
        `${name}, ${method} ${setting}: ratio ${digits(ratios.file)}, KL ${digits(agreement.kl)}, errors ` +
          `${digits(errors.key.coded)} ${digits(errors.value.coded)}`,
      );
    },
  });
}

const geometric = (values: readonly number[]) =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const rows = methods.map(({ name, setting }) => {
  const of = points.filter((point) => point.method === name && point.setting === setting);
  return {
    name,
    setting,
    ratio: geometric(of.map(({ ratios }) => ratios.file!)),
    kl: mean(of.map(({ agreement }) => agreement.kl)),
    worst: Math.max(...of.map(({ agreement }) => agreement.kl)),
    top: mean(of.map(({ agreement }) => agreement.topOne)),
  };
});

/** KL of kvz-free at a ratio, by straight lines through the logarithms; null outside its settings. */
function ownKl(ratio: number): number | null {
  const own = rows.filter(({ name }) => name === "kvz-free").sort((a, b) => a.ratio - b.ratio);
  for (let i = 1; i < own.length; i++) {
    const [a, b] = [own[i - 1], own[i]];
    if (ratio < a.ratio || ratio > b.ratio) continue;
    return a.kl * (b.kl / a.kl) ** (Math.log(ratio / a.ratio) / Math.log(b.ratio / a.ratio));
  }
  return null;
}

console.log(`\nMeans over ${texts.length} texts, context ${context}, continuation ${continuation}\n`);
console.log(markdown(
  ["method", "setting", "ratio", "KL", "worst text", "same top token", "KL of kvz-free at this ratio"],
  rows.map(({ name, setting, ratio, kl, worst, top }) => [
    name,
    setting,
    ratio.toFixed(2),
    digits(kl),
    digits(worst),
    `${(100 * top).toFixed(1)} %`,
    name === "kvz-free" ? "" : ownKl(ratio) === null ? "–" : digits(ownKl(ratio)),
  ]),
));
console.log(`\nKL of kvz-free at ratios 4 … 8: ${[4, 5, 6, 7, 8].map((r) => `${r}: ${digits(ownKl(r))}`).join(", ")}`);
