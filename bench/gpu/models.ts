/**
 * Geometries of large models, whose caches the GPU benchmarks make up.
 *
 * @module
 */
import { option } from "../inputs.ts";

/** A model's cache, and how many components of each kind are kept where a benchmark is not told. */
export interface BenchModel {
  readonly name: string;
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
  /** Base of RoPE. */
  readonly theta: number;
  /** See `planFor` of table5_plan.ts. */
  readonly components: string;
}

const MODELS: readonly BenchModel[] = [
  // KVTC's Table 5: its cap of 10,000 components, what the dynamic program keeps below it, and 8,000.
  { name: "nemo-12b", layers: 40, heads: 8, dim: 128, theta: 1e6, components: "10000,dp,8000" },
  { name: "llama-3.1-8b", layers: 32, heads: 8, dim: 128, theta: 5e5, components: "2048,4096,6144,8192,10000" },
];

/** The model that `--model` names, with `--layers`, `--heads` and `--dim` in place of its own. */
export function modelOption(): BenchModel {
  const name = option("model", MODELS[0].name);
  const model = MODELS.find((one) => one.name === name);
  if (model === undefined) {
    throw new Error(`Cannot bench model ${name}: expected ${MODELS.map((one) => one.name).join(" or ")}`);
  }
  const number = (key: "layers" | "heads" | "dim") => Number(option(key, String(model[key])));
  return { ...model, layers: number("layers"), heads: number("heads"), dim: number("dim") };
}

/** Features of a kind. */
export function featuresOf({ layers, heads, dim }: BenchModel): number {
  return layers * heads * dim;
}
