/**
 * What the GPU benchmarks' results say of the goals in docs/results.md, "GPUs".
 *
 * @module
 */
import { FEW_COMPONENTS, MOST_MILLISECONDS, type WayVerdict } from "./table5_goals.ts";

/** A line that a benchmark printed; the fields depend on the benchmark. */
// deno-lint-ignore no-explicit-any
export type Result = Record<string, any>;

/** A goal, what was measured and whether it holds. */
export interface Verdict {
  readonly what: string;
  readonly wanted: string;
  readonly measured: string;
  /** null: nothing was measured, or nothing is wanted. */
  readonly holds: boolean | null;
}

/** Mebibytes of symbols from which the entropy coder's rates are wanted. */
const LARGE = 64;
const DECODE_RATE = 400;
const ENCODE_RATE = 250;
const QUANTIZE_SHARE = 0.7;
const ELEMENTWISE_SHARE = 0.6;
const DECODE_SHARE = 0.1;
const PRODUCT_SHARE = 0.5;
const NOT_MEASURED = "not measured";
/** Components that the Table 5 point is wanted at, beside what the dynamic program keeps. */
const TABLE5_COMPONENTS = ["10000", "dp", "8000"];
const TABLE5_TOKENS = 65536;
/** KVTC's own times there. */
const PAPER_MILLISECONDS = { compress: 379, decompress: 267 };

/** Three digits, or all before the point: so that 0.598 does not read 0.6. */
function short(x: number): string {
  return x >= 100 ? x.toFixed(0) : String(Number(x.toPrecision(3)));
}

/** Whether all hold; null where one is unknown and none fails, or there are none. */
function allHold(of: readonly (boolean | null)[]): boolean | null {
  if (of.includes(false)) return false;
  return of.length === 0 || of.includes(null) ? null : true;
}

/** Goals of both backends from lines of all benchmarks, and figures that have no goal. */
export function verdictsOf(results: readonly Result[]): Verdict[] {
  const of = (benchmark: string) => results.filter((line) => line.benchmark === benchmark);
  const on = (benchmark: string, backend: string) => of(benchmark).filter((line) => line.backend === backend);
  return [
    ...table5Verdicts(of("table5")),
    ...entropyVerdicts(on("entropy", "cuda")),
    quantizeVerdict(on("elementwise", "cuda")),
    elementwiseVerdict(on("elementwise", "webgpu")),
    decodeShareVerdict(on("entropy", "webgpu")),
    productVerdict(on("gemm", "webgpu")),
    ...otherFigures(results),
  ];
}

function table5Verdicts(lines: readonly Result[]): Verdict[] {
  const point = lines.filter(({ model, tokens }) => model === "nemo-12b" && tokens === TABLE5_TOKENS);
  const verdicts: Verdict[] = [];
  for (const components of TABLE5_COMPONENTS) {
    const line = point.find((one) => one.components === components);
    const kept = line === undefined ? components : line.kept.join(" and ");
    const what = `KVTC's Table 5 point, ${components === "dp" ? `dynamic program (${kept})` : kept} components`;
    for (const way of ["compress", "decompress"] as const) {
      verdicts.push(boundVerdict(`${what}, ${way}`, line, way));
    }
    const most = line === undefined ? Number(components) : Math.max(...line.kept);
    if (!(most <= FEW_COMPONENTS)) continue;
    for (const way of ["compress", "decompress"] as const) {
      const goal: WayVerdict | undefined = line?.goals[way];
      const measured = goal === undefined ? NOT_MEASURED : `${short(goal.milliseconds)} ms`;
      const wanted = `≤ ${MOST_MILLISECONDS} ms (paper: ${PAPER_MILLISECONDS[way]} ms)`;
      verdicts.push({
        what: `${what}, ${way}`,
        wanted,
        measured,
        holds: goal?.within165 ?? null,
      });
    }
  }
  const others = lines.filter((line) => !point.includes(line));
  return [
    ...verdicts,
    ...others.flatMap((line) =>
      (["compress", "decompress"] as const).map((way) => {
        const what = `${line.model}, ${line.tokens} tokens, ${line.kept.join(" and ")} components, ${way}`;
        // The bound is wanted of the Table 5 point; here it shows how far a shape is from it.
        return { ...boundVerdict(what, line, way), wanted: "–", holds: null };
      })
    ),
  ];
}

function boundVerdict(what: string, line: Result | undefined, way: "compress" | "decompress"): Verdict {
  const wanted = "≤ 1.25 × cuBLASLt's products + 10 ms";
  if (line === undefined) return { what, wanted, measured: NOT_MEASURED, holds: null };
  const { milliseconds, ofProducts, boundMilliseconds, withinBound }: WayVerdict = line.goals[way];
  const { by, reason } = line.products;
  const bound = by === "cuBLASLt"
    ? `${short(ofProducts)} × cuBLASLt, bound ${short(boundMilliseconds)} ms`
    : `${short(ofProducts)} × our own products; ${reason}`;
  return { what, wanted, measured: `${short(milliseconds)} ms: ${bound}`, holds: withinBound };
}

/** Streams of few rows are many, those of many rows few: a device is full with thousands. */
function entropyVerdicts(lines: readonly Result[]): Verdict[] {
  const large = lines.filter(({ mebibytes }) => mebibytes >= LARGE);
  const heights = [...new Set(large.map(({ rows }) => rows as number))].sort((a, b) => a - b);
  return ([["decode", DECODE_RATE], ["encode", ENCODE_RATE]] as const).flatMap(([way, least]) => {
    const what = `rANS ${way}, ≥ ${LARGE} MiB of symbols`;
    const verdict = (name: string, own: readonly Result[]) => {
      const rate = (line: Result) => line[way].gigabytesPerSecond as number;
      return rangeVerdict(name, `≥ ${least} GB/s`, own, rate, nameOfSet, least, " GB/s");
    };
    if (heights.length === 0) return [verdict(what, [])];
    return heights.map((rows) =>
      verdict(`${what}, streams of ${rows} rows`, large.filter((line) => line.rows === rows))
    );
  });
}

