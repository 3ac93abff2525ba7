/**
 * Sizes of what an application loads, minified as a bundler gives it and gzipped.
 *
 * @module
 */
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

/** Gzip bytes of a bundle of `names` (all when absent) of an entry. */
export async function bundledSize(entry: string, names?: readonly string[]): Promise<{ bytes: number; text: string }> {
  const dir = await Deno.makeTempDir();
  try {
    const path = `${dir}/entry.ts`;
    const what = names === undefined ? "*" : `{ ${names.join(", ")} }`;
    await Deno.writeTextFile(path, `export ${what} from ${JSON.stringify(new URL(entry, import.meta.url).href)};\n`);
    const out = `${dir}/bundle.js`;
    await run([DENO, "bundle", "--minify", "--platform", "browser", "-o", out, path]);
    const text = await Deno.readTextFile(out);
    return { bytes: await gzipSize(text), text };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Length of a text after gzip. */
export async function gzipSize(text: string): Promise<number> {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(stream).bytes()).length;
}
