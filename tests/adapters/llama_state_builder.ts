/** Writes llama.cpp sequence states, independently of the adapter: one value at a time, by the definitions. */

/** Value of head h, dimension i (in the order of the file) of token t. */
export type Field = (layer: number, head: number, t: number, i: number) => number;

export interface StateSpec {
  layers: number;
  heads: number;
  keyDim: number;
  valueDim: number;
  /** Position of each cell. */
  positions: number[];
  keyType: "f32" | "f16" | "bf16" | "q8_0" | "q4_0";
  valueType: "f32" | "f16" | "bf16" | "q8_0" | "q4_0";
  transposed?: boolean;
  streams?: number;
  stream?: number;
  sequence?: number;
  tokens?: number[];
  /** Cell extension of M-RoPE models. */
  extra?: number;
  key: Field;
  value: Field;
}

const IDS = { f32: 0, f16: 1, bf16: 30, q8_0: 8, q4_0: 2 };

class Out {
  bytes: number[] = [];
  u32(...values: number[]): void {
    for (const value of values) for (let i = 0; i < 4; i++) this.bytes.push(value >>> 8 * i & 255);
  }
  u64(value: number): void {
    this.u32(value >>> 0, Math.floor(value / 2 ** 32));
  }
}

/** Scale of all quantized blocks. */
export const SCALE = 0.125;

/** Fields hold integers for quantized types: the codes, −127…127 or −8…7, times SCALE. */
function put(out: Out, type: StateSpec["keyType"], row: number[]): void {
  const view = new DataView(new ArrayBuffer(4));
  if (type === "q8_0" || type === "q4_0") {
    for (let at = 0; at < row.length; at += 32) {
      const codes = row.slice(at, at + 32).map((x) => x / SCALE);
      // The scale's sign in q4_0 follows the extreme value, which the test puts at −8.
      view.setFloat16(0, SCALE, true);
      out.bytes.push(view.getUint8(0), view.getUint8(1));
      if (type === "q8_0") out.bytes.push(...codes.map((code) => code & 255));
      else for (let i = 0; i < 16; i++) out.bytes.push((codes[i] + 8) | (codes[i + 16] + 8) << 4);
    }
    return;
  }
  for (const value of row) {
    if (type === "f16") view.setFloat16(0, value, true);
    else view.setFloat32(0, value, true);
    const from = type === "bf16" ? 2 : 0;
    for (let i = from; i < (type === "f16" ? 2 : 4); i++) out.bytes.push(view.getUint8(i));
  }
}

/** One KV section. */
function section(out: Out, spec: StateSpec): void {
  const { layers, heads, positions, keyType, valueType, streams = 1, stream = 0, sequence = 0 } = spec;
  const row = (field: Field, dim: number, layer: number, t: number) =>
    Array.from({ length: heads * dim }, (_, c) => field(layer, Math.floor(c / dim), t, c % dim));
  const bytesOf = (type: StateSpec["keyType"], n: number) =>
    ({ f32: 4, f16: 2, bf16: 2, q8_0: 34 / 32, q4_0: 18 / 32 })[type] * n;
  out.u32(streams);
  for (let s = 0; s < streams; s++) {
    if (s !== stream || positions.length === 0) {
      out.u32(0);
      continue;
    }
    out.u32(positions.length);
    for (const position of positions) {
      out.u32(position, 1);
      for (let i = 0; i < (spec.extra ?? 0); i += 4) out.u32(position + i);
      out.u32(sequence);
    }
    out.u32(spec.transposed ? 1 : 0, layers);
    for (let layer = 0; layer < layers; layer++) {
      out.u32(IDS[keyType]);
      out.u64(bytesOf(keyType, heads * spec.keyDim));
      positions.forEach((_, t) => put(out, keyType, row(spec.key, spec.keyDim, layer, t)));
    }
    for (let layer = 0; layer < layers; layer++) {
      out.u32(IDS[valueType]);
      const dim = spec.valueDim;
      if (spec.transposed) {
        out.u32(bytesOf(valueType, 1), heads * dim);
        for (let c = 0; c < heads * dim; c++) {
          put(out, valueType, positions.map((_, t) => spec.value(layer, Math.floor(c / dim), t, c % dim)));
        }
      } else {
        out.u64(bytesOf(valueType, heads * dim));
        positions.forEach((_, t) => put(out, valueType, row(spec.value, dim, layer, t)));
      }
    }
  }
}

/** The file; with `second`, two sections as sliding-window models have. */
export function llamaState(spec: StateSpec, second?: StateSpec): Uint8Array {
  const out = new Out();
  const tokens = spec.tokens ?? spec.positions.map((position) => 1000 + position);
  out.u32(0x67677371, 3, tokens.length, ...tokens);
  section(out, spec);
  if (second) section(out, second);
  return Uint8Array.from(out.bytes);
}
