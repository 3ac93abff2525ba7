/**
 * The exports of the codec module (asm/codec.ts) and its builds. Pointers are byte addresses (0 is null), strides and
 * counts are in elements; the kernels' own comments say what they do.
 *
 * @module
 */

/** Variants of a module, slowest first. */
export type WasmBuild = "base" | "simd" | "relaxed";

/** All builds, slowest first; the index is the module's `buildId()`. */
export const WASM_BUILDS: readonly WasmBuild[] = ["base", "simd", "relaxed"];

/** What the codec module exports. */
export interface CodecExports {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
  buildId(): number;
  gemmScratchBytes(): number;
  tileBasis(src: number, count: number, features: number, dst: number): number;
  gather(
    src: number,
    dtype: number,
    blocks: number,
    tokens: number,
    dim: number,
    rotaryDim: number,
    rotation: number,
    mean: number,
    dst: number,
    stride: number,
  ): void;
  scatter(
    src: number,
    stride: number,
    dtype: number,
    blocks: number,
    tokens: number,
    dim: number,
    rotaryDim: number,
    rotation: number,
    mean: number,
    dst: number,
  ): void;
  project(
    x: number,
    tokens: number,
    basis: number,
    components: number,
    features: number,
    coefficients: number,
    scratch: number,
  ): void;
  reconstruct(
    coefficients: number,
    tokens: number,
    basis: number,
    components: number,
    features: number,
    begin: number,
    end: number,
    x: number,
    scratch: number,
  ): void;
  quantize(
    coefficients: number,
    stride: number,
    tokens: number,
    plan: number,
    groups: number,
    components: number,
    symbols: number,
    params: number,
  ): void;
  dequantize(
    symbols: number,
    params: number,
    plan: number,
    groups: number,
    components: number,
    tokens: number,
    coefficients: number,
    stride: number,
  ): void;
  pack(symbols: number, plan: number, groups: number, components: number, tokens: number, packed: number): void;
  unpack(packed: number, plan: number, groups: number, components: number, tokens: number, symbols: number): void;
  encodeFp8(src: number, rows: number, length: number, codes: number, scales: number): void;
  decodeFp8(codes: number, scales: number, rows: number, length: number, dst: number): void;
}

/** Names that a module must export to be the codec's. */
export const CODEC_EXPORTS: readonly (keyof CodecExports)[] = [
  "memory",
  "heapBase",
  "buildId",
  "gemmScratchBytes",
  "tileBasis",
  "gather",
  "scatter",
  "project",
  "reconstruct",
  "quantize",
  "dequantize",
  "pack",
  "unpack",
  "encodeFp8",
  "decodeFp8",
];
