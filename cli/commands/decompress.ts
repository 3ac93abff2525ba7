/**
 * `kvz decompress`: .kvz → cache.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { writeLlamaState } from "../../src/adapters/llama_state.ts";
import { SafetensorsSink } from "../../src/adapters/safetensors_sink.ts";
import type { DType } from "../../src/cache/types.ts";
import type { RandomSink } from "../../src/container/bytes.ts";
import type { Codec } from "../../src/codec/codec.ts";
import type { RestoredShape } from "../../src/codec/restore.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { DecompressOptions, DecompressReport } from "../../src/codec/options.ts";
import type { CliContext } from "../context.ts";
import { checkOneStdin, IN_MEMORY_BYTES, type Input, openInput, writeOutput, writeOutputFile } from "../files.ts";
import { formatBytes, formatFacts } from "../format.ts";
import {
  addBackendOptions,
  addJsonOption,
  addOutputOptions,
  type BackendFlags,
  byteSize,
  checkOneStdout,
  given,
  type JsonFlag,
  laneOptions,
  layerRange,
  type OutputFlags,
  wholeNumber,
} from "../options.ts";
import { addProfileOption, type ProfileFlag, readOptionalProfile } from "../profile_input.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";
import { chooseFormat, type OutputFormat } from "../state_output.ts";
import { speedText } from "../report_text.ts";

type DecompressFlags = BackendFlags & JsonFlag & OutputFlags & ProfileFlag & {
  readonly tokens?: number;
  readonly layers?: [begin: number, end: number];
  readonly firstPosition?: number;
  readonly dtype?: DType;
  readonly maxBytes?: number;
  readonly format?: OutputFormat;
};

/** Adds the command. */
export function addDecompress(program: Command, context: CliContext): void {
  const command = program.command("decompress")
    .description("restore the cache of a .kvz file")
    .argument("<file>", ".kvz file, - for standard input");
  addOutputOptions(
    command,
    "restored cache: .safetensors or, for what was one, a llama.cpp state; - for standard output",
  );
  addProfileOption(command)
    .option("--tokens <n>", "restore only the first n tokens", wholeNumber("--tokens", 0, 2 ** 31 - 1))
    .option("--layers <A:B>", "restore only layers A to B − 1", layerRange)
    .option(
      "--first-position <n>",
      "position of the first token in the restored cache",
      wholeNumber("--first-position", 0, 2 ** 31 - 1),
    )
    .addOption(
      new Option("--format <format>", "what to write (default: state for what was one, else safetensors)")
        .choices(["safetensors", "state"]),
    )
    .addOption(new Option("--dtype <type>", "element type (default: as stored)").choices(["f32", "f16", "bf16"]))
    .option(
      "--max-bytes <size>",
      "most bytes the restored cache may have, for instance 512MiB (default 4 GiB)",
      byteSize,
    );
  addBackendOptions(command);
  addJsonOption(command).action((path: string, flags: DecompressFlags) =>
    scoped((scope) => decompress(context, scope, path, flags))
  );
}

async function decompress(context: CliContext, scope: Scope, path: string, flags: DecompressFlags): Promise<void> {
  checkOneStdout(flags);
  checkOneStdin(path, flags.profile);
  const begin = performance.now();
  const profile = await readOptionalProfile(flags);
  const input = scope.use(await openInput(path));
  const codec = scope.use(await openCodec(profile, laneOptions(flags)));
  const secondsLoad = (performance.now() - begin) / 1000;

  const progress = progressLine("decompress");
  const options: DecompressOptions = {
    ...given(flags, ["tokens", "layers", "firstPosition", "dtype", "maxBytes"]),
    signal: context.signal,
    ...(flags.json ? {} : { onProgress: progress.update }),
  };
  const { report, streamed, bytesOut } = await restore(codec, input, flags, options).finally(progress.end);
  const result = { ...report, secondsLoad, streamed, bytesOut };
  await context.finish(
    flags,
    result,
    formatFacts([
      [flags.output === "-" ? "cache" : flags.output, formatBytes(bytesOut)],
      ["speed", speedText(result)],
    ]),
  );
}

interface Restored {
  readonly report: DecompressReport;
  readonly streamed: boolean;
  readonly bytesOut: number;
}

/** Restores into memory and then into the file, or straight into the file where the cache is large. */
async function restore(
  codec: Codec,
  input: Input,
  flags: DecompressFlags,
  options: DecompressOptions,
): Promise<Restored> {
  const { output, force = false } = flags;
  const { header, fp16Bytes } = await inspect(input.source);
  const layout = chooseFormat(header, flags);
  if (layout !== null) {
    return await writeOutput(output, force, async (sink) => {
      const { cache, report } = await codec.decompress(input.source, options);
      const bytes = writeLlamaState(cache, layout);
      await sink.write(bytes);
      return { report, streamed: false, bytesOut: bytes.length };
    });
  }
  const streamed = output !== "-" && (input.streamed || fp16Bytes > IN_MEMORY_BYTES);
  if (streamed) {
    return await writeOutputFile(output, force, async (sink) => {
      const { report, bytesOut } = await restoreTo(codec, input, () => sink, options);
      return { report, streamed, bytesOut };
    });
  }
  return await writeOutput(output, force, async (sink) => {
    let bytes = new Uint8Array(0);
    const makeSink = (byteLength: number): RandomSink => {
      bytes = new Uint8Array(byteLength);
      return { writeAt: (offset, part) => bytes.set(part, offset) };
    };
    const { report, bytesOut } = await restoreTo(codec, input, makeSink, options);
    await sink.write(bytes);
    return { report, streamed, bytesOut };
  });
}

async function restoreTo(
  codec: Codec,
  input: Input,
  makeSink: (byteLength: number) => RandomSink,
  options: DecompressOptions,
): Promise<{ report: DecompressReport; bytesOut: number }> {
  let cacheSink: SafetensorsSink | null = null;
  const open = async (shape: RestoredShape) => {
    let target: RandomSink | null = null;
    const late: RandomSink = { writeAt: (offset, bytes) => target!.writeAt(offset, bytes) };
    cacheSink = new SafetensorsSink(late, shape);
    target = makeSink(cacheSink.byteLength);
    await cacheSink.start();
    return cacheSink;
  };
  const report = await codec.decompressTo(input.source, open, options);
  const done = cacheSink! as SafetensorsSink;
  done.finish();
  return { report, bytesOut: done.byteLength };
}
