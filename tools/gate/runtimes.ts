/**
 * Bun and workerd from npm, installed once into .cache/runtimes.
 *
 * @module
 */
import { run } from "../exec.ts";

const VERSIONS = { bun: "1.4.5", workerd: "1.20261117.1" } as const;
const DIR = ".cache/runtimes";

/** Paths of the programs. */
export interface Runtimes {
  readonly bun: string;
  readonly workerd: string;
}

/** Installs what is not there yet. */
export async function installRuntimes(): Promise<Runtimes> {
  const manifest = JSON.stringify({ private: true, dependencies: VERSIONS });
  const { os, arch } = Deno.build;
  const arm = arch === "aarch64";
  const runtimes = {
    bun: `${Deno.cwd()}/${DIR}/node_modules/@oven/bun-${os}-${arm ? arch : "x64"}/bin/bun`,
    workerd: `${Deno.cwd()}/${DIR}/node_modules/@cloudflare/workerd-${os}-${arm ? "arm64" : "64"}/bin/workerd`,
  };
  const present = await exists(runtimes.bun) && await exists(runtimes.workerd) &&
    await Deno.readTextFile(`${DIR}/package.json`) === manifest;
  if (!present) {
    await Deno.mkdir(DIR, { recursive: true });
    await Deno.writeTextFile(`${DIR}/package.json`, manifest);
    // Their install scripts only put the platform's program elsewhere; it is taken from where npm left it.
    await run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"], { cwd: DIR });
  }
  return runtimes;
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
