/** Reads a cache in the layout of samples/ with a reader of the test's own. */
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { ModelSpec } from "../../src/cache/types.ts";

/** The model behind the samples. */
export const SMOLLM2: ModelSpec = {
  architecture: "llama",
  id: "SmolLM2-135M-Instruct",
  layers: 30,
  kvHeads: 3,
  keyDim: 64,
  valueDim: 64,
  rope: { theta: 100000, dim: 64, pairing: "half-split" },
};

/** The 256-token sample in the repository. */
export const SAMPLE: string = new URL("../../samples/smollm2-256.safetensors", import.meta.url).pathname;

/** Larger samples that only the authors have. */
export function sharedSample(name: string): string {
  return new URL(`../../../shared/samples/${name}`, import.meta.url).pathname;
}

export function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

export function readSample(path: string): KvCache {
  const bytes = Deno.readFileSync(path);
  const headerLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength)));
  const tensor = (name: string) => {
    const [begin, end] = header[name].data_offsets;
    return bytes.subarray(8 + headerLength + begin, 8 + headerLength + end);
  };
  const ids = tensor("input_ids").slice();
  const inputIds = new Int32Array(ids.buffer);
  return new KvCache({
    model: SMOLLM2,
    dtype: "f16",
    positions: Int32Array.from(inputIds, (_, t) => t),
    inputIds,
    layers: Array.from({ length: SMOLLM2.layers }, (_, n) => ({
      key: tensor(`past_key_values.${n}.key`),
      value: tensor(`past_key_values.${n}.value`),
    })),
  });
}
