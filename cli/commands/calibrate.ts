/**
 * `kvz calibrate`: caches of a model, or the model itself and texts → profile; for KVTC also in jobs whose partial
 * statistics are merged.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { describeModel } from "../../src/cache/describe_model.ts";
import type { ByteSink, ByteSource } from "../../src/container/bytes.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import {
  calibrate,
  calibratePartial,
  type CalibrationProgress,
  mergeCalibration,
  type NamedCache,
} from "../../src/profile/calibrate.ts";
import { calibrateKvquant } from "../../src/profile/kvquant/calibrate.ts";
import { calibrateKvz } from "../../src/profile/kvz/calibrate.ts";
import { readPartial, writePartial } from "../../src/profile/partial.ts";
import { writeProfile } from "../../src/profile/profile_format.ts";
import { shingleHashes } from "../../src/profile/shingles.ts";
import type { Statistics } from "../../src/profile/statistics.ts";
import type { Profile } from "../../src/profile/types.ts";
import { openCache, openCacheFile } from "../cache_input.ts";
import type { CliContext } from "../context.ts";
import { UsageError } from "../exit_codes.ts";
import { checkOneStdin, openFileSource, openInput, writeOutput } from "../files.ts";
import { formatBytes, formatCount, formatFacts, formatSeconds } from "../format.ts";
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
  ratioList,
  wholeNumber,
} from "../options.ts";
import { addTextOptions, makeOnModel, TEXT_FLAGS, type TextFlags } from "../calibrate/text_options.ts";
import { mapOption } from "../../src/eval/sharing_map.ts";
import { addMapOption, type MapFlag, readOptionalMap } from "../sharing_input.ts";
import { type Scope, scoped } from "../scope.ts";
import { type Facts, profileFacts } from "../profile_facts.ts";
import { progressLine, type ProgressUpdate } from "../progress.ts";

type CalibrateFlags = BackendFlags & JsonFlag & OutputFlags & CacheFlags & TextFlags & {
  readonly recipe: "kvz" | "kvtc" | "kvquant";
  readonly sensitivity?: string;
  readonly keyWeight?: number;
  readonly ratio?: number;
  readonly rank?: number;
  readonly ratios?: number[];
  readonly partial?: boolean;
  readonly merge?: boolean;
  readonly svd?: "randomized" | "exact";
  readonly seed?: number;
  readonly sinks?: number;
  readonly heldOut?: string[];
} & MapFlag;

/** Adds the command. */
export function addCalibrate(program: Command, context: CliContext): void {
  const command = program.command("calibrate")
    .description(
      "fit a profile on caches of a model, or on the model itself and texts; for kvtc --partial and --merge spread it " +
        "over jobs",
    )
    .argument("[files...]", ".safetensors or llama.cpp caches; with --merge partial statistics (.kvzs)");
  addOutputOptions(command, "profile (.kvzp); with --partial statistics (.kvzs)");
  addTextOptions(command);
  command
    .addOption(
      new Option("--recipe <name>", "recipe that the profile is for").choices(["kvz", "kvtc", "kvquant"])
        .default("kvz"),
    )
    .option(
      "--sensitivity <file>",
      "kvz: what errors cost, of tools/sensitivity.py; forward: measured on the model (default with --model); none: " +
        "by their layer's spread (default without)",
    )
    .option(
      "--key-weight <w>",
      "kvz: how much more errors of keys count; above 1 facts told far back are kept better, at a larger mean KL (default 1)",
      positiveNumber("--key-weight"),
    )
    .option("--ratio <r>", "kvz: highest quality served, as a ratio (default 70)", positiveNumber("--ratio"))
    .option(
      "--rank <n>",
      "components fitted at most (default 2048)",
      wholeNumber("--rank", 1, 1 << 20),
    )
    .option("--ratios <list>", "kvtc: trim the profile for these ratios, as 8,16,32,64", ratioList("--ratios"))
    .option("--partial", "kvtc: write statistics to be merged later instead of a profile")
    .option("--merge", "kvtc: fit a profile on partial statistics")
    .addOption(
      new Option("--svd <kind>", "randomized: Halko; exact: all eigenpairs (default randomized)")
        .choices(["randomized", "exact"]),
    )
    .option("--seed <n>", "seed of the sample and of the decomposition", wholeNumber("--seed", 0, 2 ** 32 - 1))
    .option(
      "--sinks <n>",
      "leading tokens of each cache left out (default 4, kvquant 1)",
      wholeNumber("--sinks", 0, 1 << 20),
    )
    .option("--held-out <files...>", "caches of texts kept for evaluation: what shares 32 tokens with them is refused");
  addMapOption(command);
  addCacheOptions(command);
  addBackendOptions(command);
  addJsonOption(command).action((files: string[], flags: CalibrateFlags) => runCalibrate(context, files, flags));
}

