/**
 * Sizes of what an application loads, minified as a bundler gives it and gzipped.
 *
 * @module
 */
import { gzipSync } from "node:zlib";
import { DENO, run } from "../exec.ts";

/** Most gzip bytes of the core import: all of the codec and every build of its kernels, no profile. */
export const CORE_LIMIT = 40_000;
/** What the core import is: what compressing, restoring and inspecting need. Adapters and calibration are beside it. */
export const CORE_NAMES: readonly string[] = [
  "KvCache",
  "compress",
  "decompress",
  "inspect",
  "loadProfile",
  "openCodec",
];

/** Sizes after minifying and gzip. */
export interface BundledSize {
  /** What is loaded at import. */
  readonly bytes: number;
  /** What may be loaded later, by `import()`. */
  readonly lazyBytes: number;
}

/**
 * Bundles `names` (all when absent) of an entry of the installed package, as a browser application would.
 *
 * @param project a folder with the package in its node_modules
 */
export async function bundledSize(project: string, entry: string, names?: readonly string[]): Promise<BundledSize> {
  const dir = await Deno.makeTempDir({ dir: project });
  try {
    const what = names === undefined ? "*" : `{ ${names.join(", ")} }`;
    await Deno.writeTextFile(`${dir}/entry.js`, `export ${what} from "${entry}";\n`);
    const options = ["--minify", "--platform", "browser", "--code-splitting", "--outdir", `${dir}/out`];
    await run([DENO, "bundle", ...options, `${dir}/entry.js`], { cwd: project });
    const texts = new Map<string, string>();
    for await (const { name } of Deno.readDir(`${dir}/out`)) {
      texts.set(name, await Deno.readTextFile(`${dir}/out/${name}`));
    }
    const loaded = new Set<string>();
    loadStatic("entry.js", texts, loaded);
    // As one file each, in the order of loading: how a bundler cuts what is loaded together is not the package's matter,
    // and files in the order of their names, which are hashes, would make up to two kilobytes more or less.
    const later = [...texts.keys()].filter((name) => !loaded.has(name));
    const sizeOf = (names: Iterable<string>) => gzipSize(Array.from(names, (name) => texts.get(name)!).join("\n"));
    return { bytes: sizeOf(loaded), lazyBytes: sizeOf(later) };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Adds a file and all it imports, but not what it imports by `import()`. */
function loadStatic(name: string, texts: ReadonlyMap<string, string>, loaded: Set<string>): void {
  const text = texts.get(name);
  if (text === undefined) throw new Error(`Cannot measure the bundle: it has no file ${name}`);
  if (loaded.has(name)) return;
  loaded.add(name);
  for (const [, found] of text.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g)) loadStatic(found, texts, loaded);
}

/** Length of a text after gzip at its best level. */
export function gzipSize(text: string): number {
  return gzipSync(text, { level: 9 }).length;
}
