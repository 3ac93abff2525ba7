/**
 * Transformers.js and onnxruntime from npm, installed once into .cache/eval.
 *
 * @module
 */
import { run } from "../exec.ts";
import { textOf } from "./python.ts";

const DIR = ".cache/eval";
const PACKAGE = "@huggingface/transformers";
const VERSION = "4.3.1";

/** What is installed, and whether it was there already. */
export interface Runtime {
  readonly folder: string;
  readonly version: string;
  readonly installed: boolean;
}

/**
 * Installs what is not there yet.
 *
 * @param say Told what is going on.
 * @throws {Error} npm was not found, or failed.
 */
export async function installRuntime(say: (line: string) => void): Promise<Runtime> {
  const manifest = JSON.stringify({ private: true, dependencies: { [PACKAGE]: VERSION } });
  const there = await textOf(`${DIR}/node_modules/${PACKAGE}/package.json`);
  const installed = await textOf(`${DIR}/package.json`) !== manifest || there === null ||
    JSON.parse(there).version !== VERSION;
  if (installed) {
    say(`Installing ${PACKAGE} ${VERSION} into ${DIR}`);
    await Deno.mkdir(DIR, { recursive: true });
    await Deno.writeTextFile(`${DIR}/package.json`, manifest);
    // The install script of onnxruntime-node downloads CUDA; the CPU library is in the package.
    const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"];
    try {
      await run(["npm", "install", ...flags], { cwd: DIR });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new Error(`Cannot install ${PACKAGE}: npm was not found, expected Node 20 or later`);
    }
  }
  return { folder: DIR, version: VERSION, installed };
}
