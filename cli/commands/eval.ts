/**
 * `kvz eval`: what a model says after its cache was compressed and restored.
 *
 * @module
 */
import type { Command } from "commander";
import { resolveModel } from "../../src/cache/fingerprint.ts";
import type { DType } from "../../src/cache/types.ts";
import { chooseRecipe } from "../../src/codec/encode.ts";
import { type Method, parseMethodSpec } from "../../src/eval/method.ts";
import type { EvalResult, EvalSummary } from "../../src/eval/point.ts";
import type { Profile } from "../../src/profile/types.ts";
import type { CliContext } from "../context.ts";
import { isEvalPage, renderEvalPage } from "../eval/page.ts";
import { evaluate } from "../eval/run.ts";
import { checkHeldOut, loadTexts, parseTextSpec, type TextSpec } from "../eval/texts.ts";
import { UsageError } from "../exit_codes.ts";
import { writeOutput } from "../files.ts";
import { formatError, formatRatio, formatSeconds, formatTable } from "../format.ts";
import { createBackend, hostOptions } from "../../src/backend/select.ts";
import { QUALITIES } from "../../src/recipes/kvz.ts";
import { loadModel } from "../model_input.ts";
import {
  addBackendOptions,
  addJsonOption,
  addModelOptions,
  type BackendFlags,
  checkDType,
  type JsonFlag,
  laneOptions,
  type ModelFlags,
  wholeNumber,
} from "../options.ts";
import { readPlotLibrary } from "../page/library.ts";
import { addProfileOption, type ProfileFlag, readRequiredProfile } from "../profile_input.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";
import { asUsage, asUsageLater } from "../usage.ts";

type EvalFlags = BackendFlags & JsonFlag & ProfileFlag & ModelFlags & {
  readonly texts: TextSpec[];
  readonly method?: { readonly recipe: string; readonly options: Method["options"] }[];
  readonly contexts: number[];
  readonly continuation: number;
  readonly windows: number;
  readonly controls: boolean;
  readonly retrieval?: number[] | true;
  readonly prompts: number;
  readonly dtype: DType;
  readonly output: string;
  readonly force?: boolean;
  readonly fresh?: boolean;
};

/** Ratios of a recipe when the user names none and the profile serves any. */
const RATIOS = [8, 16, 32, 64];

/** Adds the command. */
export function addEval(program: Command, context: CliContext): void {
  const command = program.command("eval")
    .description(
      "measure what a model says after its cache was compressed and restored: perplexity, KL, errors, ratios",
    )
    .requiredOption("--model <folder|name>", "folder as Transformers.js lays it out, or name on the hub")
    .requiredOption(
      "--texts <file...>",
      "texts, plain or .jsonl; FILE:BEGIN-END takes a region (characters from 0; lines from 1 of .jsonl)",
    )
    .option(
      "-m, --method <spec...>",
      "recipe:option=value/value,option=value (default: kvz at its qualities, or kvtc at ratios 8, 16, 32, 64 or those of a trimmed profile)",
    )
    .option("--contexts <list>", "tokens of the cache, separated by commas", countList("--contexts"), [1024])
    .option("--continuation <n>", "tokens predicted after it", wholeNumber("--continuation", 1, 1 << 20), 512)
    .option("--windows <n>", "passages taken of each text, evenly spread", wholeNumber("--windows", 1, 1000), 1)
    .option(
      "--retrieval [contexts]",
      "also score the retrieval tasks, at these tokens of cache",
      countList("--retrieval"),
    )
    .option("--prompts <n>", "retrieval prompts built of each text", wholeNumber("--prompts", 1, 1000), 2)
    .option("--no-controls", "leave out the controls (an untouched and a zeroed cache)")
    .option("--dtype <type>", "element type in which caches are compressed: f16, bf16, f32", "f16")
    .option("-o, --output <file>", "the page; results are kept beside it in .jsonl", "eval.html")
    .option("-f, --force", "replace the page if it is there and no page of kvz eval")
    .option("--fresh", "begin anew, whatever results are kept beside the page");
  addModelOptions(command);
  addProfileOption(command);
  addBackendOptions(command);
  addJsonOption(command).action((flags) => scoped((scope) => run(context, scope, readFlags(flags))));
}

/** A parser of token counts separated by commas. */
function countList(name: string): (text: string) => number[] {
  const one = wholeNumber(name, 1, 1 << 24);
  return (text) => [...new Set(text.split(",").map((part) => one(part.trim())))].sort((a, b) => a - b);
}

/** What commander leaves as text. */
function readFlags(flags: EvalFlags & { readonly texts: string[]; readonly method?: string[] }): EvalFlags {
  checkDType(flags.dtype);
  return {
    ...flags,
    texts: flags.texts.map(parseTextSpec),
    ...(flags.method ? { method: asUsage(() => flags.method!.flatMap(parseMethodSpec)) } : {}),
  };
}