async function runCalibrate(context: CliContext, files: readonly string[], flags: CalibrateFlags): Promise<void> {
  checkFlags(files, flags);
  const begin = performance.now();
  const progress = progressLine("calibrate", "");
  const { threads, ...backend } = laneOptions(flags);
  const options = {
    threads,
    backend,
    signal: context.signal,
    ...(flags.json ? {} : { onProgress: (p: CalibrationProgress) => progress.update(toProgress(p)) }),
    ...given(flags, ["seed", "sinks"]),
  };
  const fit = given(flags, ["rank", "ratios", "svd"]);
  const sharing = await readOptionalMap(flags);
  const notes: string[] = [];

  const work = (): Promise<Profile | Statistics> =>
    scoped(async (scope) => {
      const { model } = flags;
      if (model !== undefined) {
        const made = await makeOnModel({ ...flags, model }, scope, {
          signal: context.signal,
          onProgress: flags.json ? () => {} : progress.update,
          openFile: (path) => openSensitivity(path, scope),
        });
        notes.push(...made.notes);
        return made.profile;
      }
      if (flags.merge) return await mergeCalibration(readPartials(files), { ...options, ...fit });
      const caches: NamedCache[] = [];
      for (const file of files) caches.push(await openNamed(file, flags, scope));
      const heldOut = await readHeldOut(flags.heldOut ?? [], flags);
      const shared = sharing === null ? {} : { layerMap: mapOption(sharing, caches[0].cache.model, files[0]) };
      const { sensitivity: path } = flags;
      const sensitivity = path === undefined || path === "none"
        ? {}
        : { sensitivity: await openSensitivity(path, scope) };
      if (flags.recipe === "kvquant") {
        const { threads: _, backend: __, ...rest } = options;
        return await calibrateKvquant(caches, { ...rest, ...sensitivity, heldOut });
      }
      if (flags.recipe === "kvz") {
        // On one thread: most of the time goes to one decomposition.
        const { threads: _, ...rest } = options;
        return await calibrateKvz(caches, {
          ...rest,
          ...given(flags, ["rank", "ratio", "svd", "keyWeight"]),
          ...sensitivity,
          ...shared,
          heldOut,
        });
      }
      if (flags.partial) return await calibratePartial(caches, { ...options, heldOut });
      return await calibrate(caches, { ...options, ...fit, ...shared, heldOut });
    });
  let bytesOut = 0;
  const made = await writeOutput(flags.output, flags.force ?? false, async (sink) => {
    const made = await work();
    const counting: ByteSink = {
      write: async (bytes) => {
        bytesOut += bytes.length;
        await sink.write(bytes);
      },
    };
    await (isProfile(made) ? writeProfile(made, counting) : writePartial(made, counting));
    return made;
  }).finally(progress.end);

  const seconds = (performance.now() - begin) / 1000;
  const { json, lines } = isProfile(made) ? profileFacts(made) : statisticsFacts(made);
  await context.finish(
    flags,
    { bytesOut, seconds, ...json, ...(flags.model === undefined ? {} : { notes }) },
    [
      ...formatFacts([
        [flags.output === "-" ? "file" : flags.output, formatBytes(bytesOut)],
        ...lines,
        ["took", formatSeconds(seconds)],
      ]),
      ...notes,
    ],
  );
}

