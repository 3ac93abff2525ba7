/**
 * What is computed beside a backend, noted so that reports tell: WebAssembly beside a GPU that lacks kernels or gives other
 * bits, plain TypeScript where WebAssembly cannot be compiled.
 *
 * @module
 */
import type { Backend } from "./backend.ts";

const works = new WeakMap<Backend, Set<string>>();

/** Notes that something other than the backend computes a part of the work. */
export function noteHostWork(backend: Backend, work: string): void {
  works.set(backend, (works.get(backend) ?? new Set()).add(work));
}

/** What was noted since the last {@linkcode forgetHostWork}, in order of the alphabet; undefined: nothing. */
export function hostWorkOf(backend: Backend): readonly string[] | undefined {
  const noted = works.get(backend);
  return noted && [...noted].sort();
}

/** Begins anew: another recipe is opened on the backend. */
export function forgetHostWork(backend: Backend): void {
  works.delete(backend);
}
