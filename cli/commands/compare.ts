/**
 * `kvz compare`: all methods on one model, the same caches and one table.
 *
 * @module
 */
import type { Command } from "commander";
import { chooseRecipe } from "../../src/codec/encode.ts";
import { readDecode } from "../../src/eval/decode_option.ts";
import { listRecipes } from "../../src/recipes/registry.ts";
import { defaultSettings } from "../compare/defaults.ts";
import { artefactBytes, type LeftOut, splitByNeeds } from "../compare/needs.ts";
import { isComparePage, renderComparePage } from "../compare/page.ts";
import type { CompareResult } from "../compare/result.ts";
import { contextsOf, heads, rowsOf, titleOf } from "../compare/tables.ts";
import type { CliContext } from "../context.ts";
import {
  addEvaluationOptions,
  type Artefacts,
  type EvaluationFlags,
  evaluationRequest,
  openModel,
  readArtefacts,
  readEvaluationFlags,
  withMap,
} from "../eval/options.ts";
import { evaluate, type Setting } from "../eval/run.ts";
import { UsageError } from "../exit_codes.ts";
import { writeOutput } from "../files.ts";
import { formatTable } from "../format.ts";
import { addBackendOptions, addJsonOption, addModelOptions } from "../options.ts";
import { readPlotLibrary } from "../page/library.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";
import { asUsageLater } from "../usage.ts";

/** Adds the command. */
export function addCompare(program: Command, context: CliContext): void {
  const command = program.command("compare")
    .description("run all recipes on a model and the same texts: one table and one plot of size, loss, time and needs");
  addEvaluationOptions(
    command,
    "every recipe in the settings of its paper; those that lack what they need are named",
    "compare.html",
  );
  addModelOptions(command, "capture");
  addBackendOptions(command);
  addJsonOption(command).action((flags) => scoped((scope) => run(context, scope, readEvaluationFlags(flags))));
}

async function run(context: CliContext, scope: Scope, flags: EvaluationFlags): Promise<void> {
  const { output, json } = flags;
  const artefacts = await readArtefacts(flags);
  const { profiles } = artefacts;
  const wanted = flags.method ?? await defaultSettings(profiles);
  await checkOptions(wanted, flags);
  const loaded = await openModel(flags, profiles, scope);
  const { ready, leftOut } = await splitByNeeds(withMap(wanted, artefacts, loaded), artefacts, loaded.model);
  if (ready.length === 0) {
    const reasons = leftOut.map(({ method, reason }) => `${method}: ${reason}`).join("; ");
    throw new UsageError(`Cannot compare: nothing is left to run (${reasons})`);
  }
  const request = await evaluationRequest(flags, loaded, profiles, ready);
  const progress = progressLine("compare", "tokens");
  const failures: LeftOut[] = [];
  const evaluated = await evaluate({
    ...request,
    signal: context.signal,
    onProgress: json ? () => {} : progress.update,
    onFailure: ({ method, setting, text, error }) =>
      void failures.push({ method, setting, reason: `${text}: ${error.message}` }),
  }).finally(progress.end);
  const result: CompareResult = {
    ...evaluated,
    recipes: await comparedRecipes(evaluated.summaries.map(({ method }) => method), artefacts),
    leftOut: [...leftOut, ...failures],
  };
  const library = await readPlotLibrary();
  await writeOutput(
    output,
    flags.force ?? await isComparePage(output),
    (sink) => Promise.resolve(sink.write(new TextEncoder().encode(renderComparePage(result, library)))),
  );
  await context.finish({ json }, { page: output, ...result }, [
    ...describe(result),
    ...(request.heldOut
      ? []
      : ["A profile holds no hashes of its calibration texts: whether these were among them is unknown."]),
    `Page with plot: ${output}`,
  ]);
}

/** What recipes say of options, before any work begins. What they lack is for later. */
async function checkOptions(settings: readonly Setting[], { map }: EvaluationFlags): Promise<void> {
  for (const { recipe, options } of settings) {
    await asUsageLater(async () => chooseRecipe({ ...(await readDecode(recipe, options)).own, recipe }, null));
  }
  if (map !== undefined && !settings.some(({ recipe }) => recipe === "kvsharer")) {
    throw new UsageError("Cannot use --map: kvsharer is not among the methods");
  }
}

async function comparedRecipes(names: readonly string[], { bytes }: Artefacts): Promise<CompareResult["recipes"]> {
  const recipes = (await listRecipes()).filter(({ name }) => names.includes(name));
  return recipes.map((recipe) => ({
    name: recipe.name,
    description: recipe.description,
    needs: [...recipe.needs],
    artefactBytes: artefactBytes(recipe, bytes),
  }));
}

function describe(result: CompareResult): string[] {
  const names = result.leftOut.map(({ method, setting }) => `${method} ${setting}`.trim());
  const width = Math.max(0, ...names.map((name) => name.length));
  return [
    result.geometry,
    `${result.texts.map(({ name }) => name).join(", ")}; ${result.backend}`,
    ...contextsOf(result).flatMap((context) => [
      "",
      titleOf(result, context),
      "",
      ...formatTable(heads(result), rowsOf(result, context).map(({ cells }) => cells)),
    ]),
    ...(names.length === 0 ? [] : ["", "Left out:"]),
    ...result.leftOut.map(({ reason }, i) => `  ${names[i].padEnd(width)}  ${reason}`),
    "",
  ];
}
