/**
 * What is not fp16 in heads of 64 and rows of whole words: other element types, and sizes for which devices have kernels
 * that take elements one by one.
 *
 * @module
 */
import { type Backend, packedLength, type QuantGroup } from "../../src/backend/backend.ts";
import { DIM, FEATURES, filled, HEADS, type Kernel, random, randomElements } from "./operands.ts";

/** Heads of as many features together, 30 each: no whole vectors. */
const ODD_DIM = 30;
/** Groups that begin and end anywhere. */
const ODD_GROUPS: readonly QuantGroup[] = [
  { first: 0, size: 7, type: 3 },
  ...Array.from({ length: 15 }, (_, i) => ({ first: 7 + 33 * i, size: 33, type: 2 as const })),
  { first: 502, size: 1055, type: 1 },
];
/** A group that no workgroup holds. */
const LARGE_GROUP: readonly QuantGroup[] = [{ first: 0, size: 2560, type: 2 }];
/** Length of rows that no workgroup holds either. */
const LONG_ROW = 2562;

/** The kernels that every backend has, on so many tokens. */
export function shapeKernels(backend: Backend, tokens: number): Kernel[] {
  const rows = randomElements(backend, FEATURES * tokens, "f32");
  return [...layoutKernels(backend, tokens), ...quantizers(), ...fp8()];

  function quantizers(): Kernel[] {
    const stride = ODD_GROUPS.reduce((sum, { size }) => sum + size, 0);
    const [odd, large] = [ODD_GROUPS, LARGE_GROUP].map((groups) => backend.uploadPlan(groups));
    const symbols = backend.alloc(tokens * large.components);
    const params = backend.alloc(tokens * ODD_GROUPS.length * 4);
    const packed = backend.alloc(packedLength(ODD_GROUPS, tokens));
    const bytes = tokens * (5 * stride + 4 * ODD_GROUPS.length);
    const packing = tokens * stride + packed.byteLength;
    const restored = backend.alloc(tokens * stride * 4);
    return [
      {
        name: "quantize, group of 2560",
        bytes: tokens * (5 * large.components + 4),
        run: () => backend.quantize(rows, large.components, tokens, large, symbols, params),
      },
      {
        name: "quantize, odd groups",
        bytes,
        run: () => backend.quantize(rows, stride, tokens, odd, symbols, params),
      },
      { name: "pack, odd groups", bytes: packing, run: () => backend.pack(symbols, odd, tokens, packed) },
      { name: "unpack, odd groups", bytes: packing, run: () => backend.unpack(packed, odd, tokens, symbols) },
      {
        name: "dequantize, odd groups",
        bytes,
        run: () => backend.dequantize(symbols, params, odd, tokens, restored, stride),
      },
    ];
  }

  function fp8(): Kernel[] {
    const count = Math.floor(FEATURES * tokens / LONG_ROW);
    const codes = backend.alloc(count * LONG_ROW);
    const scales = backend.alloc(Math.max(4, 2 * count));
    const decoded = backend.alloc(4 * count * LONG_ROW);
    const bytes = count * (5 * LONG_ROW + 2);
    return [
      {
        name: `encodeFp8, rows of ${LONG_ROW}`,
        bytes,
        run: () => backend.encodeFp8(rows, count, LONG_ROW, codes, scales),
      },
      {
        name: `decodeFp8, rows of ${LONG_ROW}`,
        bytes,
        run: () => backend.decodeFp8(codes, scales, count, LONG_ROW, decoded),
      },
    ];
  }
}

function layoutKernels(backend: Backend, tokens: number): Kernel[] {
  const mean = filled(backend, random(FEATURES));
  const rotation = filled(backend, random(tokens * DIM, 2));
  const elements = { f16: 2, bf16: 2, f32: 4 };
  const cases = [["f32", DIM], ["bf16", DIM], ["f16", ODD_DIM]] as const;
  return cases.flatMap(([dtype, dim]): Kernel[] => {
    const shape = { dtype, blocks: HEADS * DIM / dim, tokens, dim, rotaryDim: dim };
    const name = dim === DIM ? dtype : `heads of ${dim}`;
    const source = randomElements(backend, FEATURES * tokens, dtype);
    const rows = backend.alloc(FEATURES * tokens * 4);
    const bytes = FEATURES * tokens * (4 + elements[dtype]);
    return [
      { name: `gather, ${name}`, bytes, run: () => backend.gather(source, shape, rotation, mean, rows) },
      { name: `scatter, ${name}`, bytes, run: () => backend.scatter(rows, shape, rotation, mean, source) },
    ];
  });
}
