/**
 * The AssemblyScript compiler as this project calls it.
 *
 * @module
 */
import asc from "assemblyscript/asc";
import type { WasmBuild } from "../src/backend/wasm/exports.ts";

const FLAGS: Record<WasmBuild, string[]> = {
  base: [],
  simd: ["--enable", "simd"],
  relaxed: ["--enable", "simd", "--enable", "relaxed-simd"],
};

/**
 * Compiles asm/<module>.ts.
 *
 * @throws {Error} with the compiler's messages.
 */
export async function compileAsm(module: string, build: WasmBuild): Promise<Uint8Array<ArrayBuffer>> {
  let wasm: Uint8Array<ArrayBuffer> | undefined;
  const { error, stderr } = await asc.main(
    // No runtime, no imports, no automatic vectorization: what is SIMD is written as SIMD.
    [
      `asm/${module}.ts`,
      "--outFile",
      "out.wasm",
      "--runtime",
      "stub",
      "--use",
      "abort=",
      "-O3",
      "--noAssert",
      // Engines that check bounds (Deno's) need one comparison less where memory has a page from the start.
      "--initialMemory",
      "1",
      ...FLAGS[build],
    ],
    {
      readFile: (name: string) => {
        try {
          return Deno.readTextFileSync(name);
        } catch {
          return null;
        }
      },
      writeFile: (name: string, contents: string | Uint8Array) => {
        if (typeof contents !== "string" && name.endsWith(".wasm")) wasm = contents as Uint8Array<ArrayBuffer>;
      },
      listFiles: () => [],
    },
  );
  if (error || !wasm) throw new Error(`Cannot compile asm/${module}.ts: ${error?.message ?? "no output"}\n${stderr}`);
  return wasm;
}
