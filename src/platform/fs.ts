/**
 * Files in Deno, Node and Bun, through `node:fs/promises`.
 *
 * @module
 */
import { constants } from "node:fs";
import { copyFile, type FileHandle, link, open, rename, stat, unlink } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import type { ByteSink, ByteSource, RandomSink } from "../container/bytes.ts";

/** Bytes of one piece of {@linkcode readFileStream}. */
const STREAM_BYTES = 1 << 18;

/** An open file that is read by ranges. Dispose of it to close it. */
export type FileSource = ByteSource & AsyncDisposable;

/**
 * Opens a file for ranged reads. Its size is taken now; reading past what is there rejects with RangeError.
 *
 * @throws {TypeError} when the path is not a regular file
 * @throws the platform's error when it cannot be opened
 */
export async function openFile(path: string): Promise<FileSource> {
  const file = await open(path, "r");
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new TypeError(`Cannot open ${path}: it is not a regular file`);
    return new OpenedFile(path, file, info.size);
  } catch (error) {
    await file.close();
    throw error;
  }
}

class OpenedFile implements FileSource {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly size: number;

  constructor(path: string, file: FileHandle, size: number) {
    this.#path = path;
    this.#file = file;
    this.size = size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) {
      throw new RangeError(`Cannot read ${length} bytes at ${offset}: ${this.#path} has ${this.size}`);
    }
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const { bytesRead } = await this.#file.read(bytes, at, length - at, offset + at);
      if (bytesRead === 0) {
        throw new RangeError(`Cannot read ${length} bytes at ${offset}: ${this.#path} has become shorter`);
      }
      at += bytesRead;
    }
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** A file that is being written: `write` goes on where the last `write` ended, `writeAt` goes anywhere. */
export type FileSink = ByteSink & RandomSink;

/** Options of the writers. */
export interface WriteFileOptions {
  /** Replace a file that is there. Default: false. */
  readonly force?: boolean;
}

/**
 * Writes a file so that it appears whole or not at all: into a new file in the same folder, flushed to the device, then
 * moved into place. On failure the new file is removed and whatever stood at `path` stays.
 *
 * @returns what `write` returns
 * @throws {Error} with code "EEXIST" when the file is there and `force` is not set
 * @throws {TypeError} when `path` is a folder, a device or a pipe
 */
export async function writeFileAtomically<T>(
  path: string,
  options: WriteFileOptions,
  write: (sink: FileSink) => Promise<T>,
): Promise<T> {
  const { force = false } = options;
  const mode = await checkTarget(path, force);
  return await throughTemporary(path, async (temporary) => {
    // "wx" never follows or opens what somebody else has put there.
    const file = await open(temporary, "wx", 0o666);
    const result = await fill(file, 0, async (sink) => {
      if (mode !== undefined) await file.chmod(mode & 0o777);
      return await write(sink);
    });
    await publish(temporary, path, force);
    return result;
  });
}

/**
 * Writes a new tail to a file: its first `offset` bytes stay, `write` goes on from there, and the result takes the
 * file's place whole or not at all. The kept bytes are copied (shared, where the file system can) and never rewritten.
 *
 * @throws {RangeError} when the file is shorter than `offset`
 */
export async function appendFileAtomically<T>(
  path: string,
  offset: number,
  write: (sink: FileSink) => Promise<T>,
): Promise<T> {
  return await throughTemporary(path, async (temporary) => {
    await copyFile(path, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    const file = await open(temporary, "r+");
    const result = await fill(file, offset, async (sink) => {
      const { size } = await file.stat();
      if (size < offset) throw new RangeError(`Cannot append to ${path} at ${offset}: it has ${size} bytes`);
      await file.truncate(offset);
      return await write(sink);
    });
    await publish(temporary, path, true);
    return result;
  });
}

/** Reads a file front to back as a web stream, from a pipe or device as well. */
export function readFileStream(path: string): ReadableStream<Uint8Array<ArrayBuffer>> {
  let opening: Promise<FileHandle> | undefined;
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    async start() {
      await (opening = open(path, "r"));
    },
    async pull(controller) {
      const file = await opening!;
      const bytes = new Uint8Array(STREAM_BYTES);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, null).catch(async (error) => {
        await file.close();
        throw error;
      });
      if (bytesRead > 0) return controller.enqueue(bytes.subarray(0, bytesRead));
      await file.close();
      controller.close();
    },
    async cancel() {
      // May come before the file is open.
      await (await opening!).close();
    },
  }, { highWaterMark: 0 });
}

/** Refuses what must not be replaced; returns the mode of a regular file that will be. */
async function checkTarget(path: string, force: boolean): Promise<number | undefined> {
  const info = await stat(path).catch((error) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (info === undefined) return undefined;
  if (!info.isFile()) throw new TypeError(`Cannot write ${path}: it is not a regular file`);
  if (!force) throw existsError(path);
  return info.mode;
}

function existsError(path: string, cause?: unknown): Error {
  const error = new Error(`Cannot write ${path}: the file exists, expected none (force replaces it)`, { cause });
  return Object.assign(error, { code: "EEXIST" });
}

async function throughTemporary<T>(path: string, work: (temporary: string) => Promise<T>): Promise<T> {
  const temporary = join(dirname(path), `.${basename(path).slice(0, 64)}.${randomBytes(6).toString("hex")}.tmp`);
  try {
    return await work(temporary);
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  }
}

/** Lets `write` fill an open file from `offset` on, flushes and closes it. */
async function fill<T>(file: FileHandle, offset: number, write: (sink: FileSink) => Promise<T>): Promise<T> {
  try {
    let end = offset;
    const writeAt = async (at: number, bytes: Uint8Array) => {
      for (let done = 0; done < bytes.length;) {
        done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
      }
    };
    const result = await write({
      writeAt,
      write: async (bytes) => {
        const at = end;
        end += bytes.length;
        await writeAt(at, bytes);
      },
    });
    await file.sync();
    return result;
  } finally {
    await file.close();
  }
}

/** Moves a finished file into place; without `force` only where nothing stands. */
async function publish(temporary: string, path: string, force: boolean): Promise<void> {
  if (force) await rename(temporary, path);
  else await moveWhereNothingStands(temporary, path);
  await flushFolder(dirname(path));
}

/** Error codes of folders that cannot be opened or flushed: no right to read them, some network file systems. */
const NO_FLUSH = ["EACCES", "EPERM", "EINVAL", "ENOTSUP", "EOPNOTSUPP", "EISDIR"];

/** A new name is on the device only when its folder is. Where folders cannot be flushed, the file itself has been. */
async function flushFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  try {
    const folder = await open(path, "r");
    await folder.sync().finally(() => folder.close());
  } catch (error) {
    if (!NO_FLUSH.includes((error as { code?: string }).code ?? "")) throw error;
  }
}

/** Error codes of file systems without hard links. */
const NO_LINKS = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"];

async function moveWhereNothingStands(temporary: string, path: string): Promise<void> {
  try {
    // A link, unlike a rename, fails when the name is taken.
    await link(temporary, path);
    await unlink(temporary);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EEXIST") throw existsError(path, error);
    if (code === undefined || !NO_LINKS.includes(code)) throw error;
    // Take the name first, then move onto it: an empty file may stay behind only if the machine stops in between.
    const reserved = await open(path, "wx").catch((cause) => {
      throw cause.code === "EEXIST" ? existsError(path, cause) : cause;
    });
    await reserved.close();
    await rename(temporary, path);
  }
}

async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch((error) => {
    if (error.code !== "ENOENT") throw error;
  });
}
