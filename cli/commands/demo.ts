/**
 * `kvz demo`: a small real cache, compressed and restored at several ratios, as a table and as a page of plots.
 *
 * @module
 */
import type { Command } from "commander";
import { fileURLToPath } from "node:url";
import { openCodec } from "../../src/codec/open.ts";
import { openCache } from "../cache_input.ts";
import type { CliContext } from "../context.ts";
import type { DemoData, DemoRun } from "../demo/data.ts";
import { measureDemo } from "../demo/measure.ts";
import { measureQualities } from "../demo/qualities.ts";
import { DEMO_COMMAND, renderPage } from "../demo/page.ts";
import { UsageError } from "../exit_codes.ts";
import { openInput, writeOutput } from "../files.ts";
import { formatBytes, formatCount, formatError, formatRatio, formatTable } from "../format.ts";
import {
  addBackendOptions,
  addJsonOption,
  type BackendFlags,
  checkOneStdout,
  given,
  type JsonFlag,
  laneOptions,
  ratioList,
  wholeNumber,
} from "../options.ts";
import { isPageOf } from "../page/generator.ts";
import { readPlotLibrary } from "../page/library.ts";
import { readProfile } from "../profile_input.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";

type DemoFlags = BackendFlags & JsonFlag & {
  readonly output?: string;
  readonly force?: boolean;
  readonly cache?: string;
  readonly profile?: string;
  readonly kvzProfile?: string;
  readonly ratios?: number[];
  readonly window: number;
};

/** Written to when the user names no file. */
const DEFAULT_PAGE = "demo.html";

/** Adds the command. */
export function addDemo(program: Command, context: CliContext): void {
  const command = program.command("demo")
    .description("compress and restore a small real cache at several ratios; print a table, write a page with plots")
    .option(
      "-o, --output <file>",
      `the page, one .html file that needs no network (default: ${DEFAULT_PAGE}, in place of one that a demo made)`,
    )
    .option("-f, --force", "replace the page if it is there")
    .option("--cache <file>", "another cache (default: samples/smollm2-256.safetensors)")
    .option("-p, --profile <file>", "another profile (default: samples/smollm2-demo.kvzp)")
    .option(
      "--kvz-profile <file>",
      "another one for recipe kvz (default: samples/smollm2-kvz.kvzp without -p, else none)",
    )
    .option("--ratios <list>", "target ratios (default: up to four that the profile allows)", ratioList("--ratios"))
    .option("--window <n>", "newest tokens kept bit-exact", wholeNumber("--window", 0, 1 << 20), 32);
  addBackendOptions(command);
  addJsonOption(command).action((flags: DemoFlags) => scoped((scope) => demo(context, scope, flags)));
}

async function demo(context: CliContext, scope: Scope, flags: DemoFlags): Promise<void> {
  checkOneStdout(flags);
  const profile = await readProfile(flags.profile ?? samplePath("smollm2-demo.kvzp", "--profile"));
  const input = scope.use(await openInput(flags.cache ?? samplePath("smollm2-256.safetensors", "--cache")));
  const { cache } = await openCache(input, {});
  const codec = scope.use(await openCodec(profile, laneOptions(flags)));
  const kvzPath = flags.kvzProfile ??
    (flags.profile === undefined ? samplePath("smollm2-kvz.kvzp", "--kvz-profile") : null);
  const kvzProfile = kvzPath === null ? null : await readProfile(kvzPath);
  const progress = progressLine("demo", "");
  const { output = DEFAULT_PAGE } = flags;
  const force = flags.force ?? (flags.output === undefined && await isPageOf(DEMO_COMMAND, output));
  const data = await writeOutput(output, force, async (sink) => {
    const common = { signal: context.signal, onProgress: flags.json ? () => {} : progress.update };
    const runs = await measureDemo(codec, cache, { ...given(flags, ["ratios"]), window: flags.window, ...common });
    const qualities = kvzProfile === null
      ? []
      : await measureQualities(scope.use(await openCodec(kvzProfile, laneOptions(flags))), cache, common);
    const data: DemoData = { ...runs, qualities };
    await sink.write(new TextEncoder().encode(renderPage(data, await readPlotLibrary())));
    return data;
  }).finally(progress.end);
  const { partNames: _p, stageNames: _s, ...facts } = data;
  await context.finish(flags, { page: output, ...facts, runs: data.runs.map(summarize) }, [
    `${data.geometry}`,
    `${data.tokens} tokens, ${formatBytes(data.fp16Bytes)} at 16 bits; ${data.sinks} sinks, ${data.coded} coded, ` +
    `${data.window} raw; ${data.backend}`,
    "",
    ...resultTable(data),
    ...qualityTable(data),
    "",
    `K and V error: relative, over the coded tokens. Page with plots: ${output}`,
  ]);
}

function resultTable({ runs }: DemoData): string[] {
  return formatTable(
    ["ratio", "bytes", "target", "paper", "file", "K error", "V error", "compress tok/s", "restore tok/s"],
    runs.map((run) => [
      `${run.ratio}×`,
      formatCount(run.bytesOut),
      formatRatio(run.ratio),
      formatRatio(run.paperRatio),
      formatRatio(run.fileRatio),
      formatError(run.error.key),
      formatError(run.error.value),
      formatCount(run.compressTokensPerSecond),
      formatCount(run.decompressTokensPerSecond),
    ]),
  );
}

/** Recipe kvz, where its profile was at hand. */
function qualityTable({ qualities }: DemoData): string[] {
  if (qualities.length === 0) return [];
  return [
    "",
    "Recipe kvz on the same cache, nothing raw, one sink:",
    "",
    ...formatTable(
      ["quality", "bytes", "file", "KL on texts", "compress tok/s", "restore tok/s"],
      qualities.map((run) => [
        run.quality,
        formatCount(run.bytesOut),
        formatRatio(run.fileRatio),
        run.predictedKl === null ? "not measured" : `${run.predictedKl}`,
        formatCount(run.compressTokensPerSecond),
        formatCount(run.decompressTokensPerSecond),
      ]),
    ),
  ];
}

/** A run without what only plots need. */
function summarize({ parts: _p, stages: _s, layers: _l, tokens: _t, bits: _b, ...figures }: DemoRun): object {
  return figures;
}

/** A file of samples/, which are in the repository but not in the published package. */
function samplePath(name: string, option: string): string {
  const url = new URL(`../../samples/${name}`, import.meta.url);
  if (url.protocol !== "file:") throw new UsageError(`Cannot run the demo from ${url.origin}: ${option} is missing`);
  return fileURLToPath(url);
}
