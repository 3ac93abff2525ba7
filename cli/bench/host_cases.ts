/**
 * Kernels that WebAssembly keeps in modules of their own, ready to run.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { DenseKernels } from "../../src/backend/wasm/dense_kernels.ts";
import { GroupsModule } from "../../src/backend/wasm/group_kernels.ts";
import { hostBuild } from "../../src/backend/host.ts";
import { toHalves } from "../../src/cache/elements.ts";
import type { GroupShape } from "../../src/stages/quantize/uniform.ts";
import type { DenseLayer } from "../../src/stages/transform/dense.ts";
import { HostNet } from "../../src/stages/transform/dense_host.ts";
import { DIM, HEADS, type Kernel, random } from "./operands.ts";

/** Both layers of an encoder of KV-CAR of SmolLM2's size (192 → 192 → 96), binary16 in and out, for all layers of the model. */
export async function netKernels(backend: Backend, tokens: number): Promise<Kernel[]> {
  const build = hostBuild(backend, "dense layers");
  if (backend.name !== "wasm" || build === null) return [];
  const layerOf = (inputs: number, outputs: number, slope: number): DenseLayer => (
    { inputs, outputs, weights: random(inputs * outputs), bias: random(outputs), slope }
  );
  const net = new HostNet(await DenseKernels.open(build), [layerOf(192, 192, 0.01), layerOf(192, 96, 1)]);
  const [layers, heads] = [30, 3];
  const rows = toHalves(random(tokens * 192));
  return [{
    name: "dense layers",
    bytes: layers * tokens * 2 * (192 + 96),
    flop: 2 * layers * tokens * 192 * (192 + 96),
    run: () => {
      for (let layer = 0; layer < layers; layer++) net.runToHalves(rows, { from: heads });
    },
  }];
}

/** Quantizers of rows in few bits on so many tokens, copies in and out of the kernels' memory included. */
export async function quantizerKernels(backend: Backend, tokens: number): Promise<Kernel[]> {
  const build = hostBuild(backend, "quantizers");
  if (backend.name !== "wasm" || build === null) return [];
  const { groups, blocks } = await GroupsModule.open(build);
  const values = HEADS * tokens * DIM;
  const x = random(values);
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
