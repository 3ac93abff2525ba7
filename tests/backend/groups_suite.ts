/**
 * Rotation and quantization of groups on a GPU's backend against their definition, without the test runner: part of
 * kernel_suite.ts.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import {
  type CodedGroups,
  dequantizeGroups,
  type GroupShape,
  paramCount,
  quantizeGroups,
} from "../../src/stages/quantize/uniform.ts";

/** Rows and columns, rotated and not; groups that end within a row, and more of them than a workgroup takes. */
const SHAPES: readonly GroupShape[] = [
  { outer: 70, length: 64, inner: 1, group: 64, bits: 4, leastRange: 1e-5, rotated: true },
  { outer: 3, length: 2048, inner: 1, group: 32, bits: 2, leastRange: 0, rotated: true },
  { outer: 5, length: 100, inner: 1, group: 32, bits: 8, leastRange: 0, rotated: false },
  { outer: 2, length: 70, inner: 12, group: 32, bits: 3, leastRange: 0, rotated: false },
  { outer: 1, length: 4, inner: 1028, group: 4, bits: 1, leastRange: 1e-5, rotated: false },
];

/** Checks by kernel, each giving what differs, or "". Nothing is asked of a device that does not round as the host does. */
export function groupChecks(backend: Backend): (readonly [kernel: string, run: () => Promise<string>])[] {
  const kernels = backend.gpu?.groups ?? null;
  if (kernels === null) return [];
  return SHAPES.flatMap((shape) => {
    const { outer, length, inner, group, rotated } = shape;
    const what = `groups of ${group}, ${outer} × ${length} × ${inner}${rotated ? ", rotated" : ""}`;
    const x = numbers(outer * length * inner, group);
    const wanted = quantizeGroups(x.slice(), shape);
    const buffers = () => [4 * x.length, x.length, 2 * paramCount(shape)].map((bytes) => backend.alloc(bytes));
    return [
      [`quantize ${what}`, async () => {
        const [values, codes, params] = buffers();
        backend.write(values, x);
        kernels.quantize(values, shape, codes, params);
        const found: CodedGroups = {
          codes: await backend.read(codes, 0, x.length),
          params: new Uint16Array((await backend.read(params, 0, 2 * paramCount(shape))).buffer),
        };
        for (const buffer of [values, codes, params]) buffer.free();
        if (!await kernels.exact()) return "";
        return difference("parameter", found.params, wanted.params) || difference("code", found.codes, wanted.codes);
      }],
      [`restore ${what}`, async () => {
        const [values, codes, params] = buffers();
        backend.write(codes, wanted.codes);
        backend.write(params, wanted.params);
        kernels.dequantize(codes, params, shape, values);
        const found = new Float32Array((await backend.read(values, 0, 4 * x.length)).buffer);
        for (const buffer of [values, codes, params]) buffer.free();
        return await kernels.exact() ? difference("value", found, dequantizeGroups(wanted, shape)) : "";
      }],
    ] as const;
  });
}

/** Numbers of sizes from 2^-12 to 2^4, zeros of both signs among them. */
function numbers(length: number, seed: number): Float32Array {
  const next = () => {
    seed = Math.imul(seed, 1664525) + 1013904223 | 0;
    return seed / 2 ** 31;
  };
  return Float32Array.from({ length }, (_, i) => i % 19 === 0 ? i % 2 === 0 ? 0 : -0 : next() * 2 ** (8 * next() - 4));
}

function difference(what: string, found: ArrayLike<number>, wanted: ArrayLike<number>): string {
  for (let i = 0; i < wanted.length; i++) {
    if (!Object.is(found[i], wanted[i])) return `${what} ${i} is ${found[i]}, expected ${wanted[i]}`;
  }
  return "";
}
