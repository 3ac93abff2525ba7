/**
 * `kvz thresholds`: below which attention recipe diffkv keeps a model's tokens in low precision, and prunes them.
 *
 * @module
 */
import type { Command } from "commander";
import { modelFingerprint } from "../../src/cache/fingerprint.ts";
import type { DType } from "../../src/cache/types.ts";
import { describeModel } from "../../src/cache/describe_model.ts";
import { modelToJson } from "../../src/container/model_json.ts";
import {
  type DiffKvThresholds,
  searchThresholds,
  THRESHOLD_GRID,
  type ThresholdMeans,
  type ThresholdMeasurement,
  thresholdPairs,
} from "../../src/eval/diffkv_thresholds.ts";
import { sequenceHash } from "../../src/profile/shingles.ts";
import type { CliContext } from "../context.ts";
import { Journal, resultKey } from "../eval/journal.ts";
import { loadTexts, parseTextSpec } from "../eval/texts.ts";
import { UsageError } from "../exit_codes.ts";
import { writeOutput } from "../files.ts";
import { formatError, formatFacts, formatRatio, formatSeconds, formatTable } from "../format.ts";
import { loadModel } from "../model_input.ts";
import {
  addBackendOptions,
  addJsonOption,
  addModelOptions,
  addOutputOptions,
  type BackendFlags,
  checkDType,
  type JsonFlag,
  laneOptions,
  type ModelFlags,
  type OutputFlags,
  positiveNumber,
  wholeNumber,
} from "../options.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";
import { VERSION } from "../version.ts";

type ThresholdFlags = BackendFlags & JsonFlag & OutputFlags & ModelFlags & {
  readonly texts: string[];
  readonly maxKl: number;
  readonly alphaHigh: readonly number[];
  readonly alphaLow: readonly number[];
  readonly context: number;
  readonly continuation: number;
  readonly decode: number;
  readonly windows: number;
  readonly dtype: DType;
  readonly fresh?: boolean;
};

/** Adds the command. */
export function addThresholds(program: Command, context: CliContext): void {
  const { alphaHighs, alphaLows } = THRESHOLD_GRID;
  const command = program.command("thresholds")
    .description("search the thresholds of recipe diffkv (DiffKV) for a model: alphaHigh, then alphaLow")
    .requiredOption("--model <folder|name>", "model with a capture graph, as deno task model makes it")
    .requiredOption("--texts <file...>", "texts to calibrate on, as kvz eval takes them");
  addOutputOptions(command, "thresholds with all measurements (.json); these are kept beside it in .jsonl as they come")
    .option("--max-kl <nats>", "mean KL that the thresholds may cost", positiveNumber("--max-kl"), 0.05)
    .option("--alpha-high <list>", "values of alphaHigh to try", numbers("--alpha-high"), alphaHighs)
    .option("--alpha-low <list>", "values of alphaLow to try", numbers("--alpha-low"), alphaLows)
    .option("--context <n>", "tokens of the cache", wholeNumber("--context", 2, 1 << 24), 1024)
    .option("--continuation <n>", "tokens predicted after it", wholeNumber("--continuation", 1, 1 << 20), 256)
    .option("--decode <n>", "tokens after which the rule for decoding acts", wholeNumber("--decode", 1, 512), 16)
    .option("--windows <n>", "passages taken of each text, evenly spread", wholeNumber("--windows", 1, 1000), 1)
    .option("--dtype <type>", "element type in which caches are compressed: f16, bf16, f32", "f16")
    .option("--fresh", "begin anew, whatever measurements are kept beside the output");
  addModelOptions(command, "capture");
  addBackendOptions(command);
  addJsonOption(command).action((flags: ThresholdFlags) => scoped((scope) => run(context, scope, flags)));
}

/** A parser of numbers above 0, separated by commas. */
function numbers(name: string): (text: string) => readonly number[] {
  const one = positiveNumber(name);
  return (text) => text.split(",").map((part) => one(part.trim()));
}

async function run({ signal, finish }: CliContext, scope: Scope, flags: ThresholdFlags): Promise<void> {
  const { output, json, context, continuation, decode, dtype, maxKl } = flags;
  checkDType(dtype);
  if (output === "-") throw new UsageError("Cannot write thresholds to standard output: -o takes a file");
  const grid = { alphaHighs: flags.alphaHigh, alphaLows: flags.alphaLow };
  const begin = performance.now();
  const specs = flags.texts.map(parseTextSpec);
  const { model, identity } = await loadModel(flags.model, { graph: flags.graph, dtype: flags.weights });
  scope.use(model);
  const texts = await loadTexts(specs, model, context + continuation + 1, flags.windows);
  const progress = progressLine("thresholds", "");
  const search = await writeOutput(output, flags.force ?? false, async (sink) => {
    const journal = await Journal.open(`${output.replace(/\.json$/, "")}.jsonl`, flags.fresh ?? false);
    const used = new Map(texts.map(({ name, ids }) => [name, ids.subarray(0, context + continuation + 1)]));
    const keyOf = (text: string, { alphaHigh, alphaLow }: DiffKvThresholds) =>
      resultKey({
        ...{ version: VERSION, what: "diffkv thresholds", identity, dtype, context, continuation, decode },
        ...{ ids: sequenceHash(used.get(text)!).toString(16), alphaHigh, alphaLow },
      });
    const known = texts.flatMap(({ name }) =>
      thresholdPairs(grid).flatMap((pair): ThresholdMeasurement[] => {
        const result = journal.get(keyOf(name, pair)) as Pick<ThresholdMeasurement, "kl" | "ratio"> | undefined;
        return result === undefined ? [] : [{ text: name, ...pair, kl: result.kl, ratio: result.ratio }];
      })
    );
    const search = await searchThresholds(model, texts, {
      ...{ ...grid, maxKl, context, continuation, decode, dtype, signal, known },
      lanes: laneOptions(flags),
      onMeasured: (measurement) => journal.add(keyOf(measurement.text, measurement), measurement),
      onProgress: ({ done, total }) => json || progress.update({ done, total, stage: "measurements of thresholds:" }),
    });
    const { found: { alphaHigh, alphaLow } } = search;
    const file = {
      format: "kvz thresholds",
      version: 1,
      model: modelToJson(model.spec),
      modelFingerprint: await modelFingerprint(model.spec),
      options: { alphaHigh, alphaLow },
      settings: { maxKl, context, continuation, decode, dtype, texts: texts.map(({ name }) => name) },
      ...search,
    };
    await sink.write(new TextEncoder().encode(`${JSON.stringify(file, null, 2)}\n`));
    return search;
  }).finally(progress.end);
  const seconds = (performance.now() - begin) / 1000;
  const { found, tried } = search;
  await finish(flags, { ...search, seconds }, [
    ...formatFacts([
      ["model", describeModel(model.spec)],
      ["texts", `${texts.map(({ name }) => name).join(", ")}; ${context} tokens and ${continuation} after them`],
      ["took", formatSeconds(seconds)],
    ]),
    "",
    ...formatTable(
      ["alphaHigh", "alphaLow", "ratio", "KL", ""],
      tried.map((one) => [
        `${one.alphaHigh}`,
        `${one.alphaLow}`,
        formatRatio(one.ratio),
        formatError(one.kl),
        verdict(one, found, maxKl),
      ]),
    ),
    "",
    `-m diffkv:alphaHigh=${found.alphaHigh},alphaLow=${found.alphaLow}`,
  ]);
}

function verdict(one: ThresholdMeans, found: ThresholdMeans, maxKl: number): string {
  if (one === found) return "found";
  return one.kl > maxKl ? "loses too much" : "";
}