function checkFlags(files: readonly string[], flags: CalibrateFlags): void {
  checkOneStdout(flags);
  checkOneStdin(...files, ...(flags.heldOut ?? []), flags.sensitivity ?? "", flags.map ?? "");
  const refuse = (names: readonly (keyof CalibrateFlags)[], mode: string, why: string) => {
    const found = names.find((name) => flags[name] !== undefined);
    if (found === undefined) return;
    const option = `--${found.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw new UsageError(`Cannot use ${option} with ${mode}: ${why}`);
  };
  if (flags.model !== undefined) {
    if (files.length > 0) throw new UsageError("Cannot calibrate on caches and on --model at once: give one of them");
    if (flags.recipe !== "kvz") throw new UsageError(`Cannot use --model with --recipe ${flags.recipe}: it is for kvz`);
    refuse(["heldOut", "map", "modelId", "architecture", "rope", "gguf"], "--model", "it is for caches from files");
  } else {
    refuse(TEXT_FLAGS, "caches from files", "it belongs to --model");
    if (files.length === 0) throw new UsageError("Cannot calibrate on nothing: give caches, or --model and --texts");
    if (flags.curve === false) throw new UsageError("Cannot use --no-curve without --model: no curve is measured");
    if (flags.sensitivity === "forward") {
      throw new UsageError("Cannot use --sensitivity forward without --model: forward passes need the model");
    }
  }
  if (flags.recipe === "kvz") {
    refuse(["partial", "merge", "ratios"], "--recipe kvz", "it is an option of --recipe kvtc");
  } else if (flags.recipe === "kvtc") {
    refuse(["sensitivity", "keyWeight", "ratio"], "--recipe kvtc", "it is an option of --recipe kvz");
  } else {
    refuse(
      ["partial", "merge", "ratios", "rank", "svd", "keyWeight", "ratio", "map"],
      "--recipe kvquant",
      "it fits no basis",
    );
  }
  if (flags.map !== undefined) {
    refuse(["partial", "merge"], "--map", "statistics do not say which layers they are of");
    if (flags.sensitivity !== undefined && flags.sensitivity !== "none") {
      throw new UsageError("Cannot use --sensitivity with --map: it is measured on the layers of the whole model");
    }
  }
  if (flags.partial) refuse(["merge", "rank", "ratios", "svd"], "--partial", "nothing is fitted");
  if (flags.merge) {
    refuse(["seed", "sinks"], "--merge", "the statistics say it");
    refuse(["heldOut", "modelId", "architecture", "rope", "gguf"], "--merge", "the caches have been read");
  }
}

async function openNamed(path: string, flags: CacheFlags, scope: Scope): Promise<NamedCache> {
  if (path === "-") {
    const input = await openInput(path);
    return { name: input.path, cache: (await openCache(input, flags)).cache };
  }
  // Caches are read once, run by run: none is held, however small.
  return { name: path, cache: await openCacheFile(path, scope.use(await openFileSource(path)), flags) };
}

async function openSensitivity(path: string, scope: Scope): Promise<ByteSource> {
  return path === "-" ? (await openInput(path)).source : scope.use(await openFileSource(path));
}

/** Shingles of the held-out caches' token ids. */
async function readHeldOut(paths: readonly string[], flags: CacheFlags): Promise<bigint[]> {
  const hashes: bigint[] = [];
  for (const path of paths) {
    const { inputIds } = await scoped(async (scope) =>
      await openCacheFile(path, scope.use(await openFileSource(path)), flags)
    );
    if (inputIds === undefined) {
      throw new KvzMismatchError(`Cannot hold out ${path}: it has no token ids, by which texts are compared`);
    }
    hashes.push(...shingleHashes(inputIds));
  }
  return hashes;
}

async function* readPartials(paths: readonly string[]): AsyncGenerator<Statistics> {
  for (const path of paths) {
    yield await scoped(async (scope) => await readPartial(scope.use(await openInput(path)).source));
  }
}

function isProfile(made: Profile | Statistics): made is Profile {
  return "fingerprint" in made;
}

function statisticsFacts({ model, kinds, sequences, sinks, seed, priorities }: Statistics): Facts {
  const { count } = kinds.key.moments;
  return {
    json: { model, tokens: count, sequences: sequences.length, sinks, seed, sampleRows: priorities.length },
    lines: [
      ["model", describeModel(model)],
      ["statistics", `${formatCount(count)} tokens of ${formatCount(sequences.length)} sequences`],
    ],
  };
}

/** Tokens mean nothing while a basis is fitted, so both phases count in thousandths. */
function toProgress({ phase, fraction, tokens }: CalibrationProgress): ProgressUpdate {
  const stage = phase === "read" ? "reading caches" : "fitting";
  return fraction === undefined
    ? { done: tokens, stage: `${stage}, tokens:` }
    : { done: Math.round(fraction * 1000), total: 1000, stage };
}
