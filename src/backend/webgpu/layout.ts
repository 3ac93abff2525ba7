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
import { scatterSums } from "./shaders/scatter_sums.ts";
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

/** What makes feature rows of the integer transform's sums. */
export interface SumScales {
  /** A float32 a feature. */
  readonly features: DeviceBuffer;
  /** A float32 a token of the chunk. */
  readonly tokens: DeviceBuffer;
}

/** A range of tokens. */
export interface TokenRange {
  readonly begin: number;
  readonly end: number;
}

/** Whether heads are read and written by vectors. */
function isAligned({ dim, rotaryDim }: BlockShape, rotation: DeviceBuffer | null): boolean {
  return dim % 8 === 0 && (rotation === null || rotaryDim % 16 === 0);
}

/** Runs gather, or scatter, for tokens of a chunk; `rows` begins with the first of them. */
export function runLayout(
  device: WebGpuDevice,
  direction: "gather" | "scatter",
  operands: BlockOperands,
  range: TokenRange = { begin: 0, end: operands.shape.tokens },
): void {
  run(device, direction, operands, range, null);
}

/**
 * Runs scatter for all tokens of a chunk, whose rows are sums that scales make features of. Returns whether it has: it
 * takes heads that are read by vectors.
 */
export function scatterScaled(device: WebGpuDevice, operands: BlockOperands, scales: SumScales): boolean {
  const { shape, rotation } = operands;
  if (!isAligned(shape, rotation)) return false;
  run(device, "scatter", operands, { begin: 0, end: shape.tokens }, scales);
  return true;
}

function run(
  device: WebGpuDevice,
  direction: "gather" | "scatter",
  operands: BlockOperands,
  range: TokenRange,
  scales: SumScales | null,
): void {
  const { shape, rotation } = operands;
  const { dtype, blocks, dim, rotaryDim } = shape;
  if (blocks * dim === 0 || range.end <= range.begin) return;
  const rotated = rotation !== null && rotaryDim > 0;
  const aligned = isAligned(shape, rotation);
  const flat = direction === "scatter" && !aligned;
  const tiles = chunkTiles(shape, range.end - range.begin, BYTES_PER_ELEMENT[dtype], flat, device.mostBytes);
  for (const tile of tiles) runTile(device, direction, operands, range.begin, tile, aligned, rotated, scales);
}

function runTile(
  device: WebGpuDevice,
  direction: "gather" | "scatter",
  { shape, elements, rows, rotation, mean }: BlockOperands,
  firstToken: number,
  { blockBegin, blockEnd, tokenBegin, tokenEnd }: ChunkTile,
  aligned: boolean,
  rotated: boolean,
  scales: SumScales | null,
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
  const ofTokens = scales === null ? null : device.range(scales.tokens, first * 4, (first + tokens) * 4);
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
    (ofTokens?.skip ?? 0) / 4,
    0,
  );
  let invocations: number;
  if (aligned) invocations = tokens * tileBlocks * units;
  else if (direction === "gather") invocations = tokens * columns;
  else invocations = dtype === "f32" ? count : Math.ceil((count + 1) / 2);
  const shader: Shader = aligned ? { gather, scatter }[direction] : layoutAny;
  // What is not there is bound to something that is only read.
  const read = [input.range, turns?.range ?? input.range, mean ?? input.range];
  const types = { DTYPE: DTYPES[dtype], ROTATED: Number(rotated) };
  const rest = { entry: direction, uniforms, workgroups: device.grid(Math.ceil(invocations / WORKGROUP)) };
  if (scales !== null && ofTokens !== null) {
    const buffers = [...read, scales.features, ofTokens.range, output.range];
    device.dispatch({ ...rest, shader: scatterSums, constants: types, buffers });
    return;
  }
  const constants = { ...types, CENTRED: Number(mean !== null) };
  device.dispatch({ ...rest, shader, constants, buffers: [...read, output.range] });
}
