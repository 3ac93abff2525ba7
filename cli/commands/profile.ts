/**
 * `kvz profile`: looking at profiles, trimming them, measuring their curve, and handing them to NumPy or PyTorch.
 *
 * @module
 */
import type { Command } from "commander";
import { exportProfile } from "../../src/profile/export.ts";
import { importProfile } from "../../src/profile/import.ts";
import { trimKvzProfile } from "../../src/profile/kvz/trim.ts";
import { requireProfile } from "../../src/profile/require.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import { trimProfile } from "../../src/profile/trim.ts";
import type { CliContext } from "../context.ts";
import { openFileSource, writeOutput } from "../files.ts";
import { formatBytes, formatFacts } from "../format.ts";
import {
  addJsonOption,
  addOutputOptions,
  checkOneStdout,
  given,
  type JsonFlag,
  type OutputFlags,
  positiveNumber,
  ratioList,
} from "../options.ts";
import { profileFacts } from "../profile_facts.ts";
import { readProfile } from "../profile_input.ts";
import { scoped } from "../scope.ts";
import { addProfileCurve } from "./profile_curve.ts";

/** Adds the commands. */
export function addProfile(program: Command, context: CliContext): void {
  const group = program.command("profile").description("look at a profile, trim it, measure its curve, export it");

  const info = group.command("info").description("print what a profile holds").argument("<profile>", ".kvzp file");
  addJsonOption(info).action(async (path: string, flags: JsonFlag) => {
    const { json, lines } = profileFacts(await readProfile(path));
    await context.finish(flags, json, formatFacts(lines));
  });

  const trim = group.command("trim")
    .description("keep only the components that some ratios use")
    .argument("<profile>", ".kvzp file")
    .requiredOption("--ratios <list>", "ratios to keep, for instance 32,64", ratioList("--ratios"));
  addOutputOptions(trim, "trimmed profile (.kvzp)");
  addJsonOption(trim).action(async (path: string, flags: OutputFlags & JsonFlag & { ratios: number[] }) => {
    checkOneStdout(flags);
    const profile = await readProfile(path);
    const trimmed = profile.method === "kvz"
      ? trimKvzProfile(profile, Math.min(...flags.ratios))
      : trimProfile(requireProfile(profile, "kvtc"), flags.ratios);
    const bytes = await serializeProfile(trimmed);
    await writeOutput(flags.output, flags.force ?? false, async (sink) => await sink.write(bytes));
    const { json, lines } = profileFacts(trimmed);
    await context.finish(flags, { bytesOut: bytes.length, ...json }, [
      ...formatFacts([[flags.output, formatBytes(bytes.length)], ...lines]),
    ]);
  });

  addProfileCurve(group, context);

  const importer = group.command("import")
    .description("make a profile of what a tool has made (tools/kvcar.py export, tools/recalkv.py)")
    .argument("<export>", ".safetensors file");
  addOutputOptions(importer, "profile (.kvzp)");
  addJsonOption(importer).action(async (path: string, flags: OutputFlags & JsonFlag) => {
    checkOneStdout(flags);
    const profile = await scoped(async (scope) => await importProfile(scope.use(await openFileSource(path))));
    const bytes = await serializeProfile(profile);
    await writeOutput(flags.output, flags.force ?? false, async (sink) => await sink.write(bytes));
    const { json, lines } = profileFacts(profile);
    await context.finish(flags, { bytesOut: bytes.length, ...json }, [
      ...formatFacts([[flags.output, formatBytes(bytes.length)], ...lines]),
    ]);
  });

  const exporter = group.command("export")
    .description("write mean, basis, variance and error table as .safetensors (key.mean, value.basis, …)")
    .argument("<profile>", ".kvzp file")
    .option("--ratio <x>", "also write the plan for this ratio (key.groups, value.groups)", positiveNumber("--ratio"));
  addOutputOptions(exporter, ".safetensors file");
  addJsonOption(exporter).action(async (path: string, flags: OutputFlags & JsonFlag & { ratio?: number }) => {
    checkOneStdout(flags);
    const profile = requireProfile(await readProfile(path), "kvtc");
    const bytes = exportProfile(profile, given(flags, ["ratio"]));
    await writeOutput(flags.output, flags.force ?? false, async (sink) => await sink.write(bytes));
    await context.finish(flags, { bytesOut: bytes.length, fingerprint: profile.fingerprint }, [
      ...formatFacts([[flags.output, formatBytes(bytes.length)]]),
    ]);
  });
}
