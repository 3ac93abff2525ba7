/**
 * Exports of the codec's kernel module (asm/codec.ts). Pointers are byte addresses, counts and strides elements.
 *
 * @module
 */

/** The exports; see asm/codec/ for what they do. */
export interface CodecExports {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
  gemmScratchBytes(rows: number): number;
  basisBytes(components: number, features: number): number;
  packBasis(rows: number, count: number, features: number, block: number, basis: number): void;
  project(
    x: number,
    xStride: number,
    tokens: number,
    basis: number,
    components: number,
    features: number,
    out: number,
    outStride: number,
    scratch: number,
  ): void;
  reconstruct(
    coefficients: number,
    stride: number,
    tokens: number,
    basis: number,
    components: number,
    features: number,
    begin: number,
    end: number,
    out: number,
    outStride: number,
    scratch: number,
  ): void;
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
  pack(
    symbols: number,
    plan: number,
    groups: number,
    components: number,
    tokens: number,
    packed: number,
  ): void;
  unpack(
    packed: number,
    plan: number,
    groups: number,
    components: number,
    tokens: number,
    symbols: number,
  ): void;
  encodeFp8(src: number, rows: number, length: number, codes: number, scales: number): void;
  decodeFp8(codes: number, scales: number, rows: number, length: number, dst: number): void;
  bareTiles(rounds: number, scratch: number): void;
}
