/**
 * onnxruntime-web as the example uses it. It is loaded at run time from the server, not bundled: it finds its
 * WebAssembly and its workers beside itself.
 *
 * @module
 */
import type { TensorLike } from "@kvz/kvz";

/** A tensor. */
export interface OrtTensor extends TensorLike {
  readonly location: string;
  getData(): Promise<ArrayBufferView>;
  dispose(): void;
}

/** A graph that is ready to run. */
export interface OrtSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly { readonly name: string; readonly type?: string }[];
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Readonly<Record<string, OrtTensor>>>;
}

/** What is used of the library. */
export interface Ort {
  readonly env: {
    readonly versions: { readonly web?: string };
    readonly wasm: { numThreads?: number; wasmPaths?: string };
  };
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => OrtTensor;
  readonly InferenceSession: {
    create(model: Uint8Array, options: Readonly<Record<string, unknown>>): Promise<OrtSession>;
  };
}

/**
 * Loads the library: threads as many as processors where the page is cross-origin isolated, otherwise one.
 *
 * @throws {TypeError} It cannot be fetched.
 */
export async function loadOrt(): Promise<Ort> {
  const entry = "/onnxruntime/ort.wasm.min.mjs";
  const ort = await import(entry) as Ort;
  ort.env.wasm.numThreads = threads();
  ort.env.wasm.wasmPaths = "/onnxruntime/";
  return ort;
}

/** Threads that this page may have. */
export function threads(): number {
  return globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
}

/**
 * Compiles a graph.
 *
 * @throws {Error} The runtime does not take the graph, or memory is short.
 */
export async function openSession(ort: Ort, model: Uint8Array): Promise<OrtSession> {
  return await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
}
