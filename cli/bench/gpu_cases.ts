/**
 * A GPU's further kernels, ready to run.
 *
 * @module
 */
import { type Backend, paddedLength } from "../../src/backend/backend.ts";
import { blockBytes } from "../../src/backend/gpu/blocks.ts";
import { streamBytes } from "../../src/backend/gpu/code_streams.ts";
import { BLOCK } from "../../src/stages/quantize/ggml_blocks.ts";
import { type GroupShape, paramCount } from "../../src/stages/quantize/uniform.ts";
import { GROUPS } from "./kernel_cases.ts";
import { DIM, FEATURES, filled, HEADS, type Kernel, random, randomElements } from "./operands.ts";
import { TRELLIS_COMPONENTS as COMPONENTS } from "./trellis_cases.ts";

/** Looking for what is not finite, in as many elements as the cache has. */
export function memoryKernels(backend: Backend, tokens: number): Kernel[] {
  const memory = backend.gpu?.memory;
  if (!memory) return [];
  const count = FEATURES * tokens;
  const [elements, found] = [randomElements(backend, count, "f16"), backend.alloc(16)];
  return [
    {
      name: "find what is not finite",
      bytes: 2 * count,
      run: () => memory.findNonFinite(elements, "f16", count, found),
    },
  ];
}

/** Streams of recipe kvtc to coefficients, and what goes there. */
export function streamKernels(backend: Backend, tokens: number): Kernel[] {
  const kernels = backend.gpu?.codeStreams;
  if (!kernels) return [];
  const plan = backend.uploadPlan(GROUPS);
  const stride = paddedLength(plan.components);
  const chunk = 256;
  const batch = { chunks: Math.ceil(tokens / chunk), tokens: Math.min(tokens, chunk) };
  const count = batch.chunks * batch.tokens;
  const coefficients = backend.alloc(count * stride * 4);
  const bytes = streamBytes(GROUPS, batch.tokens, "bytes");
  // Codes of no type are NaN, and high bytes are of shifts and scales next to 1.
  const of = (value: number, length: number) =>
    filled(backend, new Uint8Array(4096).fill(value), batch.chunks * length);
  const [int2, int4, fp8] = [of(3, bytes.int2), of(3, bytes.int4), of(3, bytes.fp8)];
  const [low, high] = [of(0x3c, bytes.low), of(0x3c, bytes.high)];
  const params = backend.alloc(4 * count * GROUPS.length);
  return [
    ...(["packed", "bytes"] as const).map((form) => ({
      name: `streams, ${form}, to coefficients`,
      bytes: count * stride * 4 +
        batch.chunks * Object.values(streamBytes(GROUPS, batch.tokens, form)).reduce((sum, n) => sum + n, 0),
      run: () => kernels.restore({ int2, int4, fp8, low, high }, form, plan, batch, coefficients, stride),
    })),
    {
      name: "shifts and scales to bytes",
      bytes: 8 * count * GROUPS.length,
      run: () => kernels.splitParams(params, GROUPS.length, batch, low, high),
    },
  ];
}

/** The integer product and what follows it. */
export function integerKernels(backend: Backend, tokens: number): Kernel[] {
  const integer = backend.gpu?.integer;
  if (!integer) return [];
  const whole = (n: number, top: number) => Int16Array.from(random(Math.min(n, 1 << 20), 2 * top));
  const signed = new Int8Array(COMPONENTS * FEATURES).map(() => (Math.random() * 2 - 1) * 63);
  const basis = integer.uploadBasis(signed, COMPONENTS, FEATURES);
  const levels = filled(backend, whole(tokens * COMPONENTS, 100), tokens * COMPONENTS * 2);
  const sums = backend.alloc(tokens * FEATURES * 4);
  const out = backend.alloc(tokens * FEATURES * 2);
  const [scales, mean, tokenScales] = [FEATURES, FEATURES, tokens].map((n) =>
    filled(backend, new Float32Array(n).fill(0.01))
  );
  const scatter = (name: string, dim: number): Kernel => {
    const shape = { dtype: "f16", blocks: FEATURES / dim, tokens, dim, rotaryDim: 0 } as const;
    const run = () => integer.scatterSums(sums, shape, scales, tokenScales, null, mean, out);
    return { name: `scatter of sums${name}`, bytes: tokens * FEATURES * 6, run };
  };
  return [
    {
      name: "integer product",
      bytes: tokens * (FEATURES * 4 + COMPONENTS * 2) + COMPONENTS * FEATURES,
      flop: 2 * tokens * COMPONENTS * FEATURES,
      run: () => integer.multiply(basis, levels, COMPONENTS, tokens, 0, FEATURES, sums),
    },
    scatter("", DIM),
    scatter(", heads of 30", 30),
  ];
}

/** A layer of KV-CAR's autoencoder at SmolLM2's size, exact products with biases and LeakyReLU, for all its layers. */
export function denseKernels(backend: Backend, tokens: number): Kernel[] {
  const dense = backend.gpu?.dense;
  if (!dense) return [];
  const [rows, width] = [30 * tokens, 192];
  const layer = dense.uploadLayer(random(width * width), random(width), width, width);
  const from = randomElements(backend, rows * width, "f32");
  const to = backend.alloc(rows * width * 4);
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
  const values = FEATURES * tokens;
  const [x, codes] = [randomElements(backend, values, "f32"), backend.alloc(values)];
  const rest = { bits: 4, leastRange: 0 };
  const shapes: readonly (readonly [name: string, shape: GroupShape])[] = [
    ["rotated heads", { outer: HEADS * tokens, length: DIM, inner: 1, group: DIM, rotated: true, ...rest }],
    ["groups of tokens", { outer: HEADS, length: tokens, inner: DIM, group: 32, rotated: false, ...rest }],
  ];
  return shapes.flatMap(([name, shape]) => {
    // Rotating reads and writes the numbers once more.
    const bytes = (shape.rotated ? 13 : 5) * values + 2 * paramCount(shape);
    const params = backend.alloc(2 * paramCount(shape));
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
  const values = FEATURES * tokens;
  const blocks = values / BLOCK;
  const x = randomElements(backend, values, "f32");
  return (["q8_0", "q4_0"] as const).flatMap((type) => {
    const coded = backend.alloc(blockBytes(blocks, type));
    const bytes = 4 * values + coded.byteLength;
    return [
      { name: `quantize ${type}`, bytes, run: () => kernels.quantize(x, blocks, type, coded) },
      { name: `restore ${type}`, bytes, run: () => kernels.dequantize(coded, blocks, type, x) },
    ];
  });
}
