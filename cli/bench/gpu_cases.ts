/**
 * A GPU's further kernels, ready to run.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { blockBytes } from "../../src/backend/gpu/blocks.ts";
import { mostBytes } from "../../src/backend/gpu/entropy.ts";
import { frequenciesOf } from "../../src/stages/entropy/packed_tables.ts";
import { RANS_SYMBOLS } from "../../src/stages/entropy/rans_tables.ts";
import { BLOCK } from "../../src/stages/quantize/ggml_blocks.ts";
import { type GroupShape, paramCount } from "../../src/stages/quantize/uniform.ts";
import type { Kernel } from "./kernel_cases.ts";

/** Streams of the entropy coder: 256 tokens of 64 components each. */
const STREAM = { rows: 64, tokens: 256 };
/** Geometry of the integer product: components and features of recipe kvz on SmolLM2. */
const [COMPONENTS, FEATURES, DIM] = [1408, 5760, 64];

/** The entropy coder's kernels on so many streams of 4-bit symbols; rates are of symbols. */
export async function entropyKernels(backend: Backend, streams: number): Promise<Kernel[]> {
  const entropy = backend.gpu?.entropy;
  if (!entropy) return [];
  const batch = { streams, ...STREAM };
  const perStream = STREAM.rows * STREAM.tokens;
  const count = streams * perStream;
  // A Laplacian over 16 symbols, as int4 codes have; one random megabyte, repeated.
  const tile = Uint8Array.from({ length: Math.min(count, 1 << 20) }, () => {
    const x = Math.log(1 - Math.random()) * (Math.random() < 0.5 ? -1.6 : 1.6);
    return Math.max(0, Math.min(15, Math.round(7.5 + x)));
  });
  const counts = new Uint32Array(RANS_SYMBOLS);
  for (const symbol of tile) counts[symbol]++;
  const tables = entropy.uploadTables({ bits: 11, frequencies: frequenciesOf(counts, 11) });
  const contexts = entropy.uploadContexts([{ variant: "plain", tableOf: new Uint16Array(STREAM.rows) }], batch, 1);
  const [symbols, restored] = [backend.alloc(count), backend.alloc(count)];
  for (let at = 0; at < count; at += tile.length) backend.write(symbols, tile.subarray(0, count - at), at);
  const bytes = backend.alloc(mostBytes(batch));
  const [begins, lengths, status] = [1, 0, 0].map((more) => backend.alloc((streams + more) * 4));
  const encode = () => entropy.encode(symbols, batch, tables, contexts, bytes, begins, lengths);
  const decode = () => entropy.decode(bytes, begins, batch, tables, contexts, restored, status);
  encode();
  decode();
  await requireSame(backend, symbols, restored, Math.min(count, 1 << 20));
  return [
    { name: "rANS encode", bytes: count, run: encode },
    { name: "rANS decode", bytes: count, run: decode },
    { name: "histogram", bytes: count, run: () => entropy.histogram(symbols, count / 256, 256, 16, bytes) },
    {
      name: "transpose",
      bytes: 2 * count,
      run: () => entropy.transpose(symbols, STREAM.rows, count / STREAM.rows, STREAM.rows, STREAM.tokens, restored),
    },
  ];
}

/** The integer product and what follows it. */
export function integerKernels(backend: Backend, tokens: number): Kernel[] {
  const integer = backend.gpu?.integer;
  if (!integer) return [];
  const random = (n: number, top: number) => Int16Array.from({ length: n }, () => (Math.random() * 2 - 1) * top);
  const upload = (data: ArrayBufferView) => {
    const buffer = backend.alloc(data.byteLength);
    backend.write(buffer, data);
    return buffer;
  };
  const basis = integer.uploadBasis(Int8Array.from(random(COMPONENTS * FEATURES, 63)), COMPONENTS, FEATURES);
  const levels = upload(random(tokens * COMPONENTS, 100));
  const sums = backend.alloc(tokens * FEATURES * 4);
  const out = backend.alloc(tokens * FEATURES * 2);
  const [scales, mean, tokenScales] = [FEATURES, FEATURES, tokens].map((n) => upload(new Float32Array(n).fill(0.01)));
  const shape = { dtype: "f16", blocks: FEATURES / DIM, tokens, dim: DIM, rotaryDim: 0 } as const;
  return [
    {
      name: "integer product",
      bytes: tokens * (FEATURES * 4 + COMPONENTS * 2) + COMPONENTS * FEATURES,
      flop: 2 * tokens * COMPONENTS * FEATURES,
      run: () => integer.multiply(basis, levels, COMPONENTS, tokens, 0, FEATURES, sums),
    },
    {
      name: "scatter of sums",
      bytes: tokens * FEATURES * 6,
      run: () => integer.scatterSums(sums, shape, scales, tokenScales, null, mean, out),
    },
  ];
}

