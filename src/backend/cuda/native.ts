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

/** What is used of koffi 3. */
interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: readonly string[]): AnyCall };
}

const KOFFI_TYPES: Readonly<Record<NativeType, string>> = {
  i32: "int32_t",
  u32: "uint32_t",
  i64: "int64_t",
  u64: "uint64_t",
  buffer: "void *",
};

/** Whether an environment variable may be read, and its value; undefined where it is absent or empty. */
export function environment(name: string): string | undefined {
  const { Deno: deno, process } = globalThis as {
    Deno?: typeof Deno;
    process?: { readonly env?: Readonly<Record<string, string | undefined>> };
  };
  if (deno === undefined) return process?.env?.[name] || undefined;
  // Without the permission nobody is asked for it.
  if (deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") return undefined;
  return deno.env.get(name) || undefined;
}

/**
 * Opens a library for good: one whose threads run may not be unloaded.
 *
 * @returns null when there is none of this name, or loading it is not allowed
 * @throws {KvzBackendError} when it lacks a function.
 */
export async function openNative<T extends NativeTable>(path: string, table: T): Promise<NativeCalls<T> | null> {
  const deno = (globalThis as { Deno?: typeof Deno }).Deno;
  const find = typeof deno?.dlopen === "function" ? inDeno(deno, path, table) : await withKoffi(path, table);
  if (find === null) return null;
  const calls: Record<string, AnyCall> = {};
  for (const name of Object.keys(table)) {
    const call = find(name);
    if (call === null) throw new KvzBackendError(`Cannot use ${path}: it has no function ${name}`);
    calls[name] = call;
  }
  return calls as unknown as NativeCalls<T>;
}

function inDeno(deno: typeof Deno, path: string, table: NativeTable): ((name: string) => AnyCall | null) | null {
  const granted = deno.permissions.querySync({ name: "ffi" }).state === "granted" ||
    deno.permissions.querySync({ name: "ffi", path }).state === "granted";
  if (!granted) return null;
  const functions: Record<string, Deno.ForeignFunction & { optional: true }> = {};
  for (const [name, parameters] of Object.entries(table)) {
    functions[name] = { parameters, result: "i32", optional: true };
  }
  try {
    const symbols = deno.dlopen(path, functions).symbols as Record<string, unknown>;
    return (name) => symbols[name] as AnyCall | null;
  } catch {
    return null;
  }
}

async function withKoffi(path: string, table: NativeTable): Promise<((name: string) => AnyCall | null) | null> {
  try {
    // An optional peer: not named where bundlers and Deno look for imports.
    const name = "koffi";
    const { default: koffi } = await import(name) as { default: Koffi };
    const library = koffi.load(path);
    return (name) => {
      try {
        return library.func(name, "int32_t", table[name].map((type) => KOFFI_TYPES[type]));
      } catch {
        return null;
      }
    };
  } catch {
    return null;
  }
}
