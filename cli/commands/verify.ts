/**
 * `kvz verify`: how far the cache in a .kvz file is from the original.
 *
 * @module
 */
import type { Command } from "commander";
import { openCodec } from "../../src/codec/open.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { resolveModel } from "../../src/cache/fingerprint.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { openCache } from "../cache_input.ts";
import type { CliContext } from "../context.ts";
import { measureErrors } from "../../src/eval/error_meter.ts";
import { servedModel } from "../../src/profile/served.ts";
import { EXIT } from "../exit_codes.ts";
import { checkOneStdin, openInput } from "../files.ts";
import { formatError, formatTable } from "../format.ts";
import {
  addBackendOptions,
  addCacheOptions,
  addJsonOption,
  type BackendFlags,
  type CacheFlags,
  type JsonFlag,
  laneOptions,
} from "../options.ts";
import { addProfileOption, type ProfileFlag, readOptionalProfile } from "../profile_input.ts";
import { progressLine } from "../progress.ts";
import { type Scope, scoped } from "../scope.ts";

type VerifyFlags = BackendFlags & JsonFlag & CacheFlags & ProfileFlag;

/** Adds the command. */
export function addVerify(program: Command, context: CliContext): void {
  const command = program.command("verify")
    .description(
      "decode a .kvz file and report its errors against the original cache; exit code 4 when the raw window differs",
    )
    .argument("<file>", ".kvz file")
    .argument("<cache>", "the original: .safetensors or llama.cpp state");
  addProfileOption(command);
  addCacheOptions(command);
  addBackendOptions(command);
  addJsonOption(command).action((file: string, cache: string, flags: VerifyFlags) =>
    scoped((scope) => verify(context, scope, file, cache, flags))
  );
}

async function verify(
  context: CliContext,
  scope: Scope,
  file: string,
  cachePath: string,
  flags: VerifyFlags,
): Promise<void> {
  checkOneStdin(file, cachePath, flags.profile);
  const profile = await readOptionalProfile(flags);
  const input = scope.use(await openInput(file));
  const original = scope.use(await openInput(cachePath));
  const { cache } = await openCache(original, flags, profile ? servedModel(profile) : undefined);
  const facts = await inspect(input.source);
  resolveModel(cache.model, facts.header.model, { found: "the original", wanted: "the file" });
  if (cache.dtype !== facts.header.dtype) {
    throw new KvzMismatchError(`Cannot compare: the original is ${cache.dtype}, the file ${facts.header.dtype}`);
  }
  const codec = scope.use(await openCodec(profile, laneOptions(flags)));
  const progress = progressLine("verify");
  const blocks = codec.blocks(input.source, {
    signal: context.signal,
    ...(flags.json ? {} : { onProgress: ({ done }) => progress.update({ done, total: facts.tokens }) }),
  });
  const errors = await measureErrors(cache, blocks, facts.regions).finally(progress.end);
  const { key, value, windowBitExact } = errors;
  const result = {
    tokens: facts.tokens,
    regions: facts.regions,
    keyError: key.relative,
    valueError: value.relative,
    windowBitExact,
    key,
    value,
    ...codec.info,
  };
  const row = (label: string, k: number | null, v: number | null) => [label, formatError(k), formatError(v)];
  const regions = (["sinks", "coded", "window"] as const).filter((name) => facts.regions[name] > 0);
  await context.finish(flags, result, [
    ...formatTable(["relative error", "K", "V"], [
      row(`all ${facts.tokens} tokens`, key.relative, value.relative),
      ...regions.map((name) => row(`${facts.regions[name]} ${name}`, key.regions[name], value.regions[name])),
      ...key.layers.map((error, layer) => row(`layer ${layer}`, error, value.layers[layer])),
      row("largest absolute", key.maxAbs, value.maxAbs),
    ]),
    windowBitExact === null ? "no raw window" : `raw window is ${windowBitExact ? "" : "NOT "}bit-exact`,
  ]);
  if (windowBitExact === false) context.exitCode = EXIT.mismatch;
}
