/**
 * gather and scatter on WebGPU. Products are kept apart from sums, so that no compiler fuses them: the results are the
 * reference's bits on devices that keep float32 subnormals (others flush them where there is a rotation or a mean).
 *
 * @module
 */
import type { DType } from "../../cache/types.ts";
import { BYTES_PER_ELEMENT } from "../../cache/types.ts";
import { type BlockShape, type DeviceBuffer, paddedLength } from "../backend.ts";
import type { WebGpuDevice } from "./device.ts";
import type { Shader } from "./pipelines.ts";
import { gather } from "./shaders/gather.ts";
import { layoutAny } from "./shaders/layout_any.ts";
import { scatter } from "./shaders/scatter.ts";
import { type ChunkTile, chunkTiles } from "./tiles.ts";

/** Codes of element types in the shaders. */
export const DTYPES: Readonly<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2 };

const WORKGROUP = 256;

/** The operands of gather or scatter. */
export interface BlockOperands {
  readonly shape: BlockShape;
  /** Elements in source layout. */
  readonly elements: DeviceBuffer;
  /** Feature rows of the tokens from `firstToken` on. */
  readonly rows: DeviceBuffer;
  readonly rotation: DeviceBuffer | null;
  readonly mean: DeviceBuffer | null;
}

/** A range of tokens. */
export interface TokenRange {
  readonly begin: number;
  readonly end: number;
}

/** Runs gather, or scatter, for tokens of a chunk; `rows` begins with the first of them. */
export function runLayout(
  device: WebGpuDevice,
  direction: "gather" | "scatter",
  operands: BlockOperands,
  range: TokenRange = { begin: 0, end: operands.shape.tokens },
): void {
  const { shape, rotation } = operands;
  const { dtype, blocks, dim, rotaryDim } = shape;
  if (blocks * dim === 0 || range.end <= range.begin) return;
  const rotated = rotation !== null && rotaryDim > 0;
  const aligned = dim % 8 === 0 && (!rotated || rotaryDim % 16 === 0);
  const flat = direction === "scatter" && !aligned;
  const tiles = chunkTiles(shape, range.end - range.begin, BYTES_PER_ELEMENT[dtype], flat, device.mostBytes);
  for (const tile of tiles) runTile(device, direction, operands, range.begin, tile, aligned, rotated);
}

function runTile(
  device: WebGpuDevice,
  direction: "gather" | "scatter",
  { shape, elements, rows, rotation, mean }: BlockOperands,
  firstToken: number,
  { blockBegin, blockEnd, tokenBegin, tokenEnd }: ChunkTile,
  aligned: boolean,
  rotated: boolean,
): void {
  const { dtype, blocks, tokens: allTokens, dim, rotaryDim } = shape;
  const size = BYTES_PER_ELEMENT[dtype];
  const stride = paddedLength(blocks * dim);
  const [tokens, tileBlocks] = [tokenEnd - tokenBegin, blockEnd - blockBegin];
  const first = firstToken + tokenBegin;
  const head = (block: number, token: number) => (block * allTokens + token) * dim * size;
  const begin = head(blockBegin, first);
  const source = device.range(elements, begin, head(blockEnd - 1, first + tokens));
  const features = device.range(rows, tokenBegin * stride * 4, tokenEnd * stride * 4);
  const turns = rotated ? device.range(rotation!, first * rotaryDim * 4, (first + tokens) * rotaryDim * 4) : null;
  const [input, output] = direction === "gather" ? [source, features] : [features, source];
  const half = rotated ? rotaryDim / 2 : 0;
  const pairs = half / 8;
  const units = aligned ? pairs + (dim - 2 * half) / 8 : 0;
  // The padding of rows goes with the last blocks.
  const columns = blockEnd === blocks ? stride - blockBegin * dim : tileBlocks * dim;
  const count = tileBlocks * tokens * dim;
  const uniforms = Uint32Array.of(
    tileBlocks,
    tokens,
    dim,
    half,
    source.skip / size,
    allTokens * dim,
    features.skip / 4 + blockBegin * dim,
    stride,
    (turns?.skip ?? 0) / 4,
    blockBegin * dim,
    0,
    units,
    count,
    columns,
    0,
    0,
  );
  let invocations: number;
  if (aligned) invocations = tokens * tileBlocks * units;
  else if (direction === "gather") invocations = tokens * columns;
  else invocations = dtype === "f32" ? count : Math.ceil((count + 1) / 2);
  const shader: Shader = aligned ? { gather, scatter }[direction] : layoutAny;
  device.dispatch({
    shader,
    entry: direction,
    constants: { DTYPE: DTYPES[dtype], ROTATED: Number(rotated), CENTRED: Number(mean !== null) },
    // What is not there is bound to something that is only read.
    buffers: [input.range, turns?.range ?? input.range, mean ?? input.range, output.range],
    uniforms,
    workgroups: device.grid(Math.ceil(invocations / WORKGROUP)),
  });
}
