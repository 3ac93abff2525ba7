/**
 * Installs what the page loads (and what drives it in tests) from npm into `.cache/browser`, so that a fresh clone of
 * the repository carries none of it.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

/** Exact versions. */
export const VERSIONS = {
  "onnxruntime-web": "1.30.0",
  "@huggingface/tokenizers": "0.2.0",
  "playwright-core": "1.64.1",
} as const;

/** A package that the example knows. */
export type PackageName = keyof typeof VERSIONS;

/** What the page needs. */
export const PAGE_PACKAGES: readonly PackageName[] = ["onnxruntime-web", "@huggingface/tokenizers"];

/** Folder of the packages and of the bundle. */
export const CACHE_DIR: string = fileURLToPath(new URL("../../.cache/browser", import.meta.url));

/** Folder of an installed package. */
export function packageDir(name: PackageName): string {
  return `${CACHE_DIR}/node_modules/${name}`;
}

async function installedVersion(name: PackageName): Promise<string | null> {
  try {
    return JSON.parse(await Deno.readTextFile(`${packageDir(name)}/package.json`)).version;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/**
 * Installs packages with npm unless they are there in the version wanted. No package's scripts are run.
 *
 * @throws {Error} npm is missing or failed; the message has its words.
 */
export async function installPackages(names: readonly PackageName[]): Promise<void> {
  const missing: string[] = [];
  for (const name of names) {
    if (await installedVersion(name) !== VERSIONS[name]) missing.push(`${name}@${VERSIONS[name]}`);
  }
  if (missing.length === 0) return;
  console.log(`Installing ${missing.join(", ")} into .cache/browser`);
  await Deno.mkdir(CACHE_DIR, { recursive: true });
  try {
    // Without a package.json of its own npm would install into a folder further up.
    await Deno.writeTextFile(`${CACHE_DIR}/package.json`, '{ "private": true }\n', { createNew: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  const { success, stderr } = await new Deno.Command("npm", {
    args: ["install", "--save-exact", "--ignore-scripts", "--no-audit", "--no-fund", ...missing],
    cwd: CACHE_DIR,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`Cannot install ${missing.join(", ")}: ${new TextDecoder().decode(stderr).trim()}`);
}
