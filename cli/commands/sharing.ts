/**
 * `kvz sharing`: which layers of a model may share keys and values, for recipe kvsharer.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { describeModel } from "../../src/cache/describe_model.ts";
import { sharingMap, writeSharingMap } from "../../src/eval/sharing_map.ts";
import { measureLayers, searchSharing, type SharingOrder } from "../../src/eval/sharing_search.ts";
import { cutSentences } from "../calibrate/sequences.ts";
import type { CliContext } from "../context.ts";
import { parseTextSpec } from "../eval/texts.ts";
import { UsageError } from "../exit_codes.ts";
import { writeOutput } from "../files.ts";
import { formatFacts, formatSeconds, formatTable } from "../format.ts";
import { loadModel } from "../model_input.ts";
import {
  addJsonOption,
  addOutputOptions,
  checkOneStdout,
  type JsonFlag,
  type ModelFlags,
  type OutputFlags,
  wholeNumber,
} from "../options.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";

type SharingFlags = JsonFlag & OutputFlags & ModelFlags & {
  readonly texts: string[];
  readonly shared: number;
  readonly threshold: string;
  readonly order: SharingOrder;
  readonly seed: number;
  readonly sentences: number;
  readonly length: number;
};

/** Adds the command. */
export function addSharing(program: Command, context: CliContext): void {
  const command = program.command("sharing")
    .description("search the layers of a model that may share keys and values (KVSharer), for recipe kvsharer")
    .requiredOption("--model <folder|name>", "model with a capture graph, as deno task model makes it")
    .requiredOption(
      "--texts <file...>",
      "texts to take sentences from, plain or .jsonl; FILE:BEGIN-END takes a region",
    );
  addOutputOptions(command, "layer map (.json), - for standard output")
    .option("--shared <n>", "layers that shall share", wholeNumber("--shared", 1, 4096), 4)
    .option("--threshold <x>", "mean cosine of the final hidden states that has to be exceeded, −1 to 1", "0.5")
    .addOption(
      new Option("--order <order>", "pairs of layers that are tried first").choices(["dissimilar", "similar", "random"])
        .default("dissimilar"),
    )
    .option("--seed <n>", "seed of order random", wholeNumber("--seed", 0, 2 ** 32 - 1), 0)
    .option("--sentences <n>", "sentences taken of all texts together", wholeNumber("--sentences", 1, 1 << 20), 30)
    .option("--length <n>", "tokens of a sentence", wholeNumber("--length", 1, 1 << 20), 64)
    .option("--graph <name>", "graph of the model's folder", "capture")
    .option("--weights <type>", "its weights as Transformers.js names them: fp32, fp16, q8, q4, …", "fp32");
  addJsonOption(command).action((flags: SharingFlags) => scoped((scope) => run(context, scope, flags)));
}

async function run({ signal, finish }: CliContext, scope: Scope, flags: SharingFlags): Promise<void> {
  checkOneStdout(flags);
  const { shared, order, seed, length, json } = flags;
  const threshold = Number(flags.threshold.trim() === "" ? NaN : flags.threshold);
  if (!(threshold >= -1 && threshold <= 1)) throw new UsageError("--threshold takes a number from -1 to 1");
  const begin = performance.now();
  const { model } = await loadModel(flags.model, { graph: flags.graph, dtype: flags.weights });
  scope.use(model);
  if (shared >= model.spec.layers) {
    throw new UsageError(
      `Cannot share ${shared} layers: the model has ${model.spec.layers}, the first shares with none`,
    );
  }
  const sentences = await cutSentences(flags.texts.map(parseTextSpec), model, length, flags.sentences);
  const progress = progressLine("sharing", "");
  let read = 0;
  const result = await writeOutput(flags.output, flags.force ?? false, async (sink) => {
    const measured = await measureLayers(model, sentences, {
      signal,
      onSentence: () => json || progress.update({ done: ++read, total: sentences.length, stage: "reading sentences" }),
    });
    const search = await searchSharing(model, sentences, measured, {
      ...{ shared, threshold, order, seed, signal },
      onTried: (_, found) => json || progress.update({ done: found, total: shared, stage: "layers that share" }),
    });
    const map = sharingMap(model.spec, search, {
      ...{ order, shared, threshold, seed, sentences: sentences.length },
      tokens: Math.max(...sentences.map(({ ids }) => ids.length)),
    });
    await sink.write(new TextEncoder().encode(await writeSharingMap(map)));
    return { ...map, tried: search.tried.length };
  }).finally(progress.end);
  const seconds = (performance.now() - begin) / 1000;
  const { found, settings, tried } = result;
  const missing = shared - found.length;
  await finish(flags, { ...result, seconds }, [
    ...formatFacts([
      ["model", describeModel(model.spec)],
      [
        "searched",
        `${settings.sentences} sentences of ${settings.tokens} tokens, ${tried} pairs tried, ${order} first`,
      ],
      ["took", formatSeconds(seconds)],
    ]),
    "",
    ...formatTable(
      ["layer", "takes from", "distance", "cosine"],
      found.map((pair) => [
        `${pair.layer}`,
        `${pair.source}`,
        pair.distance.toPrecision(4),
        pair.similarity.toFixed(4),
      ]),
    ),
    ...(missing > 0 ? [`${missing} more could not share: no pair is left above ${threshold}`] : []),
  ]);
}
