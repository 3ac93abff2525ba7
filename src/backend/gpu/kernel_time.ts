/**
 * Times of a GPU's kernels, where a backend was opened with `timeKernels`.
 *
 * @module
 */

/** Runs of one kernel. */
export interface KernelTime {
  /** "module.entry" or "shader.entry". */
  readonly kernel: string;
  /** How often it ran. */
  readonly calls: number;
  /** All runs together. */
  readonly nanoseconds: number;
}
