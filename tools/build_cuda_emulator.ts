/**
 * Compiles the CUDA modules of cuda/ with g++ into a library that stands for libcuda.so.1: each thread of a block is a
 * fiber (cuda/emulate). Tests drive it as they would a GPU. What is up to date is not compiled again.
 *
 * deno run -A tools/build_cuda_emulator.ts   prints the path of the library (g++ on x86-64 Linux)
 *
 * @module
 */
import { run } from "./exec.ts";

const ROOT = new URL("../", import.meta.url).pathname;

const FLAGS = [
  ..."-x c++ -std=c++20 -O2 -fPIC -fvisibility=hidden -fno-exceptions -fno-strict-aliasing -ffp-contract=off".split(
    " ",
  ),
  ..."-Wall -Wno-unused -Wno-unknown-pragmas -Wno-parentheses -Wno-maybe-uninitialized -DKVZ_EMULATE".split(" "),
];

/** Names of the modules in cuda/. */
export async function cudaModules(): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(`${ROOT}cuda`)) if (name.endsWith(".cu")) names.push(name.slice(0, -3));
  return names.sort();
}

/** Names of the kernels of a module, macros expanded. */
async function kernelsOf(path: string): Promise<string[]> {
  const { out } = await run(["g++", "-x", "c++", "-E", "-P", "-I", `${ROOT}cuda`, path]);
  const kernels = /extern "C" __global__ void(?: __launch_bounds__\([^)]*\))? (\w+)\(/g;
  return [...out.replace(/\s+/g, " ").matchAll(kernels)].map(([, name]) => name);
}

/** The module as a source for g++: in a namespace of its own, its kernels named in a list. */
function emulated(module: string, text: string, kernels: readonly string[]): string {
  const list = kernels.map((name) => `KVZ_KERNEL(${module}, ${name})\n`).join("");
  return `#include "device.h"\nnamespace {\n#line 1 "cuda/${module}.cu"\n` +
    `${text.replaceAll('extern "C" ', "")}\n${list}}\n`;
}

/** When a file was last written; 0 when there is none. */
async function written(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).mtime?.getTime() ?? 0;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** A folder for this checkout: several may share a .cache. */
async function outDir(): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(ROOT));
  return `${ROOT}.cache/cuda/emulated_${new Uint8Array(digest).subarray(0, 4).toHex()}`;
}

/** Builds what is older than its sources; returns the path of the library. */
export async function buildEmulator(): Promise<string> {
  const dir = await outDir();
  await Deno.mkdir(dir, { recursive: true });
  let headers = await written(new URL(import.meta.url).pathname);
  for (const folder of ["cuda", "cuda/emulate"]) {
    for await (const { name } of Deno.readDir(ROOT + folder)) {
      if (/\.(cuh|h)$/.test(name)) headers = Math.max(headers, await written(`${ROOT}${folder}/${name}`));
    }
  }
  const sources = [
    ...(await cudaModules()).map((module) => `${module}.cu`),
    "emulate/machine.cpp",
    "emulate/driver.cpp",
  ];
  const objects: string[] = [];
  let newest = 0;
  for (const source of sources) {
    const object = `${dir}/${source.replaceAll("/", "_")}.o`;
    const path = `${ROOT}cuda/${source}`;
    objects.push(object);
    newest = Math.max(newest, headers, await written(path));
    if (await written(object) > Math.max(headers, await written(path))) continue;
    const unit = `${dir}/${source.replaceAll("/", "_")}.${crypto.randomUUID()}`;
    let text = await Deno.readTextFile(path);
    if (source.endsWith(".cu")) text = emulated(source.slice(0, -3), text, await kernelsOf(path));
    await Deno.writeTextFile(`${unit}.cpp`, text);
    const include = ["-I", `${ROOT}cuda`, "-I", `${ROOT}cuda/emulate`];
    const { log } = await run(["g++", ...FLAGS, ...include, "-c", `${unit}.cpp`, "-o", `${unit}.o`]);
    if (log !== "") console.error(log);
    await Deno.remove(`${unit}.cpp`);
    await Deno.rename(`${unit}.o`, object);
  }
  const library = `${dir}/libcuda_emulated.so`;
  if (await written(library) <= newest) {
    // Under another name first: a process that has the old one loaded keeps it.
    const made = `${library}.${crypto.randomUUID()}`;
    await run(["g++", "-shared", "-Wl,-Bsymbolic", "-o", made, ...objects]);
    await Deno.rename(made, library);
  }
  return library;
}

/** Builds the stand-in for cuBLASLt; returns its path. */
export async function buildCublasLt(): Promise<string> {
  const dir = await outDir();
  await Deno.mkdir(dir, { recursive: true });
  const source = `${ROOT}cuda/emulate/cublaslt.cpp`;
  const library = `${dir}/libcublasLt_emulated.so`;
  if (await written(library) <= await written(source)) {
    const made = `${library}.${crypto.randomUUID()}`;
    await run(["g++", "-std=c++20", "-O2", "-fPIC", "-Wall", "-shared", "-fvisibility=hidden", source, "-o", made]);
    await Deno.rename(made, library);
  }
  return library;
}

if (import.meta.main) console.log(await buildEmulator());
