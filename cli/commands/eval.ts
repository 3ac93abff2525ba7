/**
 * `kvz eval`: what a model says after its cache was compressed and restored.
 *
 * @module
 */
import type { Command } from "commander";
import { chooseRecipe } from "../../src/codec/encode.ts";
import { readDecode } from "../../src/eval/decode_option.ts";
import type { EvalResult, EvalSummary } from "../../src/eval/point.ts";
import { servedModel } from "../../src/profile/served.ts";
import type { Profile } from "../../src/profile/types.ts";
import { createBackend, hostOptions } from "../../src/backend/select.ts";
import { QUALITIES } from "../../src/recipes/kvz.ts";
import type { CliContext } from "../context.ts";
import { profileFor } from "../eval/codec_pool.ts";
import {
  addEvaluationOptions,
  type EvaluationFlags,
  evaluationRequest,
  openModel,
  readArtefacts,
  readEvaluationFlags,
  withMap,
} from "../eval/options.ts";
import { isEvalPage, renderEvalPage } from "../eval/page.ts";
import { evaluate, type Setting } from "../eval/run.ts";
import { UsageError } from "../exit_codes.ts";
import { writeOutput } from "../files.ts";
import { formatError, formatRatio, formatSeconds, formatTable } from "../format.ts";
import { addBackendOptions, addJsonOption, addModelOptions } from "../options.ts";
import { readPlotLibrary } from "../page/library.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";
import { asUsageLater } from "../usage.ts";

/** Ratios of a recipe when the user names none and the profile serves any. */
const RATIOS = [8, 16, 32, 64];

/** Adds the command. */
export function addEval(program: Command, context: CliContext): void {
  const command = program.command("eval")
    .description(
      "measure what a model says after its cache was compressed and restored: perplexity, KL, errors, ratios",
    );
  addEvaluationOptions(
    command,
    "those of the profile: kvz at its qualities, or kvtc at ratios 8, 16, 32, 64 or those of a trimmed profile",
    "eval.html",
  );
  addModelOptions(command);
  addBackendOptions(command);
  addJsonOption(command).action((flags) => scoped((scope) => run(context, scope, readEvaluationFlags(flags))));
}

/** The settings asked for, checked against recipes before any work begins. */
async function chooseSettings(flags: EvaluationFlags, profiles: readonly Profile[]): Promise<readonly Setting[]> {
  const settings = flags.method ?? profiles.flatMap(defaultSettings);
  if (settings.length === 0) {
    throw new UsageError("Cannot evaluate without a method: -m names some (see kvz recipes), or -p a profile");
  }
  for (const { recipe, options } of settings) {
    const named = profiles.find(({ method }) => method === recipe) ?? null;
    const chosen = await asUsageLater(async () =>
      chooseRecipe({ ...(await readDecode(recipe, options)).own, recipe }, named)
    );
    const profile = profileFor(chosen.recipe, profiles);
    if (profile === undefined) {
      throw new UsageError(`Cannot use recipe ${recipe} without a profile for it: -p names one (.kvzp)`);
    }
    // It comes with the model.
    if (chosen.recipe.needs.includes("map") && options.map === undefined) continue;
    // A trimmed profile may lack the components for a ratio.
    if (profile === null || options.fileRatio !== undefined) continue;
    const facts = {
      model: servedModel(profile),
      storedDType: flags.dtype,
      dtype: flags.dtype,
      openBackend: () => createBackend(hostOptions()),
    };
    await chosen.recipe.planSetup(profile, facts, chosen.recipeOptions);
  }
  return settings;
}

function defaultSettings(profile: Profile): Setting[] {
  if (profile.method === "kvz") return QUALITIES.map((quality) => ({ recipe: "kvz", options: { quality } }));
  if (profile.method !== "kvtc") return [{ recipe: profile.method, options: {} }];
  const { ratios } = profile.calibration;
  return (ratios.length > 0 ? ratios : RATIOS).map((ratio) => ({ recipe: "kvtc", options: { ratio } }));
}

async function run(context: CliContext, scope: Scope, flags: EvaluationFlags): Promise<void> {
  const { output, json } = flags;
  const artefacts = await readArtefacts(flags);
  const { profiles } = artefacts;
  const chosen = await chooseSettings(flags, profiles);
  const loaded = await openModel(flags, profiles, scope);
  const request = await evaluationRequest(flags, loaded, profiles, withMap(chosen, artefacts, loaded));
  const progress = progressLine("eval", "tokens");
  const result = await evaluate({
    ...request,
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
    ...(request.heldOut
      ? []
      : ["A profile holds no hashes of its calibration texts: whether these were among them is unknown."]),
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
  const decoded = summaries.some(({ decodedRatio }) => decodedRatio !== undefined);
  return formatTable(
    [
      "method",
      "paper",
      "file",
      ...(decoded ? ["decoded"] : []),
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
      ...(decoded ? [formatRatio(s.decodedRatio ?? null)] : []),
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
