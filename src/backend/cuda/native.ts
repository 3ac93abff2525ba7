/**
 * Native libraries: `Deno.dlopen` in Deno, the package koffi in Node and Bun. Every function returns a 32-bit integer.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";

/** Types of parameters: integers (addresses and handles are u64), and memory of the caller. */
export type NativeType = "i32" | "u32" | "i64" | "u64" | "buffer";

/** Parameter types by function. */
export type NativeTable = Readonly<Record<string, readonly NativeType[]>>;

type Values<T extends readonly NativeType[]> = {
  [I in keyof T]: T[I] extends "buffer" ? ArrayBufferView<ArrayBuffer> : number;
};

/** The functions of a table as JavaScript calls them: addresses as numbers, which are exact below 2^53. */
export type NativeCalls<T extends NativeTable> = { readonly [K in keyof T]: (...values: Values<T[K]>) => number };

type AnyCall = (...values: (number | ArrayBufferView<ArrayBuffer>)[]) => number;

/** An open library. */
export interface NativeLibrary<T extends NativeTable> {
  readonly calls: NativeCalls<T>;
  /** Functions of the table that it has not. */
  readonly lacks: readonly string[];
  /** Host memory of the library, at an address that it gave. */
  view(address: number, byteLength: number): ArrayBuffer;
}

interface NodeProcess {
  readonly platform: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** What is used of koffi 3. */
interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: readonly string[]): AnyCall };
  view(address: bigint, byteLength: number): ArrayBuffer;
}

const KOFFI_TYPES: Readonly<Record<NativeType, string>> = {
  i32: "int32_t",
  u32: "uint32_t",
  i64: "int64_t",
  u64: "uint64_t",
  buffer: "void *",
};

function runtime(): { readonly deno?: typeof Deno; readonly node?: NodeProcess } {
  const { Deno: deno, process: node } = globalThis as { Deno?: typeof Deno; process?: NodeProcess };
  return { deno: typeof deno?.dlopen === "function" ? deno : undefined, node };
}

/** The operating system as its runtime names it; undefined where no native libraries can be loaded. */
export function nativePlatform(): string | undefined {
  const { deno, node } = runtime();
  return deno?.build.os ?? (node?.env === undefined ? undefined : node.platform);
}

/** An environment variable; undefined where it is absent or empty, or may not be read. */
export function environment(name: string): string | undefined {
  const { deno, node } = runtime();
  if (deno === undefined) return node?.env?.[name] || undefined;
  // Without the permission nobody is asked for it.
  if (deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") return undefined;
  return deno.env.get(name) || undefined;
}

/**
 * Opens a library for good: one whose threads run may not be unloaded. A function that it lacks is an error when called.
 *
 * @throws {KvzBackendError} when there is none of this name, or it may not be loaded: the message is the reason alone.
 */
export async function openNative<T extends NativeTable>(path: string, table: T): Promise<NativeLibrary<T>> {
  const { deno } = runtime();
  const { find, view } = deno === undefined ? await withKoffi(path, table) : inDeno(deno, path, table);
  const calls: Record<string, AnyCall> = {};
  const lacks: string[] = [];
  for (const name of Object.keys(table)) {
    const found = find(name);
    if (found === null) lacks.push(name);
    calls[name] = found ?? missing(path, name);
  }
  return { calls: calls as unknown as NativeCalls<T>, lacks, view };
}

/** What an open library has. */
interface Opened {
  find(name: string): AnyCall | null;
  view(address: number, byteLength: number): ArrayBuffer;
}

function missing(path: string, name: string): AnyCall {
  return () => {
    throw new KvzBackendError(`Cannot use ${path}: it has no function ${name}`);
  };
}

function absent(path: string, cause: unknown): KvzBackendError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new KvzBackendError(`no library ${path} (${reason})`, { cause });
}

function inDeno(deno: typeof Deno, path: string, table: NativeTable): Opened {
  // Pointers, by which memory of the library is read, need the permission for all libraries.
  if (deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    const forThis = deno.permissions.querySync({ name: "ffi", path }).state === "granted";
    throw new KvzBackendError(
      forThis
        ? `loading ${path} and reading its memory needs --allow-ffi without a path`
        : `loading ${path} needs permission; run with --allow-ffi`,
    );
  }
  const functions: Record<string, Deno.ForeignFunction & { optional: true }> = {};
  for (const [name, parameters] of Object.entries(table)) {
    functions[name] = { parameters, result: "i32", optional: true };
  }
  let symbols: Record<string, unknown>;
  try {
    symbols = deno.dlopen(path, functions).symbols;
  } catch (cause) {
    throw absent(path, cause);
  }
  return {
    find: (name) => symbols[name] as AnyCall | null,
    view: (address, byteLength) => {
      const pointer = deno.UnsafePointer.create(BigInt(address));
      if (pointer === null) throw new KvzBackendError(`Cannot use memory of ${path}: its address is 0`);
      return deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
    },
  };
}

async function withKoffi(path: string, table: NativeTable): Promise<Opened> {
  const koffi = await importKoffi();
  let library: ReturnType<Koffi["load"]>;
  try {
    library = koffi.load(path);
  } catch (cause) {
    throw absent(path, cause);
  }
  return {
    find: (name) => {
      try {
        return library.func(name, "int32_t", table[name].map((type) => KOFFI_TYPES[type]));
      } catch {
        return null;
      }
    },
    view: (address, byteLength) => koffi.view(BigInt(address), byteLength),
  };
}

async function importKoffi(): Promise<Koffi> {
  // An optional peer: not named where bundlers and Deno look for imports.
  const name = "koffi";
  try {
    return (await import(name) as { default: Koffi }).default;
  } catch (cause) {
    throw new KvzBackendError('in Node native libraries need the package "koffi" (npm install koffi)', { cause });
  }
}
