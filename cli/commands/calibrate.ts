/**
 * `kvz calibrate`: caches of a model → profile, at once or in jobs whose partial statistics are merged.
 *
 * @module
 */
import { type Command, Option } from "commander";
import process from "node:process";
import { openSafetensors } from "../../src/adapters/safetensors.ts";
import {
  calibrate,
  type CalibrationProgress,
  calibratePartial,
  mergeCalibration,
  type NamedCache,
} from "../../src/profile/calibrate.ts";
import { shingleHashes } from "../../src/profile/shingles.ts";
import type { Statistics } from "../../src/profile/statistics.ts";
import type { CliContext } from "../context.ts";
import { UsageError } from "../exit_codes.ts";
import { type Input, openInput, readInput, writeOutput } from "../files.ts";
import { formatBytes, formatCount, formatFacts, formatSeconds } from "../format.ts";
import {
  addBackendOptions,
  addCacheOptions,
  addJsonOption,
  addOutputOptions,
  type BackendFlags,
  type CacheFlags,
  type JsonFlag,
  laneOptions,
  type OutputFlags,
  ratioList,
  safetensorsOptions,
  wholeNumber,
} from "../options.ts";
import { profileFacts } from "../profile_facts.ts";
import { progressLine } from "../progress.ts";

type CalibrateFlags = BackendFlags & JsonFlag & OutputFlags & CacheFlags & {
  readonly rank?: number;
  readonly ratios?: number[];
  readonly partial?: boolean;
  readonly merge?: boolean;
  readonly svd?: "randomized" | "exact";
  readonly seed?: number;
  readonly sinks?: number;
  readonly heldOut?: string[];
};

/** Adds the command. */
export function addCalibrate(program: Command, context: CliContext): void {
  const command = program.command("calibrate")
    .description("fit a profile on caches of a model; --partial and --merge spread it over jobs")
    .argument("<files...>", ".safetensors caches; with --merge partial statistics (.kvzs)");
  addOutputOptions(command, "profile (.kvzp); with --partial statistics (.kvzs)");
  command
    .option("--rank <n>", "components kept at most (default 2048)", wholeNumber("--rank", 1, 1 << 20))
    .option("--ratios <list>", "trim the profile for these ratios, for instance 8,16,32,64", ratioList("--ratios"))
    .option("--partial", "write statistics to be merged later instead of a profile")
    .option("--merge", "fit a profile on partial statistics")
    .addOption(
      new Option("--svd <kind>", "randomized: Halko, 8 iterations; exact: all eigenpairs (default randomized)")
        .choices(["randomized", "exact"]),
    )
    .option("--seed <n>", "seed of the sample and of the decomposition", wholeNumber("--seed", 0, 2 ** 32 - 1))
    .option("--sinks <n>", "leading tokens of each cache left out (default 4)", wholeNumber("--sinks", 0, 1 << 20))
    .option("--held-out <files...>", "caches of texts kept for evaluation: what shares 32 tokens with them is refused");
  addCacheOptions(command);
  addBackendOptions(command);
  addJsonOption(command).action((files: string[], flags: CalibrateFlags) => runCalibrate(context, files, flags));
}

async function runCalibrate(context: CliContext, files: readonly string[], flags: CalibrateFlags): Promise<void> {
  checkFlags(files, flags);
  const begin = performance.now();
  const progress = progressLine("calibrate", "%");
  const { threads, ...backend } = laneOptions(flags);
  const options = {
    threads: threads || (navigator.hardwareConcurrency || 1),
    backend,
    signal: context.signal,
    ...(flags.json ? {} : { onProgress: (p: CalibrationProgress) => progress.update(asPercent(p)) }),
    ...given(flags, ["seed", "sinks"]),
  };
  const fit = given(flags, ["rank", "ratios", "svd"]);

  const work = async () => {
    if (flags.merge) return await mergeCalibration(readPartials(files), { ...options, ...fit });
    const opened: Input[] = [];
    try {
      const caches: NamedCache[] = [];
      for (const file of files) caches.push(await openNamed(file, flags, opened));
      const heldOut = await readHeldOut(flags.heldOut ?? [], flags);
      if (flags.partial) return await calibratePartial(caches, { ...options, heldOut });
      return await calibrate(caches, { ...options, ...fit, heldOut });
    } finally {
      for (const input of opened) await input[Symbol.asyncDispose]();
    }
  };
  const { made, bytes } = await writeOutput(flags.output, flags.force ?? false, async (sink) => {
    const made = await work();
    const bytes = "fingerprint" in made ? await saveProfile(made) : await saveStatistics(made);
    await sink.write(bytes);
    return { made, bytes };
  }).finally(progress.end);

  const seconds = (performance.now() - begin) / 1000;
  const facts = "fingerprint" in made ? profileFacts(made) : statisticsFacts(made);
  await context.finish(
    flags,
    { bytesOut: bytes.length, seconds, ...facts.json },
    formatFacts([
      [flags.output === "-" ? "file" : flags.output, formatBytes(bytes.length)],
      ...facts.lines,
      ["took", formatSeconds(seconds)],
    ]),
  );
}
