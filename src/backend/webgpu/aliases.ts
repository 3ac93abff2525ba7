/**
 * One buffer at two bindings: WebGPU refuses it where one of them is written, also when the ranges are apart (views of one
 * buffer).
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { Binding } from "./commands.ts";
import type { Shader } from "./pipelines.ts";

const WRITTEN = /@binding\((\d+)\)\s*var<storage,\s*read_write>/g;

/**
 * Replaces bindings that are only read by copies where the same buffer is also written.
 *
 * @param copy copies a range to a buffer of its own before the kernel runs
 * @throws {KvzBackendError} when a buffer is written by two bindings.
 */
export function separateAliases(
  shader: Shader,
  bindings: readonly Binding[],
  copy: (range: Binding) => Binding,
): readonly Binding[] {
  if (new Set(bindings.map(({ buffer }) => buffer)).size === bindings.length) return bindings;
  const written = new Set<GPUBuffer>();
  const writes = new Set<number>();
  for (const [, binding] of shader.text.matchAll(WRITTEN)) writes.add(Number(binding));
  for (const i of writes) {
    if (i >= bindings.length) continue;
    if (written.has(bindings[i].buffer)) {
      throw new KvzBackendError(
        `Cannot run ${shader.name}: two of its results are in one GPUBuffer, which WebGPU does not allow`,
      );
    }
    written.add(bindings[i].buffer);
  }
  return bindings.map((binding, i) => !writes.has(i) && written.has(binding.buffer) ? copy(binding) : binding);
}
