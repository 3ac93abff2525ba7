/**
 * KVComp's fused decompression and matrix–vector product against decoding first and multiplying then, in WebAssembly: a
 * layer's keys of random normal elements, quantized as the recipe does. Rounds of both alternate; the ratio is the median of
 * the rounds' ratios.
 *
 *     deno run -A bench/kvcomp.ts [--tokens 4096] [--heads 8] [--dim 128] [--rel 0.05] [--rounds 40] [--builds simd,base]
 *
 * Fused: codes → products. Apart: codes → symbols (u8) → elements (f32) → products, each in the memory of the same module.
 *
 * @module
 */
import type { WasmBuild } from "../src/backend/wasm/exports.ts";
import { type HuffmanExports, HuffmanKernels } from "../src/backend/wasm/huffman_kernels.ts";
import { fromFloat32 } from "../src/cache/elements.ts";
import { decodeTable } from "../src/stages/entropy/huffman.ts";
import { encodeChunk } from "../src/stages/kvcomp/coder.ts";
import type { KvCompShape } from "../src/stages/kvcomp/shape.ts";
import { alphabetOf } from "../src/stages/quantize/relative.ts";
import { compileAsm } from "../tools/asc.ts";
import { digits, markdown } from "./controls/tables.ts";
import { option } from "./inputs.ts";

interface BenchExports extends HuffmanExports {
  dequantize(symbols: number, n: number, first: number, scale: number, out: number): void;
  multiplyRows(x: number, rows: number, length: number, weights: number, lanes: number, out: number): void;
}

const [tokens, heads, dim] = [["tokens", "4096"], ["heads", "8"], ["dim", "128"]].map(([name, value]) =>
  Number(option(name, value))
);
const rel = Number(option("rel", "0.05"));
const rounds = Number(option("rounds", "40"));

let seed = 1;
/** Uniform in (0, 1). */
function next(): number {
  seed = Math.imul(seed, 1664525) + 1013904223 | 0;
  return ((seed >>> 8) + 0.5) / 2 ** 24;
}
const normal = () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());

const shape: KvCompShape = {
  kind: "key",
  layers: 1,
  heads,
  dim,
  dtype: "f32",
  grouping: "block",
  alphabet: alphabetOf(rel),
};
if (dim > 128 || dim % 4 !== 0 || tokens % 64 !== 0) {
  throw new RangeError("--dim: a multiple of 4 up to 128; --tokens: of 64");
}
const elements = fromFloat32(Float32Array.from({ length: heads * tokens * dim }, normal), "f32");
const { blocks, lengths } = encodeChunk(elements, shape, rel, tokens, 0);
const values = heads * tokens * dim;
console.log(
  `${heads} heads × ${tokens} tokens × ${dim}, relative step ${rel}: ${
    digits(8 * blocks.codes.length / values)
  } bits a value`,
);

const rows: string[][] = [];
for (const build of option("builds", "relaxed,simd,base").split(",") as WasmBuild[]) {
  const { instance } = await WebAssembly.instantiate(await compileAsm("huffman_bench", build));
  const exports = instance.exports as unknown as BenchExports;
  const kernels = new HuffmanKernels(build, exports);
  const place = (bytes: Uint8Array) => {
    const address = kernels.alloc(bytes.length + 256);
    kernels.write(address, bytes);
    return address;
  };
  const codes = place(blocks.codes);
  const [table, infos] = [place(blocks.table), place(blocks.vectors)];
  const lookup = place(new Uint8Array(decodeTable(lengths[0]).buffer));
  const weights = place(new Uint8Array(Float32Array.from({ length: 4 * dim }, normal).buffer));
  const [symbols, x, out] = [kernels.alloc(tokens * dim), kernels.alloc(4 * tokens * dim), kernels.alloc(16 * tokens)];
  const part = (head: number) => [
    codes,
    table + 8 * head * tokens / 64,
    infos + 2 * head * tokens,
    lookup,
    shape.alphabet,
    tokens / 64,
    1,
    64,
    64,
    dim,
  ];
  for (const lanes of [1, 4]) {
    const fused = () => {
      for (let head = 0; head < heads; head++) exports.dots(...part(head), weights, 0, lanes, out);
    };
    const apart = () => {
      for (let head = 0; head < heads; head++) {
        exports.decode(...part(head), symbols, 64 * dim, dim, 1);
        exports.dequantize(symbols, tokens * dim, -10, 0.37, x);
        exports.multiplyRows(x, tokens, dim, weights, lanes, out);
      }
    };
    const times: [number, number][] = [];
    for (let round = -3; round < rounds; round++) {
      const begin = performance.now();
      fused();
      const middle = performance.now();
      apart();
      if (round >= 0) times.push([middle - begin, performance.now() - middle]);
    }
    const median = (of: (pair: [number, number]) => number) => times.map(of).sort((a, b) => a - b)[times.length >> 1];
    rows.push([
      build,
      `${lanes}`,
      digits(1e6 * median(([a]) => a) / values),
      digits(1e6 * median(([, b]) => b) / values),
      digits(median(([a, b]) => b / a)),
    ]);
  }
}
console.log(markdown(["build", "queries", "fused, ns a value", "apart, ns a value", "apart ÷ fused"], rows));