/** A layer of KV-CAR's autoencoder at SmolLM2's size, exact products with biases and LeakyReLU, for all its layers. */
export function denseKernels(backend: Backend, tokens: number): Kernel[] {
  const dense = backend.gpu?.dense;
  if (!dense) return [];
  const [rows, width] = [30 * tokens, 192];
  const random = (n: number) => Float32Array.from({ length: n }, () => Math.random() - 0.5);
  const layer = dense.uploadLayer(random(width * width), random(width), width, width);
  const [from, to] = [backend.alloc(rows * width * 4), backend.alloc(rows * width * 4)];
  const some = random(Math.min(rows, 4096) * width);
  for (let at = 0; at < rows * width; at += some.length) {
    backend.write(from, some.subarray(0, rows * width - at), at * 4);
  }
  return [{
    name: "dense layer",
    bytes: 2 * rows * width * 4,
    flop: 2 * rows * width * width,
    run: () => dense.run(layer, from, rows, Math.fround(0.01), to),
  }];
}

/** Rotation and quantization of heads (quarot), and groups of tokens (kivi), at SmolLM2's size. */
export function groupKernels(backend: Backend, tokens: number): Kernel[] {
  const groups = backend.gpu?.groups;
  if (!groups) return [];
  const [heads, dim] = [90, DIM];
  const values = heads * tokens * dim;
  const [x, codes, params] = [4 * values, values, 4 * values / 32].map((bytes) => backend.alloc(bytes));
  const some = Float32Array.from({ length: Math.min(values, 1 << 20) }, () => Math.random() - 0.5);
  for (let at = 0; at < values; at += some.length) backend.write(x, some.subarray(0, values - at), at * 4);
  const rest = { bits: 4, leastRange: 0 };
  const shapes: readonly (readonly [name: string, shape: GroupShape])[] = [
    ["rotated heads", { outer: heads * tokens, length: dim, inner: 1, group: dim, rotated: true, ...rest }],
    ["groups of tokens", { outer: heads, length: tokens, inner: dim, group: 32, rotated: false, ...rest }],
  ];
  return shapes.flatMap(([name, shape]) => {
    // Rotating reads and writes the numbers once more.
    const bytes = (shape.rotated ? 13 : 5) * values + 2 * paramCount(shape);
    return [
      { name: `quantize ${name}`, bytes, run: () => groups.quantize(x, shape, codes, params) },
      { name: `restore ${name}`, bytes, run: () => groups.dequantize(codes, params, shape, x) },
    ];
  });
}

/** ggml's blocks on tokens of SmolLM2's size. */
export function blockKernels(backend: Backend, tokens: number): Kernel[] {
  const kernels = backend.gpu?.blocks;
  if (!kernels) return [];
  const values = 90 * tokens * DIM;
  const blocks = values / BLOCK;
  const x = backend.alloc(4 * values);
  const some = Float32Array.from({ length: Math.min(values, 1 << 20) }, () => Math.random() - 0.5);
  for (let at = 0; at < values; at += some.length) backend.write(x, some.subarray(0, values - at), at * 4);
  return (["q8_0", "q4_0"] as const).flatMap((type) => {
    const coded = backend.alloc(blockBytes(blocks, type));
    const bytes = 4 * values + coded.byteLength;
    return [
      { name: `quantize ${type}`, bytes, run: () => kernels.quantize(x, blocks, type, coded) },
      { name: `restore ${type}`, bytes, run: () => kernels.dequantize(coded, blocks, type, x) },
    ];
  });
}

async function requireSame(backend: Backend, a: DeviceBuffer, b: DeviceBuffer, bytes: number): Promise<void> {
  const [x, y] = [await backend.read(a, 0, bytes), await backend.read(b, 0, bytes)];
  if (x.some((value, i) => value !== y[i])) {
    throw new Error(`The entropy coder of ${backend.name} does not give its symbols back`);
  }
}
