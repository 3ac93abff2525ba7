/**
 * `kvz compress`: cache → .kvz.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { openCodec } from "../../src/codec/open.ts";
import { chooseRecipe } from "../../src/codec/encode.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { servedModel } from "../../src/profile/served.ts";
import { openCache } from "../cache_input.ts";
import type { CliContext } from "../context.ts";
import { checkOneStdin, openInput, writeOutput } from "../files.ts";
import { formatBytes, formatCount, formatFacts, formatRatio } from "../format.ts";
import {
  addBackendOptions,
  addCacheOptions,
  addJsonOption,
  addOutputOptions,
  type BackendFlags,
  type CacheFlags,
  checkOneStdout,
  given,
  type JsonFlag,
  laneOptions,
  type OutputFlags,
  positiveNumber,
  wholeNumber,
} from "../options.ts";
import { addProfileOption, type ProfileFlag, readOptionalProfile } from "../profile_input.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";
import { addMapOption, type MapFlag, mapFor, readOptionalMap } from "../sharing_input.ts";
import { speedText } from "../report_text.ts";
import { layoutMetadata } from "../state_output.ts";
import { asUsageLater } from "../usage.ts";

type CompressFlags = BackendFlags & JsonFlag & OutputFlags & CacheFlags & ProfileFlag & MapFlag & {
  readonly recipe?: string;
  readonly ratio?: number;
  readonly fileRatio?: number;
  readonly keyRatio?: number;
  readonly valueRatio?: number;
  readonly window?: number;
  readonly sinks?: number;
  readonly recent?: number;
  readonly entropy?: CompressOptions["entropy"];
  readonly inner?: CompressOptions["inner"];
  readonly quality?: CompressOptions["quality"];
  readonly maxKl?: number;
  readonly step?: number;
  readonly tokenIds: boolean;
};

/** Adds the command. */
export function addCompress(program: Command, context: CliContext): void {
  const command = program.command("compress")
    .description("compress a cache into a .kvz file")
    .argument("<cache>", ".safetensors or llama.cpp state (.ggsq), - for standard input");
  addOutputOptions(command, ".kvz file, - for standard output");
  addProfileOption(command)
    .option("--recipe <name>", "method (see kvz recipes; default: the profile's, lossless without one)")
    .option(
      "--ratio <x>",
      "target ratio in the recipe's sense (kvz, kvz-free: of the whole file; kvtc: before DEFLATE)",
      positiveNumber("--ratio"),
    )
    .option("--file-ratio <x>", "ratio of the whole file, reached within 1 %", positiveNumber("--file-ratio"))
    .option("--key-ratio <x>", "target ratio of the keys", positiveNumber("--key-ratio"))
    .option("--value-ratio <x>", "target ratio of the values", positiveNumber("--value-ratio"))
    .option("--window <n>", "newest tokens kept bit-exact", wholeNumber("--window", 0, 1 << 20))
    .option(
      "--recent <n>",
      "newest tokens that kvz codes with half the step (default 128)",
      wholeNumber("--recent", 0, 1 << 20),
    )
    .addOption(
      new Option("--quality <name>", "quality of kvz (default balanced)").choices(["small", "balanced", "high"]),
    )
    .option("--max-kl <x>", "largest predicted KL of kvz, nats", positiveNumber("--max-kl"))
    .option(
      "--step <x>",
      "quantization step of kvz in the profile's units, of kvz-free in units of a layer's spread",
      positiveNumber("--step"),
    )
    .option("--sinks <n>", "oldest tokens kept in FP8", wholeNumber("--sinks", 0, 1 << 20))
    .addOption(
      new Option("--entropy <coder>", "coder of kvtc's codes (default deflate) or kvcar's latents (default none)")
        .choices(["none", "deflate", "rans"]),
    )
    .addOption(
      new Option("--inner <name>", "how kvsharer stores the layers that are left (default raw)")
        .choices(["raw", "q8_0", "q4_0", "kvtc", "kvz"]),
    )
    .option("--no-token-ids", "leave the token ids (the prompt) out of the file");
  addMapOption(command);
  addCacheOptions(command);
  addBackendOptions(command);
  addJsonOption(command).action((path: string, flags: CompressFlags) =>
    scoped((scope) => compress(context, scope, path, flags))
  );
}

async function compress(context: CliContext, scope: Scope, path: string, flags: CompressFlags): Promise<void> {
  checkOneStdout(flags);
  checkOneStdin(path, flags.profile, flags.map);
  const options = compressOptions(flags);

  const begin = performance.now();
  const profile = await readOptionalProfile(flags);
  const sharing = await readOptionalMap(flags);
  await asUsageLater(() => chooseRecipe(options, profile));
  const input = scope.use(await openInput(path));
  const { cache, streamed, layout } = await openCache(input, flags, profile ? servedModel(profile) : undefined);
  const codec = scope.use(await openCodec(profile, laneOptions(flags)));
  const secondsLoad = (performance.now() - begin) / 1000;

  const progress = progressLine("compress");
  const user = layoutMetadata(layout, flags.tokenIds);
  const all = {
    ...options,
    ...mapFor(sharing, options.recipe, options, cache.model, "the cache"),
    ...(user === undefined ? {} : { user }),
    signal: context.signal,
    ...(flags.json ? {} : { onProgress: progress.update }),
  };
  const report = await writeOutput(flags.output, flags.force ?? false, async (sink) => {
    if (streamed) return await codec.compressTo(cache, sink, all);
    const { bytes, report } = await codec.compress(cache, all);
    await sink.write(bytes);
    return report;
  }).finally(progress.end);

  const result = { ...report, secondsLoad, streamed };
  await context.finish(
    flags,
    result,
    formatFacts([
      [flags.output === "-" ? "file" : flags.output, formatBytes(report.bytesOut)],
      ["from", `${formatBytes(report.bytesIn)} at 16 bits, ${formatCount(report.tokens)} tokens`],
      [
        "ratios",
        `target ${formatRatio(report.targetRatio)}, paper ${formatRatio(report.paperRatio)}, ` +
        `file ${formatRatio(report.fileRatio)}`,
      ],
      ["speed", speedText(result)],
    ]),
  );
}

/** The codec's options for the flags, absent ones left to their defaults. */
function compressOptions(flags: CompressFlags): CompressOptions {
  const { tokenIds } = flags;
  return {
    tokenIds,
    ...given(flags, [
      "recipe",
      "ratio",
      "fileRatio",
      "keyRatio",
      "valueRatio",
      "window",
      "sinks",
      "recent",
      "entropy",
      "inner",
      "quality",
      "maxKl",
      "step",
    ]),
  };
}
