/** `kvz bench` has a row for every kernel: what it launches is compared with the entry points that there are. */
import { assertAlmostEquals, assertEquals } from "deno-std/assert";
import { peakOf } from "../../cli/bench/cuda_cases.ts";
import { casesOf, limitOf } from "../../cli/bench/measure.ts";
import { loadTexts } from "../../src/backend/cuda/modules.ts";
import { createBackend } from "../../src/backend/select.ts";
import type { KernelTime } from "../../src/backend/gpu/kernel_time.ts";
import { BACKENDS } from "../backend/backends.ts";

/** Kernels that are no step of a codec, and what runs them. */
const NO_ROW: Readonly<Record<string, string>> = {
  "bytes.merge": "writes that begin or end within a word",
  "integer.packBasis": "a basis that is uploaded",
};

/** Of kernels that differ in this alone one is run: which one follows from sizes and device. */
const CHOSEN_BY_SIZE = [
  // Tiles of products.
  /(?<=^gemm\.(floats|halves|product)|^integer\.(bytes|product))\d+/,
  // Where tables lie.
  /(?<=^rans_(de|en)code\.rans.*)(Shared|Sought|Cached)$/,
];

/** Devices without products of packed bytes run the same text under another name. */
const family = (kernel: string) =>
  CHOSEN_BY_SIZE.reduce((name, part) => name.replace(part, "…"), kernel.replace("integer_bytes.", "integer."));

/** "module.entry" of every kernel. */
async function entryPoints(backend: string): Promise<string[]> {
  if (backend === "cuda") {
    return [...await loadTexts()].flatMap(([module, text]) =>
      [...new TextDecoder().decode(text).matchAll(/\.entry (\w+)/g)].map(([, entry]) => `${module}.${entry}`)
    );
  }
  // What is embedded has the files that a shader includes.
  const folder = new URL("../../src/backend/webgpu/shaders/", import.meta.url);
  const found: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    const text = await Deno.readTextFile(new URL(name, folder));
    for (const [, entry] of text.matchAll(/@compute[^{]*?\bfn (\w+)/g)) found.push(`${name.slice(0, -3)}.${entry}`);
  }
  return found;
}

for (const [label, options] of BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu")) {
  Deno.test(`${label}: bench runs every kernel`, async () => {
    using backend = await createBackend({ ...options, timeKernels: true });
    const { profile } = backend as unknown as { profile(): Promise<KernelTime[]> };
    const ran = new Set<string>();
    const rows = await casesOf(backend, 16);
    // What opening the rows ran is not measured.
    await profile.call(backend);
    for (const { name, run } of rows) {
      run();
      const kernels = await profile.call(backend);
      assertEquals(kernels.length > 0, true, `${name} runs no kernel`);
      for (const { kernel } of kernels) ran.add(family(kernel));
    }
    const wanted = (await entryPoints(label)).filter((kernel) => !(kernel in NO_ROW)).map(family);
    assertEquals(wanted.length > 40, true);
    assertEquals([...new Set(wanted)].filter((kernel) => !ran.has(kernel)).sort(), []);
    // The profiler names what is listed, so that a listing that is out of date shows too.
    const known = new Set([...wanted, "cublasLt.matmul"]);
    assertEquals([...ran].filter((kernel) => !known.has(kernel)).sort(), []);
    assertEquals(new Set(rows.map(({ name }) => name)).size, rows.length, "Two rows have one name");
  });
}

Deno.test("products are measured against cuBLASLt's where it is present, else against the fastest of floats", () => {
  const own = [{ name: "copy" }, { name: "project" }, { name: "reconstruct" }, { name: "integer product" }];
  assertEquals(limitOf(own, [0, 2, 3, 9]), 2);
  const library = { name: "cuBLASLt product by rows", limit: true };
  assertEquals(limitOf([...own, library], [0, 2, 3, 9, 1]), 4);
});

Deno.test("the tensor cores' nominal peak is the published one, or left out", () => {
  const teraOperations = (major: number, minor: number, multiprocessors: number, clockHertz: number | null) => {
    const peak = peakOf({ computeCapability: [major, minor], multiprocessors, clockHertz });
    return peak === null ? null : peak / 1e3;
  };
  // A100: 312 TFLOP/s at 1.41 GHz; H100 SXM: 989 at 1.83 GHz.
  assertAlmostEquals(teraOperations(8, 0, 108, 1.41e9)!, 312, 0.5);
  assertAlmostEquals(teraOperations(9, 0, 132, 1.83e9)!, 989.4, 0.5);
  assertEquals(teraOperations(8, 9, 128, 2.5e9), null);
  assertEquals(teraOperations(9, 0, 132, null), null);
});
