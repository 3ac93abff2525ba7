/**
 * Results on disk as they come, one JSON object a line, so that an interrupted evaluation goes on where it stopped.
 *
 * @module
 */
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { KvzFormatError } from "../../src/errors.ts";
import { FileSystemError } from "../exit_codes.ts";

/** What a result depends on; equal facts mean that it need not be computed again. */
export type ResultFacts = Readonly<Record<string, unknown>>;

/** Names what a result depends on: 128 bits of SHA-256 over its JSON, in hexadecimal. */
export function resultKey(facts: ResultFacts): string {
  return createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 32);
}

/** Results by key. */
export class Journal {
  readonly #path: string;
  readonly #results: Map<string, unknown>;

  private constructor(path: string, results: Map<string, unknown>) {
    this.#path = path;
    this.#results = results;
  }

  /**
   * Opens a journal, or begins one. A last line that was cut off by an interruption is dropped.
   *
   * @throws {KvzFormatError} another line is none of a journal
   * @throws {FileSystemError} the file cannot be read or written
   */
  static async open(path: string, fresh: boolean): Promise<Journal> {
    const text = fresh ? "" : await readIfThere(path);
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    const results = new Map<string, unknown>();
    whole.split("\n").slice(0, -1).forEach((line, i) => {
      const { key, result } = parseLine(path, i + 1, line);
      results.set(key, result);
    });
    await guarded(path, () => writeFile(path, whole));
    return new Journal(path, results);
  }

  /** The result of a key, undefined when it is not known. */
  get(key: string): unknown {
    return this.#results.get(key);
  }

  /** Adds a result; it is on disk when the promise resolves. */
  async add(key: string, result: unknown): Promise<void> {
    this.#results.set(key, result);
    await guarded(this.#path, () => appendFile(this.#path, `${JSON.stringify({ key, result })}\n`));
  }
}

function parseLine(path: string, number: number, line: string): { key: string; result: unknown } {
  try {
    const { key, result } = JSON.parse(line);
    if (typeof key === "string" && typeof result === "object" && result !== null) return { key, result };
  } catch {
    // Said below.
  }
  throw new KvzFormatError(`Cannot read ${path}: line ${number} is no result kept by kvz; --fresh begins anew`);
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return "";
    throw new FileSystemError(`Cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function guarded(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    throw new FileSystemError(`Cannot write ${path}: ${(cause as Error).message}`, { cause });
  }
}
