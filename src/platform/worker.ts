/**
 * Workers alike in Deno, browsers, Bun (`Worker`) and Node (`node:worker_threads`): module workers that exchange
 * structured clones.
 *
 * @module
 */
import { KvzBackendError } from "../errors.ts";

/** A worker seen from the thread that started it. */
export interface WorkerHandle {
  /** Sends a structured clone; `transfer` moves buffers instead of copying them. */
  post(message: unknown, transfer?: ArrayBuffer[]): void;
  /** Called with each message from the worker. */
  onMessage(listener: (message: unknown) => void): void;
  /** Called when the worker cannot be loaded or dies of an error. */
  onError(listener: (error: Error) => void): void;
  /** Ends the worker at once. */
  terminate(): void;
}

/** The starting thread seen from a worker. */
export interface WorkerPort {
  post(message: unknown, transfer?: ArrayBuffer[]): void;
  onMessage(listener: (message: unknown) => void): void;
}

/**
 * URL of a sibling worker module: `.ts` beside TypeScript sources, `.js` beside the compiled package.
 *
 * @param base `import.meta.url` of the caller
 * @param name file name without extension, relative to the caller
 * @throws {KvzBackendError} when the caller has no URL, as in a bundle for Cloudflare Workers
 */
export function workerUrl(base: string, name: string): URL {
  if (!URL.canParse(base)) {
    throw new KvzBackendError("Cannot start threads: in this runtime modules have no URL; use threads: 1");
  }
  const extension = new URL(base).pathname.endsWith(".ts") ? ".ts" : ".js";
  return new URL(`./${name}${extension}`, base);
}

/**
 * Starts a module worker.
 *
 * @throws {KvzBackendError} when the runtime has no workers.
 */
export async function startWorker(url: URL): Promise<WorkerHandle> {
  if (typeof Worker !== "undefined") return wrapWebWorker(new Worker(url, { type: "module" }));
  const threads = await importNodeThreads();
  if (threads === null) throw new KvzBackendError("Cannot start threads: this runtime has no workers; use threads: 1");
  const worker = new threads.Worker(url);
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    onMessage: (listener) => void worker.on("message", listener),
    onError: (listener) => void worker.on("error", listener),
    terminate: () => void worker.terminate(),
  };
}

/** Wraps a Web Worker, also one that a bundler made. */
export function wrapWebWorker(worker: Worker): WorkerHandle {
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    onMessage: (listener) => worker.addEventListener("message", (event) => listener(event.data)),
    onError: (listener) =>
      worker.addEventListener("error", (event) => {
        event.preventDefault?.();
        listener(new KvzBackendError(`A worker failed: ${event.message ?? "it cannot be loaded"}`));
      }),
    terminate: () => worker.terminate(),
  };
}

/** Inside a worker: the port to the thread that started it. */
export async function workerPort(): Promise<WorkerPort> {
  const scope = globalThis as unknown as {
    postMessage?: (message: unknown, transfer: ArrayBuffer[]) => void;
    addEventListener?: (type: string, listener: (event: MessageEvent) => void) => void;
    WorkerGlobalScope?: unknown;
  };
  // Node's worker_threads has no WorkerGlobalScope; Deno, Bun and browsers do.
  if (scope.WorkerGlobalScope !== undefined && scope.postMessage && scope.addEventListener) {
    return {
      post: (message, transfer = []) => scope.postMessage!(message, transfer),
      onMessage: (listener) => scope.addEventListener!("message", (event) => listener(event.data)),
    };
  }
  const threads = await importNodeThreads();
  const port = threads?.parentPort;
  if (!port) throw new KvzBackendError("Cannot run as a worker: there is no parent");
  return {
    post: (message, transfer = []) => port.postMessage(message, transfer),
    onMessage: (listener) => void port.on("message", listener),
  };
}

/** Logical processors, 1 where the runtime does not tell. Node has no `navigator` before version 21. */
export async function logicalProcessors(): Promise<number> {
  const { navigator, process } = globalThis as {
    navigator?: { hardwareConcurrency?: number };
    process?: { versions?: { node?: string } };
  };
  if (navigator?.hardwareConcurrency) return navigator.hardwareConcurrency;
  if (process?.versions?.node === undefined) return 1;
  const name = "node:os";
  return (await import(name) as unknown as { availableParallelism(): number }).availableParallelism();
}

interface NodeThreads {
  Worker: new (url: URL) => {
    postMessage(message: unknown, transfer: ArrayBuffer[]): void;
    on(event: string, listener: (value: never) => void): void;
    terminate(): Promise<number>;
  };
  parentPort: {
    postMessage(message: unknown, transfer: ArrayBuffer[]): void;
    on(event: string, listener: (value: unknown) => void): void;
  } | null;
}

async function importNodeThreads(): Promise<NodeThreads | null> {
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  if (process?.versions?.node === undefined) return null;
  // A variable keeps bundlers for the browser from resolving it.
  const name = "node:worker_threads";
  return await import(name) as unknown as NodeThreads;
}
