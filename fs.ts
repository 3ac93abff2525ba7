/**
 * Files for Deno, Node and Bun: ranged reads, streams, and writes that appear whole or not at all.
 *
 * @example Open a cache and read two of its tokens, not the whole file
 * ```ts
 * import { openSafetensors } from "@kvz/kvz";
 * import { openFile } from "@kvz/kvz/fs";
 *
 * await using file = await openFile("samples/smollm2-256.safetensors");
 * const cache = await openSafetensors(file);
 * const keys = await cache.read("key", 100, 102);
 * console.log(`${keys.length} bytes of ${cache.tokens} tokens in all`);
 * ```
 *
 * @module
 */
export {
  appendFileAtomically,
  type FileSink,
  type FileSource,
  openFile,
  readFileStream,
  writeFileAtomically,
  type WriteFileOptions,
} from "./src/platform/fs.ts";