/** The settings asked for, checked against recipes before any work begins. */
async function chooseSettings(flags: EvalFlags, profile: Profile): Promise<NonNullable<EvalFlags["method"]>> {
  const trimmed = profile.method === "kvtc" ? profile.calibration.ratios : [];
  const settings: NonNullable<EvalFlags["method"]> = flags.method ??
    (profile.method === "kvcar"
      ? [{ recipe: "kvcar", options: {} }]
      : profile.method === "kvz"
      ? QUALITIES.map((quality) => ({ recipe: "kvz", options: { quality } }))
      : (trimmed.length > 0 ? trimmed : RATIOS).map((ratio) => ({ recipe: "kvtc", options: { ratio } })));
  for (const { recipe, options } of settings) {
    const chosen = await asUsageLater(() => chooseRecipe({ ...options, recipe }, profile));
    if (options.fileRatio !== undefined) continue;
    // A trimmed profile may lack the components for a ratio.
    const facts = {
      model: profile.model,
      storedDType: flags.dtype,
      dtype: flags.dtype,
      openBackend: () => createBackend(hostOptions()),
    };
    await chosen.recipe.planSetup(profile, facts, chosen.recipeOptions);
  }
  return settings;
}

async function run(context: CliContext, scope: Scope, flags: EvalFlags): Promise<void> {
  const { output, json } = flags;
  if (output === "-") throw new UsageError("Cannot write the page to standard output: -o takes a file");
  const profile = await readRequiredProfile(flags);
  const settings = await chooseSettings(flags, profile);
  const { model, identity } = await loadModel(flags.model, { graph: flags.graph, dtype: flags.weights });
  scope.use(model);
  resolveModel(model.spec, profile.model, { found: "the model", wanted: "the profile" });
  const most = Math.max(...flags.contexts) + flags.continuation;
  if (most > model.maxPositions) {
    throw new RangeError(
      `Cannot evaluate context ${
        Math.max(...flags.contexts)
      }: with ${flags.continuation} more tokens it needs ${most} ` +
        `positions, the model has ${model.maxPositions}`,
    );
  }
  const texts = await loadTexts(flags.texts, model, most + 1, flags.windows);
  const heldOut = checkHeldOut(texts, profile);
  const progress = progressLine("eval", "tokens");
  const result = await evaluate({
    model,
    identity,
    profile,
    texts,
    heldOut,
    settings,
    contexts: flags.contexts,
    continuation: flags.continuation,
    controls: flags.controls,
    retrieval: flags.retrieval ?? null,
    prompts: flags.prompts,
    dtype: flags.dtype,
    lanes: laneOptions(flags),
    journal: `${output.replace(/\.html?$/, "")}.jsonl`,
    fresh: flags.fresh ?? false,
    signal: context.signal,
    onProgress: json ? () => {} : progress.update,
  }).finally(progress.end);
  const library = await readPlotLibrary();
  const force = flags.force ?? await isEvalPage(output);
  await writeOutput(
    output,
    force,
    (sink) => Promise.resolve(sink.write(new TextEncoder().encode(renderEvalPage(result, library)))),
  );
  await context.finish({ json }, { page: output, ...result }, [
    ...describe(result),
    ...(heldOut
      ? []
      : ["The profile holds no hashes of its calibration texts: whether these were among them is unknown."]),
    `Page with plots: ${output}`,
  ]);
}

function describe(result: EvalResult): string[] {
  const contexts = [...new Set(result.summaries.map(({ context }) => context))];
  return [
    `${result.geometry}`,
    `${result.texts.map(({ name }) => name).join(", ")}; ${result.backend}`,
    ...contexts.flatMap((context) => [
      "",
      `Cache of ${context} tokens, means over ${result.texts.length} ${result.texts.length === 1 ? "text" : "texts"}`,
      "",
      ...summaryTable(result.summaries.filter((summary) => summary.context === context)),
    ]),
    ...retrievalTable(result),
    "",
  ];
}

function summaryTable(summaries: readonly EvalSummary[]): string[] {
  return formatTable(
    [
      "method",
      "paper",
      "file",
      "ppl before",
      "after",
      "KL",
      "top-1",
      "K error",
      "V error",
      "worst text",
      "its KL",
      "restore",
    ],
    summaries.map((s) => [
      `${s.method} ${s.setting}`.trim(),
      formatRatio(s.ratios.paper),
      formatRatio(s.ratios.file),
      s.perplexityBefore.toFixed(3),
      s.perplexityAfter.toFixed(3),
      formatError(s.kl),
      `${(100 * s.topOne).toFixed(1)} %`,
      formatError(s.errors.key),
      formatError(s.errors.value),
      s.worst.text,
      formatError(s.worst.kl),
      s.seconds.restore === null ? "–" : formatSeconds(s.seconds.restore),
    ]),
  );
}

function retrievalTable({ retrieval }: EvalResult): string[] {
  if (retrieval.length === 0) return [];
  const share = (value: number) => `${(100 * value).toFixed(1)} %`;
  return [
    "",
    "Retrieval: answers found",
    "",
    ...formatTable(
      ["task", "tokens", "method", "file", "questions", "before", "after", "log p before", "after"],
      retrieval.map((r) => [
        r.task,
        `${r.context}`,
        `${r.method} ${r.setting}`.trim(),
        formatRatio(r.fileRatio),
        `${r.questions}`,
        share(r.before),
        share(r.after),
        r.logProbability.before.toFixed(3),
        r.logProbability.after.toFixed(3),
      ]),
    ),
  ];
}
