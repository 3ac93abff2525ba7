/**
 * Files and pipes of the command line: `-` is standard input or output, caches up to 128 MiB are held in memory, larger
 * ones are read and written by ranges. The platform's errors come out as {@linkcode FileSystemError}.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import { appendFileAtomically, type FileSink, type FileSource, openFile, writeFileAtomically } from "../fs.ts";
import { type ByteSink, type ByteSource, memorySource } from "../src/container/bytes.ts";
import { FileSystemError, UsageError } from "./exit_codes.ts";
import { scoped } from "./scope.ts";

/**
 * Files up to this size are read before the work begins, so that `seconds` holds no I/O. KVZ_IN_MEMORY_BYTES sets
 * another limit, for machines with little memory.
 */
export const IN_MEMORY_BYTES: number = Number(process.env.KVZ_IN_MEMORY_BYTES ?? 128 << 20);

/** An input of a command. */
export interface Input extends AsyncDisposable {
  /** As the user named it. */
  readonly path: string;
  readonly source: ByteSource;
  /** The whole input, where it is in memory. */
  readonly bytes?: Uint8Array;
  /** True when it is read from disk during the work. */
  readonly streamed: boolean;
}

/**
 * Opens a file, or reads standard input to its end for `-`.
 *
 * @throws {FileSystemError} when it cannot be read
 */
export async function openInput(path: string): Promise<Input> {
  if (path === "-") return inMemory("standard input", await readStdin());
  const file = await fileSystem(path, () => openFile(path));
  if (file.size > IN_MEMORY_BYTES) {
    return { path, source: file, streamed: true, [Symbol.asyncDispose]: () => file[Symbol.asyncDispose]() };
  }
  try {
    return inMemory(path, await fileSystem(path, () => file.read(0, file.size)));
  } finally {
    await file[Symbol.asyncDispose]();
  }
}

/** Opens a file for ranged reads, whatever its size. */
export async function openFileSource(path: string): Promise<FileSource> {
  return await fileSystem(path, () => openFile(path));
}

/** Refuses two inputs from standard input. */
export function checkOneStdin(...paths: readonly (string | undefined)[]): void {
  if (paths.filter((path) => path === "-").length > 1) {
    throw new UsageError("Cannot read two inputs from standard input: one of them needs a file");
  }
}

/** Reads a whole file, or standard input for `-`. */
export async function readInput(path: string): Promise<Uint8Array> {
  if (path === "-") return await readStdin();
  return await fileSystem(path, () =>
    scoped(async (scope) => {
      const file = scope.use(await openFile(path));
      return await file.read(0, file.size);
    }));
}

function inMemory(path: string, bytes: Uint8Array): Input {
  return {
    path,
    source: memorySource(bytes),
    bytes,
    streamed: false,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function readStdin(): Promise<Uint8Array> {
  if (process.stdin.isTTY) throw new UsageError("Cannot read standard input: it is a terminal, expected a pipe");
  const parts: Uint8Array[] = [];
  const all = async () => {
    for await (const part of process.stdin) parts.push(part as Uint8Array);
  };
  const abandoned = new Promise<never>((_, reject) => rejectStdin = reject);
  await Promise.race([all(), abandoned]).finally(() => rejectStdin = null);
  const joined = Buffer.concat(parts);
  return new Uint8Array(joined.buffer, joined.byteOffset, joined.length);
}

let rejectStdin: ((reason: Error) => void) | null = null;

/** Ends the wait for standard input, which hears no signal. What still reads it keeps the process alive. */
export function abandonStdin(reason: Error): void {
  rejectStdin?.(reason);
}

/**
 * Writes front to back into a file, whole or not at all, or to standard output for `-`.
 *
 * @throws {FileSystemError} when the file is there and `force` is not set, or cannot be written
 */
export async function writeOutput<T>(
  path: string,
  force: boolean,
  write: (sink: ByteSink) => Promise<T>,
): Promise<T> {
  if (path !== "-") return await writeOutputFile(path, force, write);
  refuseTerminal();
  return await write({ write: writeStdout });
}

/** Like {@linkcode writeOutput}, for writers that go anywhere in the file; not for pipes. */
export async function writeOutputFile<T>(
  path: string,
  force: boolean,
  write: (sink: FileSink) => Promise<T>,
): Promise<T> {
  return await guarded(path, write, (inner) => writeFileAtomically(path, { force }, inner));
}

/** Replaces everything of a file from `offset` on, whole or not at all. */
export async function appendOutputFile<T>(
  path: string,
  offset: number,
  write: (sink: FileSink) => Promise<T>,
): Promise<T> {
  return await guarded(path, write, (inner) => appendFileAtomically(path, offset, inner));
}

/** Tells errors of writing the file from errors of the work that produces it. */
async function guarded<T>(
  path: string,
  write: (sink: FileSink) => Promise<T>,
  run: (inner: (sink: FileSink) => Promise<T>) => Promise<T>,
): Promise<T> {
  let own: { error: unknown } | null = null;
  try {
    return await run(async (sink) => {
      const safe: FileSink = {
        write: (bytes) => fileSystem(path, async () => await sink.write(bytes)),
        writeAt: (offset, bytes) => fileSystem(path, async () => await sink.writeAt(offset, bytes)),
      };
      try {
        return await write(safe);
      } catch (error) {
        own = { error };
        throw error;
      }
    });
  } catch (error) {
    if (own !== null) throw (own as { error: unknown }).error;
    throw toFileSystemError(path, error);
  }
}

/** A pipe may hold what a terminal should not show. */
function refuseTerminal(): void {
  if (process.stdout.isTTY) {
    throw new UsageError("Cannot write to standard output: it is a terminal, expected a pipe");
  }
}

/** Writes to standard output and waits until it has been taken. */
export function writeStdout(data: Uint8Array | string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(data, (error) => error ? reject(toFileSystemError("standard output", error)) : resolve());
  });
}

/** Runs an operation on files; what it throws becomes a {@linkcode FileSystemError}. */
async function fileSystem<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw toFileSystemError(path, error);
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  EEXIST: "the file exists; --force replaces it",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is not a folder",
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  EPIPE: "the reader has gone",
};

function toFileSystemError(path: string, cause: unknown): Error {
  if (cause instanceof FileSystemError) return cause;
  const { code, message } = cause as { code?: string; message: string };
  const reason = REASONS[code ?? ""];
  // fs.ts says what is wrong with folders and devices in full.
  return new FileSystemError(reason === undefined ? message : `Cannot use ${path}: ${reason}`, { cause });
}
