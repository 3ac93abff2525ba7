/**
 * Files for Deno, Node and Bun: ranged reads, streams, and writes that appear whole or not at all.
 *
 * @example Open a compressed cache and read its header
 * ```ts ignore
 * import { openFile } from "@kvz/kvz/fs";
 * import { inspect } from "@kvz/kvz";
 *
 * await using file = await openFile("prompt.kvz");
 * console.log(await inspect(file));
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
