/**
 * Kernels that WebAssembly keeps in modules of their own, ready to run.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { GroupsModule } from "../../src/backend/wasm/group_kernels.ts";
import { hostBuild } from "../../src/backend/host.ts";
import type { GroupShape } from "../../src/stages/quantize/uniform.ts";
import type { Kernel } from "./kernel_cases.ts";

/** Layers times heads, and elements of a head: SmolLM2's. */
const [HEADS, DIM] = [90, 64];

/** Quantizers of rows in few bits on so many tokens, copies in and out of the kernels' memory included. */
export async function quantizerKernels(backend: Backend, tokens: number): Promise<Kernel[]> {
  const build = hostBuild(backend, "quantizers");
  if (backend.name !== "wasm" || build === null) return [];
  const { groups, blocks } = await GroupsModule.open(build);
  const values = HEADS * tokens * DIM;
  const x = Float32Array.from({ length: values }, () => Math.random() - 0.5);
  const rest = { bits: 4, leastRange: 0 };
  const shapes: readonly (readonly [name: string, shape: GroupShape])[] = [
    ["rotated heads", { outer: HEADS * tokens, length: DIM, inner: 1, group: DIM, rotated: true, ...rest }],
    ["groups of tokens", { outer: HEADS, length: tokens, inner: DIM, group: 32, rotated: false, ...rest }],
  ];
  const kernels: Kernel[] = [];
  for (const [name, shape] of shapes) {
    const coded = await groups.quantize(x, shape);
    const bytes = 5 * values + coded.params.byteLength;
    kernels.push(
      { name: `quantize ${name}`, bytes, run: () => void groups.quantize(x, shape) },
      { name: `restore ${name}`, bytes, run: () => void groups.dequantize(coded, shape) },
    );
  }
  for (const type of ["q8_0", "q4_0"] as const) {
    const coded = blocks.quantize(x, type);
    const bytes = 4 * values + coded.length;
    kernels.push(
      { name: `quantize ${type}`, bytes, run: () => void blocks.quantize(x, type) },
      { name: `restore ${type}`, bytes, run: () => void blocks.dequantize(coded, type) },
    );
  }
  return kernels;
}