function decodeShareVerdict(lines: readonly Result[]): Verdict {
  // Small batches do not fill a device; on a processor there are no others.
  const large = lines.filter(({ mebibytes, software }) => mebibytes >= LARGE || software);
  const share = (line: Result) => line.decode.ofCopy as number;
  const wanted = `≥ ${DECODE_SHARE} of a copy shader`;
  return rangeVerdict("WebGPU: rANS decode", wanted, large, share, nameOfSet, DECODE_SHARE, "");
}

function nameOfSet({ symbols, rows, mebibytes }: Result): string {
  return `${symbols}, ${rows} rows, ${mebibytes} MiB`;
}

function quantizeVerdict(lines: readonly Result[]): Verdict {
  const own = lines.filter(({ kernel }) => kernel === "quantize");
  const share = ({ ofCopy }: Result) => ofCopy as number;
  return rangeVerdict("quantize", `≥ ${QUANTIZE_SHARE} of copying`, own, share, () => "", QUANTIZE_SHARE, "");
}

function elementwiseVerdict(lines: readonly Result[]): Verdict {
  const wanted = `≥ ${ELEMENTWISE_SHARE} of a copy shader`;
  const share = ({ ofCopy }: Result) => ofCopy as number;
  const name = ({ kernel }: Result) => kernel as string;
  return rangeVerdict("WebGPU: kernels without products", wanted, lines, share, name, ELEMENTWISE_SHARE, "");
}

function productVerdict(lines: readonly Result[]): Verdict {
  const same = (a: Result, b: Result) => ["what", "tokens", "features", "components"].every((key) => a[key] === b[key]);
  const pairs = lines.filter(({ by }) => by === "kvz").flatMap((own): Result[] => {
    const peers = lines.filter((line) => !String(line.by).startsWith("kvz") && same(line, own));
    if (peers.length === 0) return [];
    return [{ ...own, share: own.tflops / Math.max(...peers.map(({ tflops }) => tflops)) }];
  });
  const share = (line: Result) => line.share as number;
  const name = ({ what, tokens, features, components }: Result) => `${what} ${tokens} × ${features} × ${components}`;
  const wanted = `≥ ${PRODUCT_SHARE} of a public WGSL product`;
  return rangeVerdict("WebGPU: product", wanted, pairs, share, name, PRODUCT_SHARE, "");
}

/** A goal that all lines have to reach: the least and the largest, and how many reach it. */
function rangeVerdict(
  what: string,
  wanted: string,
  lines: readonly Result[],
  value: (line: Result) => number,
  name: (line: Result) => string,
  least: number,
  unit: string,
): Verdict {
  if (lines.length === 0) return { what, wanted, measured: NOT_MEASURED, holds: null };
  const sorted = [...lines].sort((a, b) => value(a) - value(b));
  const named = (line: Result) => `${short(value(line))}${unit}${name(line) === "" ? "" : ` (${name(line)})`}`;
  const reached = sorted.filter((line) => value(line) >= least).length;
  const measured = sorted.length === 1
    ? named(sorted[0])
    : `${named(sorted[0])} to ${named(sorted[sorted.length - 1])}; ${reached} of ${sorted.length}`;
  return { what, wanted, measured, holds: allHold(lines.map((line) => line.software ? null : value(line) >= least)) };
}

/** Recipe kvz at the Table 5 point, and whole calls: nothing is wanted of them. */
function otherFigures(results: readonly Result[]): Verdict[] {
  return results.flatMap((line): Verdict[] => {
    const rest = { wanted: "–", holds: null };
    if (line.benchmark === "kvz") {
      const what = `recipe kvz: ${line.features} features, ${line.components} components, ${line.tokens} tokens` +
        (line.products ? "" : ", without products");
      const measured = `${short(line.encode.ms)} and ${short(line.decode.ms)} ms`;
      return [{ what: `${what} (${line.backend})`, measured, ...rest }];
    }
    if (line.benchmark === "restore") {
      const { recipe, tokens, restoreTokensPerSecond: host, restoreOnDeviceTokensPerSecond: there } = line;
      const measured = `${host} tokens/s${there === null ? "" : `, ${there} on the device`}`;
      return [{ what: `SmolLM2 restored by ${recipe} on ${line.backend}, ${tokens} tokens`, measured, ...rest }];
    }
    if (line.benchmark === "codec") {
      const { recipe, backend, layers, heads, dim, tokens, compress, restore } = line;
      const what = `whole calls of ${recipe} on ${backend}: ${layers} × ${heads} × ${dim}, ${tokens} tokens`;
      const one = (way: Result) => `${short(way.milliseconds)} ms (kernels ${short(way.kernelMilliseconds)})`;
      return [{ what, measured: `compress ${one(compress)}, restore ${one(restore)}`, ...rest }];
    }
    return [];
  });
}

/** The table of docs/results.md, "GPUs". */
export function verdictTable(verdicts: readonly Verdict[]): string {
  const words = new Map<boolean | null, string>([[true, "holds"], [false, "does not hold"], [null, "–"]]);
  const rows = [
    ["what", "wanted", "measured", "verdict"],
    ...verdicts.map(({ what, wanted, measured, holds }) => [what, wanted, measured, words.get(holds)!]),
  ];
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [line(rows[0]), line(widths.map((width) => "-".repeat(width))), ...rows.slice(1).map(line)].join("\n");
}
