/**
 * The kernels' modules: PTX texts that this package carries, compiled by the driver when first used.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { CudaContext } from "./context.ts";
import { MODULES } from "./ptx/index.ts";

/** Name of a module: a file of cuda/. */
export type ModuleName = keyof typeof MODULES;
/** PTX by module, as C strings. */
export type ModuleTexts = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/** CUfunction_attribute: most dynamic shared memory of a kernel. */
const MAX_DYNAMIC_SHARED = 8;
/** CUjit_option: the compiler's log of errors, and its size. */
const JIT_LOG = [5, 6] as const;
const LOG_BYTES = 16 << 10;

let texts: Promise<ModuleTexts> | null = null;

/** Inflates all modules, once. */
export function loadTexts(): Promise<ModuleTexts> {
  texts ??= inflateAll();
  return texts;
}

async function inflateAll(): Promise<ModuleTexts> {
  const entries = Object.entries(MODULES).map(async ([name, load]) => {
    const { ptx } = await load();
    const bytes = Uint8Array.from(atob(ptx), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const text = new Uint8Array(await new Response(stream).arrayBuffer());
    const terminated = new Uint8Array(text.length + 1);
    terminated.set(text);
    return [name, terminated] as const;
  });
  return new Map(await Promise.all(entries));
}

/** A kernel that can be launched. */
export interface Kernel {
  /** CUfunction. */
  readonly handle: number;
  /** Dynamic shared memory that was asked for: without asking, it has 48 KiB less what it has of its own. */
  shared: number;
}

/** Modules and kernels of a context. */
export class Modules {
  readonly #context: CudaContext;
  readonly #texts: ModuleTexts;
  readonly #modules = new Map<string, { readonly handle: number; readonly kernels: Map<string, Kernel> }>();

  constructor(context: CudaContext, texts: ModuleTexts) {
    this.#context = context;
    this.#texts = texts;
  }

  /**
   * A kernel, its module loaded at the first use.
   *
   * @throws {KvzBackendError} when the driver refuses the module, or there is no such kernel.
   */
  kernel(module: string, name: string): Kernel {
    let loaded = this.#modules.get(module);
    if (loaded === undefined) {
      loaded = { handle: this.#load(module), kernels: new Map() };
      this.#modules.set(module, loaded);
    }
    let kernel = loaded.kernels.get(name);
    if (kernel === undefined) {
      const out = new BigUint64Array(1);
      const chars = new TextEncoder().encode(name + "\0");
      const code = this.#context.calls.cuModuleGetFunction(out, loaded.handle, chars);
      this.#context.check(code, `find kernel ${name} of module ${module}`);
      kernel = { handle: Number(out[0]), shared: 0 };
      loaded.kernels.set(name, kernel);
    }
    return kernel;
  }

  /** Asks for a kernel's dynamic shared memory. */
  allowShared(kernel: Kernel, bytes: number): void {
    if (bytes <= kernel.shared) return;
    const code = this.#context.calls.cuFuncSetAttribute(kernel.handle, MAX_DYNAMIC_SHARED, bytes);
    this.#context.check(code, `use ${bytes} bytes of shared memory`);
    kernel.shared = bytes;
  }

  #load(module: string): number {
    const text = this.#texts.get(module);
    if (text === undefined) throw new KvzBackendError(`Cannot load module ${module}: this version has no such kernels`);
    const context = this.#context;
    const log = context.allocHost(LOG_BYTES);
    const chars = new Uint8Array(context.view(log, LOG_BYTES)).fill(0);
    const out = new BigUint64Array(1);
    const options = Int32Array.from(JIT_LOG);
    const values = BigUint64Array.of(BigInt(log), BigInt(LOG_BYTES));
    const code = context.calls.cuModuleLoadDataEx(out, text, options.length, options, values);
    const said = new TextDecoder().decode(chars.slice(0, Math.max(chars.indexOf(0), 0))).trim();
    context.unlessLost(() => context.freeHost(log));
    context.check(code, `load kernels ${module}${said === "" ? "" : `: ${said}`}`);
    const handle = Number(out[0]);
    context.keepModule(handle);
    return handle;
  }
}
