/** Verdicts of the GPU benchmarks on results that are made up: what holds, what does not, and what was not measured. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { table5Goals } from "../../bench/gpu/table5_goals.ts";
import { type Result, type Verdict, verdictsOf, verdictTable } from "../../bench/gpu/verdicts_of.ts";

const HARDWARE = { device: "NVIDIA H100", software: false };

/** A Table 5 line whose products take 150 and 160 ms. */
function table5(components: string, kept: number, compress: number, decompress: number, more: Result = {}): Result {
  const line = { benchmark: "table5", ...HARDWARE, model: "nemo-12b", tokens: 65536, components, ...more };
  const times = { compressMilliseconds: compress, decompressMilliseconds: decompress };
  const products = more.products ??
    { by: "cuBLASLt", reason: null, projectMilliseconds: 150, reconstructMilliseconds: 160 };
  const software = Boolean(more.software);
  return {
    ...line,
    ...times,
    kept: [kept, kept],
    products,
    goals: table5Goals(times, products, [kept, kept], software),
  };
}

function entropy(backend: string, symbols: string, mebibytes: number, decode: number, encode: number): Result {
  const way = (rate: number) => ({ ms: 1, gigabytesPerSecond: rate, ofCopy: rate / 2000 });
  const of = { symbols, rows: 16, mebibytes, decode: way(decode), encode: way(encode) };
  return { benchmark: "entropy", backend, ...HARDWARE, ...of };
}

function elementwise(backend: string, kernel: string, ofCopy: number): Result {
  return { benchmark: "elementwise", backend, ...HARDWARE, kernel, ofCopy };
}

function product(what: string, by: string, tflops: number): Result {
  return {
    benchmark: "gemm",
    backend: "webgpu",
    ...HARDWARE,
    what,
    by,
    tokens: 256,
    features: 64,
    components: 32,
    tflops,
  };
}

/** The verdict of a goal; `wanted` tells two of one name apart. */
function find(verdicts: readonly Verdict[], what: string, wanted = ""): Verdict {
  const found = verdicts.filter((one) => one.what.includes(what) && one.wanted.includes(wanted));
  assertEquals(found.length, 1, `${what}: ${found.length} verdicts`);
  return found[0];
}

Deno.test("the Table 5 point is held to 1.25 times cuBLASLt's products + 10 ms, and to 165 ms with few components", () => {
  // 1.25 · 150 + 10 = 197.5, 1.25 · 160 + 10 = 210.
  const verdicts = verdictsOf([
    table5("10000", 10000, 197.5, 210.1),
    table5("dp", 9984, 197.6, 209),
    table5("8000", 8000, 165, 165.1),
  ]);
  const holds = (what: string, wanted?: string) => find(verdicts, what, wanted).holds;
  assertEquals(holds("10000 and 10000 components, compress"), true);
  assertEquals(holds("10000 and 10000 components, decompress"), false);
  assertEquals(holds("9984 and 9984) components, compress"), false);
  assertEquals(holds("9984 and 9984) components, decompress"), true);
  assertEquals(holds("8000 and 8000 components, compress", "165"), true);
  assertEquals(holds("8000 and 8000 components, decompress", "165"), false);
  assertEquals(holds("8000 and 8000 components, decompress", "cuBLASLt"), true);
});

Deno.test("without cuBLASLt or on a processor the Table 5 point has figures and no verdict", () => {
  const own = { by: "kvz", reason: "cuBLASLt is not here", projectMilliseconds: 200, reconstructMilliseconds: 200 };
  const [first] = verdictsOf([table5("10000", 10000, 100, 100, { products: own })]);
  assertEquals(first.holds, null);
  assertStringIncludes(first.measured, "100 ms");
  assertStringIncludes(first.measured, "cuBLASLt is not here");
  const played = verdictsOf([table5("8000", 8000, 100, 100, { software: true, device: "emulated" })]);
  assert(played.every(({ holds }) => holds === null));
  // Other shapes stand there without a goal.
  const other = verdictsOf([table5("4096", 4096, 500, 500, { model: "llama-3.1-8b" })]);
  const { wanted, holds } = find(other, "llama-3.1-8b, 65536 tokens, 4096 and 4096 components, compress");
  assertEquals([wanted, holds], ["–", null]);
});

Deno.test("rates and shares have to be reached by all that is measured, at sizes that count", () => {
  const verdicts = verdictsOf([
    // Small batches do not count.
    entropy("cuda", "q4", 16, 20, 10),
    entropy("cuda", "q4", 64, 400, 249),
    entropy("cuda", "q8", 256, 500, 300),
    { ...entropy("cuda", "q8", 64, 399, 300), rows: 1024 },
    entropy("webgpu", "q4", 1, 10, 10),
    entropy("webgpu", "q4", 64, 200, 10),
    elementwise("cuda", "quantize", 0.7),
    elementwise("cuda", "gather", 0.1),
    elementwise("webgpu", "quantize", 0.9),
    elementwise("webgpu", "scatter", 0.598),
    product("project", "kvz", 5),
    product("project", "TensorFlow.js's shader, f32", 9),
    product("project", "another", 10),
    product("integer multiply", "kvz", 1),
  ]);
  assertEquals(find(verdicts, "rANS decode, ≥ 64 MiB of symbols, streams of 16 rows").holds, true);
  assertEquals(find(verdicts, "rANS decode, ≥ 64 MiB of symbols, streams of 1024 rows").holds, false);
  const encode = find(verdicts, "rANS encode, ≥ 64 MiB of symbols, streams of 16 rows");
  assertEquals([encode.holds, encode.measured.includes("1 of 2")], [false, true]);
  assertEquals(find(verdicts, "quantize").holds, true);
  const kernels = find(verdicts, "WebGPU: kernels without products");
  assertEquals(kernels.holds, false);
  assertStringIncludes(kernels.measured, "0.598 (scatter)");
  assertEquals(find(verdicts, "WebGPU: rANS decode").holds, true);
  // The best of the peers counts.
  const { holds, measured } = find(verdicts, "WebGPU: product");
  assertEquals([holds, measured.startsWith("0.5 ")], [true, true]);
});

Deno.test("what was not measured is said to be so, and the table has a row for each", () => {
  const verdicts = verdictsOf([]);
  assert(verdicts.length >= 10);
  assert(verdicts.every(({ measured, holds }) => measured === "not measured" && holds === null));
  const lines = verdictTable(verdictsOf([table5("10000", 10000, 100, 300)])).split("\n");
  assertEquals(lines.length, verdicts.length + 2);
  assertEquals(new Set(lines.map((line) => [...line].length)).size, 1);
  assertStringIncludes(lines[2], "| holds ");
  assertStringIncludes(lines[3], "| does not hold |");
});
