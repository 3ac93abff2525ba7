/**
 * Bundles the page's scripts with `deno bundle`: the page, the worker that runs the model, and kvz' own worker. The
 * latter two must be files of their own, beside each other, for a worker starts from a URL.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { CACHE_DIR } from "./packages.ts";

/** Folder of the page's bundled scripts. */
export const BUNDLE_DIR: string = `${CACHE_DIR}/app`;

const SCRIPTS = ["main", "engine_worker", "lane_worker"];

/** Bundles the page's scripts into {@linkcode BUNDLE_DIR}. */
export async function bundlePage(): Promise<void> {
  await bundle(SCRIPTS.map((name) => new URL(`page/${name}.ts`, import.meta.url)), BUNDLE_DIR);
}

/**
 * Bundles modules into files `NAME.js` of a folder.
 *
 * @throws {Error} Bundling failed; the message has the compiler's words.
 */
export async function bundle(modules: readonly URL[], folder: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--platform", "browser", "--outdir", folder, ...modules.map((url) => fileURLToPath(url))],
    cwd: fileURLToPath(new URL(".", import.meta.url)),
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`Cannot bundle the page: ${new TextDecoder().decode(stderr).trim()}`);
}
