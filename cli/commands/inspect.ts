/**
 * `kvz inspect`: what a .kvz file says of itself.
 *
 * @module
 */
import type { Command } from "commander";
import { describeModel } from "../../src/cache/describe_model.ts";
import { inspect } from "../../src/codec/inspect.ts";
import type { CliContext } from "../context.ts";
import { openInput } from "../files.ts";
import { formatBytes, formatCount, formatFacts, formatRatio } from "../format.ts";
import { addJsonOption, type JsonFlag } from "../options.ts";
import { scoped } from "../scope.ts";

/** Adds the command. */
export function addInspect(program: Command, context: CliContext): void {
  const command = program.command("inspect")
    .description("print what a .kvz file holds, without decoding it")
    .argument("<file>", ".kvz file, - for standard input")
    .option("--verify", "read every record and check its checksum");
  addJsonOption(command).action(async (path: string, flags: JsonFlag & { verify?: boolean }) => {
    const { verify = false } = flags;
    const facts = await scoped(async (scope) => await inspect(scope.use(await openInput(path)).source, { verify }));
    const { header, regions } = facts;
    const options = Object.entries(header.recipe.options).map(([name, value]) => `${name} ${value}`).join(", ");
    const lines = formatFacts([
      ["file", formatBytes(facts.bytes)],
      ["cache", `${formatBytes(facts.fp16Bytes)} at 16 bits, stored from ${header.dtype}`],
      ["ratios", `paper ${formatRatio(facts.paperRatio)}, file ${formatRatio(facts.fileRatio)}`],
      ["recipe", `${header.recipe.name} ${header.recipe.version}${options === "" ? "" : `: ${options}`}`],
      ["model", describeModel(header.model)],
      ["profile", header.profileFingerprint ?? "none"],
      [
        "tokens",
        `${formatCount(facts.tokens)} (${regions.sinks} sinks, ${regions.coded} coded in ${facts.chunks} ` +
        `${facts.chunks === 1 ? "chunk" : "chunks"}, ${regions.window} raw)${facts.tokenIds ? ", with token ids" : ""}`,
      ],
      ["positions", header.firstPosition === undefined ? "explicit" : `from ${header.firstPosition}`],
      ...Object.entries(facts.streams).map(([tag, bytes]) => [`  ${tag}`, formatBytes(bytes)] as const),
      ...(verify ? [["checksums", "all records are undamaged"] as const] : []),
    ]);
    await context.finish(flags, { ...facts, ...(verify ? { verified: true } : {}) }, lines);
  });
}
