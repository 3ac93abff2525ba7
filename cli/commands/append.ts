/**
 * `kvz append`: more tokens into a .kvz file.
 *
 * @module
 */
import type { Command } from "commander";
import { openCodec } from "../../src/codec/open.ts";
import { servedModel } from "../../src/profile/served.ts";
import { openCache } from "../cache_input.ts";
import type { CliContext } from "../context.ts";
import { UsageError } from "../exit_codes.ts";
import { appendOutputFile, checkOneStdin, openInput, readInput, writeOutput } from "../files.ts";
import { formatBytes, formatCount, formatFacts } from "../format.ts";
import {
  addBackendOptions,
  addCacheOptions,
  addJsonOption,
  type BackendFlags,
  type CacheFlags,
  checkOneStdout,
  type JsonFlag,
  laneOptions,
} from "../options.ts";
import { addProfileOption, type ProfileFlag, readOptionalProfile } from "../profile_input.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";

type AppendFlags = BackendFlags & JsonFlag & CacheFlags & ProfileFlag & {
  readonly output?: string;
  readonly force?: boolean;
};

/** Adds the command. */
export function addAppend(program: Command, context: CliContext): void {
  const command = program.command("append")
    .description("add tokens to a .kvz file: full chunks stay as they are, byte for byte")
    .argument("<file>", ".kvz file")
    .argument("<cache>", "the new tokens only: .safetensors or llama.cpp state, - for standard input")
    .option("-o, --output <file>", "write the grown file here, - for standard output (default: grow <file> itself)")
    .option("-f, --force", "replace the output if it is there");
  addProfileOption(command);
  addCacheOptions(command);
  addBackendOptions(command);
  addJsonOption(command).action((file: string, cache: string, flags: AppendFlags) =>
    scoped((scope) => append(context, scope, file, cache, flags))
  );
}

async function append(
  context: CliContext,
  scope: Scope,
  file: string,
  cachePath: string,
  flags: AppendFlags,
): Promise<void> {
  checkOneStdout(flags);
  checkOneStdin(file, cachePath, flags.profile);
  if (file === "-" && flags.output === undefined) {
    throw new UsageError("Cannot append to standard input: -o says where the grown file goes");
  }
  const begin = performance.now();
  const profile = await readOptionalProfile(flags);
  const old = await readInput(file);
  const input = scope.use(await openInput(cachePath));
  const { cache } = await openCache(input, flags, profile ? servedModel(profile) : undefined);
  const codec = scope.use(await openCodec(profile, laneOptions(flags)));
  const secondsLoad = (performance.now() - begin) / 1000;

  const progress = progressLine("append");
  const work = performance.now();
  const { bytes, report } = await codec.append(old, cache, {
    signal: context.signal,
    ...(flags.json ? {} : { onProgress: progress.update }),
  }).finally(progress.end);
  const seconds = (performance.now() - work) / 1000;
  if (flags.output === undefined) {
    await appendOutputFile(file, report.keptBytes, async (sink) => await sink.write(bytes.subarray(report.keptBytes)));
  } else {
    await writeOutput(flags.output, flags.force ?? false, async (sink) => await sink.write(bytes));
  }
  const result = {
    ...report,
    tokensAdded: cache.tokens,
    bytesOut: bytes.length,
    seconds,
    tokensPerSecond: cache.tokens / seconds,
    secondsLoad,
    ...codec.info,
  };
  await context.finish(
    flags,
    result,
    formatFacts([
      [flags.output ?? file, formatBytes(bytes.length)],
      ["tokens", `${formatCount(report.tokens)}, ${formatCount(cache.tokens)} of them new`],
      ["kept", `${formatBytes(report.keptBytes)} as they were, ${formatBytes(report.writtenBytes)} written`],
    ]),
  );
}
