/**
 * The mark by which a command knows the pages that it made, which it may replace unasked.
 *
 * @module
 */
import { FileSystemError } from "../exit_codes.ts";
import { readInput } from "../files.ts";

/** Element of a page's head: the command that made the page, for instance "kvz demo". */
export function generatorTag(command: string): string {
  return `<meta name="generator" content="${command}">`;
}

/** Whether a file is a page that the command made; false where there is no such file. */
export async function isPageOf(command: string, path: string): Promise<boolean> {
  try {
    return new TextDecoder().decode(await readInput(path)).includes(generatorTag(command));
  } catch (error) {
    if (error instanceof FileSystemError) return false;
    throw error;
  }
}
