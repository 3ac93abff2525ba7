/**
 * `kvz profile curve`: measures what a kvz profile's steps cost a model, and writes the profile with the curve.
 *
 * @module
 */
import type { Command } from "commander";
import { resolveModel } from "../../src/cache/fingerprint.ts";
import type { DType } from "../../src/cache/types.ts";
import { requireProfile } from "../../src/profile/require.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import { nearestS, stepOf } from "../../src/stages/quantize/trellis/step.ts";
import { measureCurve, type MeasuredCurve } from "../calibrate/curve.ts";
import type { CliContext } from "../context.ts";
import { Journal } from "../eval/journal.ts";
import { checkHeldOut, loadTexts, parseTextSpec } from "../eval/texts.ts";
import { UsageError } from "../exit_codes.ts";
import { writeOutput } from "../files.ts";
import { formatBytes, formatError, formatTable } from "../format.ts";
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
import { readProfile } from "../profile_input.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";

type CurveFlags = BackendFlags & JsonFlag & OutputFlags & ModelFlags & {
  readonly texts: string[];
  readonly context: number;
  readonly continuation: number;
  readonly windows: number;
  readonly steps?: number[];
  readonly dtype: DType;
  readonly fresh?: boolean;
};

/** Adds the command to `kvz profile`. */
export function addProfileCurve(group: Command, context: CliContext): void {
  const command = group.command("curve")
    .description("measure what a kvz profile's steps cost the model, by which qualities and maxKl find their step")
    .argument("<profile>", ".kvzp file for recipe kvz")
    .requiredOption("--model <folder|name>", "folder as Transformers.js lays it out, or name on the hub")
    .requiredOption("--texts <file...>", "texts that calibration has not seen, as kvz eval takes them")
    .option("--context <n>", "tokens of the cache", wholeNumber("--context", 2, 1 << 24), 1024)
    .option("--continuation <n>", "tokens predicted after it", wholeNumber("--continuation", 1, 1 << 20), 256)
    .option("--windows <n>", "passages taken of each text, evenly spread", wholeNumber("--windows", 1, 1000), 1)
    .option("--steps <list>", "steps, as 1,0.7,0.5 (default: those of the profile's training)", stepList)
    .option("--dtype <type>", "element type in which caches are compressed: f16, bf16, f32", "f16")
    .option("--fresh", "begin anew, whatever measurements are kept beside the output (.jsonl)");
  addModelOptions(command);
  addOutputOptions(command, "profile with the curve (.kvzp); measurements are kept beside it in .jsonl");
  addBackendOptions(command);
  addJsonOption(command).action((path: string, flags: CurveFlags) =>
    scoped((scope) => run(context, scope, path, flags))
  );
}

async function run(context: CliContext, scope: Scope, path: string, flags: CurveFlags): Promise<void> {
  const { output, force = false, json, continuation } = flags;
  checkDType(flags.dtype);
  if (output === "-") throw new UsageError("Cannot write the profile to standard output: -o takes a file");
  const specs = flags.texts.map(parseTextSpec);
  const profile = requireProfile(await readProfile(path), "kvz");
  const { model, identity } = await loadModel(flags.model, { graph: flags.graph, dtype: flags.weights });
  scope.use(model);
  resolveModel(model.spec, profile.model, { found: "the model", wanted: "the profile" });
  const texts = await loadTexts(specs, model, flags.context + continuation + 1, flags.windows);
  const heldOut = checkHeldOut(texts, profile);
  const progress = progressLine("curve", "");
  const [measured, bytesOut] = await writeOutput(output, force, async (sink) => {
    const measured = await measureCurve({
      model,
      identity,
      profile,
      texts,
      steps: flags.steps ?? null,
      context: flags.context,
      continuation,
      dtype: flags.dtype,
      lanes: laneOptions(flags),
      journal: await Journal.open(`${output.replace(/\.kvzp$/, "")}.jsonl`, flags.fresh ?? false),
      signal: context.signal,
      onProgress: json ? () => {} : progress.update,
    });
    const bytes = await serializeProfile(measured.profile);
    await sink.write(bytes);
    return [measured, bytes.length] as const;
  }).finally(progress.end);
  const curve = measured.profile.curve.map(({ s, kl, bits }) => ({ step: stepOf(s), kl, bits }));
  await context.finish(
    flags,
    {
      bytesOut,
      fingerprint: profile.fingerprint,
      heldOut,
      curve,
      measurements: measured.measurements.map(({ s, ...rest }) => ({ step: stepOf(s), ...rest })),
    },
    [
      ...describe(measured),
      ...(heldOut
        ? []
        : ["The profile holds no hashes of its calibration texts: whether these were among them is unknown."]),
      "",
      `${output}: ${formatBytes(bytesOut)}, fingerprint as before`,
    ],
  );
}

/** A row of each step: means, and the text that lost most. */
function describe({ measurements }: MeasuredCurve): string[] {
  const steps = [...new Set(measurements.map(({ s }) => s))].sort((a, b) => a - b);
  return formatTable(
    ["step", "KL", "bits a token", "worst text", "its KL"],
    steps.map((s) => {
      const at = measurements.filter((one) => one.s === s);
      const mean = (pick: (one: typeof at[number]) => number) =>
        at.reduce((sum, one) => sum + pick(one), 0) / at.length;
      const worst = at.reduce((a, b) => b.kl > a.kl ? b : a);
      return [
        stepOf(s).toPrecision(4),
        formatError(mean(({ kl }) => kl)),
        `${Math.round(mean(({ bits }) => bits))}`,
        worst.text,
        formatError(worst.kl),
      ];
    }),
  );
}

/** Steps separated by commas, as their s. */
function stepList(text: string): number[] {
  const one = positiveNumber("--steps");
  return [...new Set(text.split(",").map((part) => nearestS(one(part))))].sort((a, b) => a - b);
}
