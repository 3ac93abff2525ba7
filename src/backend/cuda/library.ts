/**
 * The CUDA driver as a native library: `Deno.dlopen` in Deno, the package koffi in Node and Bun.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { type AnyCall, type Calls, type CType, type SymbolName, SYMBOLS } from "./symbols.ts";

/** Functions of the driver, and memory that it allocated. */
export interface NativeLibrary {
  readonly calls: Calls;
  /** Host memory of the driver, at an address that it gave. */
  view(address: number, byteLength: number): ArrayBuffer;
}

/** Variable that names another library than the driver's: a path. */
export const VARIABLE = "KVZ_CUDA_LIBRARY";

/** What is used of koffi 3. */
interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: readonly string[]): AnyCall };
  view(address: bigint, byteLength: number): ArrayBuffer;
}

interface NodeProcess {
  readonly platform: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

const opened = new Map<string, Promise<NativeLibrary>>();

/**
 * Opens the driver's library, once a path: it stays open, because unloading a driver whose threads run is not safe.
 *
 * @throws {KvzBackendError} when it is absent or may not be loaded.
 */
export async function openLibrary(): Promise<NativeLibrary> {
  const { deno, node } = runtime();
  if (typeof deno?.dlopen !== "function" && node?.env === undefined) {
    throw new KvzBackendError("Cannot use the cuda backend: this runtime loads no native libraries");
  }
  const path = namedLibrary() ?? defaultPath(deno?.build.os ?? node?.platform);
  let library = opened.get(path);
  if (library === undefined) {
    library = typeof deno?.dlopen === "function" ? Promise.resolve(openInDeno(deno, path)) : openWithKoffi(path);
    opened.set(path, library);
    library.catch(() => opened.delete(path));
  }
  return await library;
}

function runtime(): { readonly deno?: typeof Deno; readonly node?: NodeProcess } {
  const { Deno: deno, process: node } = globalThis as { Deno?: typeof Deno; process?: NodeProcess };
  return { deno, node };
}

/** The library that {@linkcode VARIABLE} names, where it is set and may be read. */
export function namedLibrary(): string | undefined {
  const { deno, node } = runtime();
  if (deno === undefined) return node?.env?.[VARIABLE] || undefined;
  // Without the permission nobody is asked for it.
  if (deno.permissions.querySync({ name: "env", variable: VARIABLE }).state !== "granted") return undefined;
  return deno.env.get(VARIABLE) || undefined;
}

function defaultPath(os: string | undefined): string {
  if (os === "linux") return "libcuda.so.1";
  if (os === "windows" || os === "win32") return "nvcuda.dll";
  throw new KvzBackendError(`Cannot use the cuda backend: NVIDIA has no driver for ${os}`);
}

function absent(path: string, cause: unknown): KvzBackendError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new KvzBackendError(`Cannot use the cuda backend: no driver library ${path} (${reason})`, { cause });
}

/** A function that is not in the library: found when it is called. */
function missing(name: string): AnyCall {
  return () => {
    throw new KvzBackendError(`Cannot use the cuda backend: the driver has no function ${name}; it is too old`);
  };
}

function openInDeno(deno: typeof Deno, path: string): NativeLibrary {
  const granted = deno.permissions.querySync({ name: "ffi" }).state === "granted" ||
    deno.permissions.querySync({ name: "ffi", path }).state === "granted";
  if (!granted) {
    throw new KvzBackendError(`Cannot use the cuda backend: loading ${path} needs permission; run with --allow-ffi`);
  }
  const table: Record<string, Deno.ForeignFunction & { optional: true }> = {};
  for (const [name, parameters] of Object.entries(SYMBOLS)) table[name] = { parameters, result: "i32", optional: true };
  let symbols: Record<string, unknown>;
  try {
    symbols = deno.dlopen(path, table).symbols;
  } catch (cause) {
    throw absent(path, cause);
  }
  return {
    calls: collect((name) => symbols[name] as AnyCall | null),
    view: (address, byteLength) => {
      const pointer = deno.UnsafePointer.create(BigInt(address));
      if (pointer === null) throw new KvzBackendError("Cannot use memory of the driver: its address is 0");
      return deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
    },
  };
}

const KOFFI_TYPES: Readonly<Record<CType, string>> = {
  i32: "int32_t",
  u32: "uint32_t",
  u64: "uint64_t",
  buffer: "void *",
};

async function openWithKoffi(path: string): Promise<NativeLibrary> {
  const koffi = await importKoffi();
  let library: ReturnType<Koffi["load"]>;
  try {
    library = koffi.load(path);
  } catch (cause) {
    throw absent(path, cause);
  }
  return {
    calls: collect((name) => {
      try {
        return library.func(name, "int32_t", SYMBOLS[name].map((type) => KOFFI_TYPES[type]));
      } catch {
        return null;
      }
    }),
    view: (address, byteLength) => koffi.view(BigInt(address), byteLength),
  };
}

async function importKoffi(): Promise<Koffi> {
  // An optional peer: not named where bundlers and Deno look for imports.
  const name = "koffi";
  try {
    const module = await import(name) as { default: Koffi };
    return module.default;
  } catch (cause) {
    throw new KvzBackendError(
      'Cannot use the cuda backend: in Node it needs the package "koffi" (npm install koffi)',
      { cause },
    );
  }
}

function collect(find: (name: SymbolName) => AnyCall | null): Calls {
  const calls: Record<string, AnyCall> = {};
  for (const name of Object.keys(SYMBOLS) as SymbolName[]) calls[name] = find(name) ?? missing(name);
  return calls as Calls;
}
