/**
 * The options of `kvz calibrate --model --texts`, and what they ask for.
 *
 * @module
 */
import type { Command } from "commander";
import type { DType } from "../../src/cache/types.ts";
import type { ByteSource } from "../../src/container/bytes.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import { Journal } from "../eval/journal.ts";
import { parseTextSpec } from "../eval/texts.ts";
import { UsageError } from "../exit_codes.ts";
import { loadModel } from "../model_input.ts";
import {
  type BackendFlags,
  checkDType,
  given,
  laneOptions,
  type ModelFlags,
  type OutputFlags,
  wholeNumber,
} from "../options.ts";
import type { ProgressUpdate } from "../progress.ts";
import type { Scope } from "../scope.ts";
import { calibrateOnModel } from "./from_model.ts";
import { cutTexts } from "./sequences.ts";

/** Options that only a calibration on a model has; none has a value unless it was given. */
export interface TextFlags extends Partial<ModelFlags> {
  readonly texts?: string[];
  readonly length?: number;
  readonly sequences?: number;
  readonly bands?: number;
  /** False with --no-curve. */
  readonly curve?: boolean;
  readonly context?: number;
  readonly continuation?: number;
  readonly dtype?: DType;
  readonly fresh?: boolean;
}

/** Their names, as flags have them. */
export const TEXT_FLAGS: readonly (keyof TextFlags)[] = [
  "texts",
  "length",
  "sequences",
  "bands",
  "context",
  "continuation",
  "dtype",
  "graph",
  "weights",
  "fresh",
];

/** What the fit takes. */
interface FitFlags {
  readonly sensitivity?: string;
  readonly seed?: number;
  readonly sinks?: number;
  readonly rank?: number;
  readonly keyWeight?: number;
  readonly ratio?: number;
  readonly svd?: "randomized" | "exact";
}

/** A calibration on a model: what was made, and what should be said of it. */
export interface CalibratedOnModel {
  readonly profile: KvzProfile;
  readonly notes: readonly string[];
}

/** Adds the options to `kvz calibrate`. */
export function addTextOptions(command: Command): void {
  command
    .option("--model <folder|name>", "kvz: make the caches of --texts with this model, as kvz eval loads it")
    .option("--texts <file...>", "texts to calibrate on, plain or .jsonl; FILE:BEGIN-END takes a region")
    .option("--length <n>", "tokens of a sequence (default 2048)", wholeNumber("--length", 16, 1 << 24))
    .option("--sequences <n>", "sequences of each text at most (default 16)", wholeNumber("--sequences", 1, 1 << 20))
    .option(
      "--bands <n>",
      "bands of the keys' rotary frequencies that sensitivity by forward passes tells apart (default 8)",
      wholeNumber("--bands", 1, 1024),
    )
    .option("--no-curve", "do not measure the curve of KL by step; nothing of the texts is kept for it")
    .option(
      "--context <n>",
      "tokens of a cache that the curve is measured with (default 1024)",
      wholeNumber("--context", 2, 1 << 24),
    )
    .option(
      "--continuation <n>",
      "tokens predicted after it (default 256)",
      wholeNumber("--continuation", 1, 1 << 20),
    )
    .option("--dtype <type>", "element type of the caches: f16, bf16, f32 (default f16)")
    .option("--graph <name>", "graph of the model's folder: model or capture (default model)")
    .option("--weights <type>", "its weights as Transformers.js names them: fp32, fp16, q8, q4, … (default fp32)")
    .option("--fresh", "with --model: begin anew, whatever is kept beside the output (.jsonl)");
}

/** Makes a profile as the flags say. `openFile` opens the file of --sensitivity. */
export async function makeOnModel(
  flags: TextFlags & FitFlags & OutputFlags & BackendFlags & { readonly model: string },
  scope: Scope,
  { signal, onProgress, openFile }: {
    readonly signal: AbortSignal;
    readonly onProgress: (progress: ProgressUpdate) => void;
    readonly openFile: (path: string) => Promise<ByteSource>;
  },
): Promise<CalibratedOnModel> {
  const { output, texts: files = [], length = 2048, sequences = 16, curve = true, context = 1024, continuation = 256 } =
    flags;
  const { bands = 8, dtype = "f16", graph = "model", weights = "fp32", sensitivity = "forward" } = flags;
  checkDType(dtype);
  if (files.length === 0) throw new UsageError("Cannot calibrate on a model without texts: --texts names some");
  if (output === "-") throw new UsageError("Cannot write the profile to standard output: with --model -o takes a file");
  const specs = files.map(parseTextSpec);
  const source = sensitivity === "forward" || sensitivity === "none" ? sensitivity : await openFile(sensitivity);
  const { model, identity } = await loadModel(flags.model, { graph, dtype: weights });
  scope.use(model);
  const positions = Math.max(length, curve ? context + continuation : 0);
  if (positions > model.maxPositions) {
    throw new RangeError(
      `Cannot calibrate: sequences of ${length} tokens and a curve at ${context} + ${continuation} need ${positions} ` +
        `positions, the model has ${model.maxPositions}`,
    );
  }
  onProgress({ done: 0, stage: "reading texts" });
  const texts = await cutTexts(specs, model, { length, sequences, heldOut: curve ? context + continuation + 1 : 0 });
  const base = output.replace(/\.kvzp$/, "");
  const profile = await calibrateOnModel({
    model,
    identity,
    texts,
    sensitivity: source,
    bands,
    context,
    continuation,
    dtype,
    fit: given(flags, ["seed", "sinks", "rank", "ratio", "svd", "keyWeight"]),
    lanes: laneOptions(flags),
    journal: await Journal.open(`${base}.jsonl`, flags.fresh ?? false),
    fitFile: `${base}.fit`,
    signal,
    onProgress,
  });
  return {
    profile,
    notes: texts.leftOut.length === 0
      ? []
      : [`Left out, since they share tokens with what the curve was measured on: ${texts.leftOut.join(", ")}`],
  };
}
