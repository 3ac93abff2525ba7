/**
 * The kernels of a backend on tokens of SmolLM2 (30 layers × 3 heads × 64, 1560 components, fp16), ready to run.
 *
 * @module
 */
import { type Backend, packedLength, type QuantGroup } from "../../src/backend/backend.ts";
import { DIM, FEATURES, filled, HEADS, type Kernel, random, randomElements, randomHalves } from "./operands.ts";

export { FEATURES };
/** Tokens of a chunk. */
export const TOKENS = 256;
/** Components kept. */
export const COMPONENTS = 1560;
/** Sink rows: FP8 blocks of 4 tokens × 64. */
const FP8_LENGTH = 256;

/** A plan like those at 16×: few strong components in fp8, most in int2. */
export const GROUPS: readonly QuantGroup[] = [
  ...Array.from({ length: 8 }, (_, i) => ({ first: i, size: 1, type: 3 as const })),
  { first: 8, size: 16, type: 3 },
  ...Array.from({ length: 4 }, (_, i) => ({ first: 24 + 64 * i, size: 64, type: 2 as const })),
  { first: 280, size: 256, type: 2 },
  { first: 536, size: 1024, type: 1 },
];

/** The kernels that every backend has, on so many tokens. */
export function kernelsOf(backend: Backend, tokens: number = TOKENS): Kernel[] {
  const shape = { dtype: "f16", blocks: HEADS, tokens, dim: DIM, rotaryDim: DIM } as const;
  const [rowBytes, coefficientBytes, sourceBytes] = [FEATURES * 4, COMPONENTS * 4, FEATURES * 2].map((n) => n * tokens);
  const source = randomElements(backend, FEATURES * tokens, "f16");
  const scattered = backend.alloc(sourceBytes);
  const rotation = filled(backend, random(tokens * DIM, 2));
  const mean = filled(backend, random(FEATURES));
  const rows = randomElements(backend, FEATURES * tokens, "f32");
  const restored = backend.alloc(rowBytes);
  const coefficients = backend.alloc(coefficientBytes);
  const dequantized = backend.alloc(coefficientBytes);
  const basis = backend.uploadBasis(randomHalves(COMPONENTS * FEATURES, 0.05), COMPONENTS, FEATURES);
  const plan = backend.uploadPlan(GROUPS);
  const symbolBytes = tokens * plan.components;
  const symbols = backend.alloc(symbolBytes);
  const unpacked = backend.alloc(symbolBytes);
  const paramBytes = tokens * GROUPS.length * 4;
  const params = backend.alloc(paramBytes);
  const packedBytes = packedLength(GROUPS, tokens);
  const packed = backend.alloc(packedBytes);
  const fp8Rows = Math.floor(FEATURES * tokens / FP8_LENGTH);
  const codes = backend.alloc(FEATURES * tokens);
  const scales = backend.alloc(Math.max(4, fp8Rows * 2));
  const decoded = backend.alloc(rowBytes);
  const flop = 2 * tokens * FEATURES * COMPONENTS;
  return [
    { name: "gather", bytes: sourceBytes + rowBytes, run: () => backend.gather(source, shape, rotation, mean, rows) },
    {
      name: "project",
      bytes: rowBytes + coefficientBytes + basis.byteLength,
      flop,
      run: () => backend.project(rows, tokens, basis, coefficients),
    },
    {
      name: "quantize",
      bytes: coefficientBytes + symbolBytes + paramBytes,
      run: () => backend.quantize(coefficients, COMPONENTS, tokens, plan, symbols, params),
    },
    { name: "pack", bytes: symbolBytes + packedBytes, run: () => backend.pack(symbols, plan, tokens, packed) },
    { name: "unpack", bytes: symbolBytes + packedBytes, run: () => backend.unpack(packed, plan, tokens, unpacked) },
    {
      name: "dequantize",
      bytes: coefficientBytes + symbolBytes + paramBytes,
      run: () => backend.dequantize(unpacked, params, plan, tokens, dequantized, COMPONENTS),
    },
    {
      name: "reconstruct",
      bytes: rowBytes + coefficientBytes + basis.byteLength,
      flop,
      run: () => backend.reconstruct(dequantized, tokens, basis, 0, FEATURES, restored),
    },
    {
      name: "scatter",
      bytes: sourceBytes + rowBytes,
      run: () => backend.scatter(restored, shape, rotation, mean, scattered),
    },
    {
      name: "gatherProject",
      bytes: sourceBytes + coefficientBytes + basis.byteLength,
      flop,
      run: () => backend.gatherProject(source, shape, rotation, mean, basis, coefficients),
    },
    {
      name: "reconstructScatter",
      bytes: sourceBytes + coefficientBytes + basis.byteLength,
      flop,
      run: () => backend.reconstructScatter(dequantized, basis, 0, shape, rotation, mean, scattered),
    },
    {
      name: "encodeFp8",
      bytes: rowBytes + FEATURES * tokens + fp8Rows * 2,
      run: () => backend.encodeFp8(rows, fp8Rows, FP8_LENGTH, codes, scales),
    },
    {
      name: "decodeFp8",
      bytes: rowBytes + FEATURES * tokens + fp8Rows * 2,
      run: () => backend.decodeFp8(codes, scales, fp8Rows, FP8_LENGTH, decoded),
    },
  ];
}
