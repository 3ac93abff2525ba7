/**
 * The table of docs/results.md, "GPUs", from what the GPU benchmarks printed: what is wanted, what was measured, and whether
 * it holds. On a device that a processor plays the same ratios stand there without a verdict.
 *
 *     deno run -A bench/gpu/verdicts.ts FOLDER     a folder of JSON lines, $OUT of tools/gpu/run.sh
 *
 * @module
 */
import { type Result, verdictsOf, verdictTable } from "./verdicts_of.ts";

const [folder] = Deno.args;
if (folder === undefined) {
  console.error("usage: deno run -A bench/gpu/verdicts.ts FOLDER");
  Deno.exit(2);
}

/** Lines of benchmarks; files have others as well, and may end in the middle of one. */
function parse(line: string): Result[] {
  if (!line.startsWith("{")) return [];
  try {
    const value: Result = JSON.parse(line);
    return typeof value.benchmark === "string" ? [value] : [];
  } catch {
    return [];
  }
}

const names: string[] = [];
for await (const { name, isFile } of Deno.readDir(folder)) if (isFile) names.push(name);
const results: Result[] = [];
for (const name of names.sort()) {
  results.push(...(await Deno.readTextFile(`${folder}/${name}`)).split("\n").flatMap(parse));
}
const devices = new Set(results.flatMap(({ device }) => typeof device === "string" ? [device] : []));
const copies = results.filter(({ benchmark }) => benchmark === "copy").map((line) =>
  `${line.backend}: copying by ${line.copyBy === "driver" ? "the driver" : "a shader"} moves ` +
  `${line.copyGigabytesPerSecond} GB/s (arrays of ${line.copyMebibytes} MiB)`
);
console.log(`Measured on ${[...devices].join("; ") || "no device"}`);
for (const copy of new Set(copies)) console.log(copy);
console.log(`\n${verdictTable(verdictsOf(results))}`);
