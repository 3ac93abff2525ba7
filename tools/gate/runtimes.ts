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
  await Deno.mkdir(DIR, { recursive: true });
  const manifest = JSON.stringify({ private: true, dependencies: VERSIONS });
  const present = await Deno.readTextFile(`${DIR}/installed.json`).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  });
  if (present !== manifest) {
    await Deno.writeTextFile(`${DIR}/package.json`, manifest);
    // Their install scripts only put the platform's program elsewhere; it is taken from where npm left it.
    await run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"], { cwd: DIR });
    await Deno.writeTextFile(`${DIR}/installed.json`, manifest);
  }
  const { os, arch } = Deno.build;
  const cpu = arch === "aarch64" ? "arm64" : "64";
  return {
    bun: await Deno.realPath(`${DIR}/node_modules/@oven/bun-${os}-${arch === "aarch64" ? arch : "x64"}/bin/bun`),
    workerd: await Deno.realPath(`${DIR}/node_modules/@cloudflare/workerd-${os}-${cpu}/bin/workerd`),
  };
}
