/** Sensitivity files for tests. */
import { SMALL_MODEL } from "../../synthetic.ts";

/** A sensitivity file with unit blocks, changed. */
export function sensitivityFile(
  { layers = SMALL_MODEL.layers, keyDim = SMALL_MODEL.keyDim, entry = 1 } = {},
): Uint8Array {
  const header: Record<string, unknown> = {};
  const data: number[] = [];
  for (let layer = 0; layer < layers; layer++) {
    for (const [kind, dim] of [["key", keyDim], ["value", SMALL_MODEL.valueDim]] as const) {
      const begin = data.length * 4;
      for (let i = 0; i < SMALL_MODEL.kvHeads * dim * dim; i++) {
        data.push(i % (dim * dim) % (dim + 1) === 0 ? entry : 0);
      }
      const shape = [SMALL_MODEL.kvHeads, dim, dim];
      header[`layers.${layer}.${kind}.fisher`] = { dtype: "F32", shape, data_offsets: [begin, data.length * 4] };
    }
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + data.length * 4);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(new Uint8Array(Float32Array.from(data).buffer), 8 + json.length);
  return bytes;
}
