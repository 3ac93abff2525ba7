/**
 * The loops of the lossless coder in plain TypeScript: what the kernels in asm/lossless/ must do, bit by bit.
 *
 * @module
 */
import { powerOfTwo } from "../../cache/power.ts";
import type { DType } from "../../cache/types.ts";
import { chooseCodes, PHASE_COSINES, PHASE_SINES } from "./choose.ts";
import { type RowCodes, type RowModel, rowModel } from "./codes.ts";
import { countStep, isCounted } from "./counts.ts";
import {
  baseBelow,
  type ElementParts,
  fiveBitBytes,
  type LosslessKernels,
  planeLengths,
  sampledTokens,
  wrongEscapes,
} from "./kernels.ts";
import { type LosslessShape, PHASES, type RowGroup } from "./shape.ts";
import { concat } from "./streams.ts";

const fround = Math.fround;

/** The reference. */
export class ReferenceLossless implements LosslessKernels {
  split(heads: readonly Uint8Array[], shape: LosslessShape, tokens: number, rows: Int32Array): ElementParts {
    const { blocks, dim, dtype } = shape;
    const data = concat(heads);
    const base = dtype === "f16" ? 0 : baseBelow(topExponent(data, dtype));
    const symbols = new Uint8Array(rows.length * tokens);
    const planes = planeLengths(shape, tokens).map((length) => new Uint8Array(length));
    const escapes: number[] = [];
    const escapeCounts = new Uint32Array(blocks);
    for (let block = 0, at = 0; block < blocks; block++) {
      for (let t = 0; t < tokens; t++) {
        for (let i = 0; i < dim; i++, at++) {
          const { symbol, escape } = splitElement(data, dtype, base, at, planes, block, tokens * dim);
          symbols[rows[block * dim + i] * tokens + t] = symbol;
          if (escape < 0) continue;
          escapes.push(escape);
          escapeCounts[block]++;
        }
      }
    }
    return { base, symbols, planes, escapes: Uint8Array.from(escapes), escapeCounts };
  }

  join(
    { base, symbols, planes, escapes, escapeCounts }: ElementParts,
    { dim, dtype }: LosslessShape,
    tokens: number,
    rows: Int32Array,
    begin: number,
    heads: readonly Uint8Array[],
  ): void {
    const n = tokens * dim;
    let next = escapeCounts.subarray(0, begin).reduce((sum, count) => sum + count, 0);
    for (const [h, head] of heads.entries()) {
      const block = begin + h;
      const last = next + escapeCounts[block];
      for (let t = 0, at = 0; t < tokens; t++) {
        for (let i = 0; i < dim; i++, at++) {
          const symbol = symbols[rows[block * dim + i] * tokens + t];
          let escape = -1;
          if (dtype !== "f16" && (symbol & 0x7c) === 0) {
            if (next === last) throw wrongEscapes(block);
            escape = escapes[next++];
          }
          joinElement(head, dtype, base, at, symbol, escape, planes, block, n);
        }
      }
      if (next !== last) throw wrongEscapes(block);
    }
  }

  measure(symbols: Uint8Array, tokens: number, groups: readonly RowGroup[], sums: Float32Array): void {
    const sampled = sampledTokens(tokens);
    // Four partial sums, as lanes have them.
    const lanes = Array.from({ length: 3 }, () => new Float32Array(4));
    eachRow(groups, (row, phases) => {
      for (const lane of lanes) lane.fill(0);
      sampled.forEach((t, i) => {
        const x = symbolValue(symbols[row * tokens + t]);
        const cos = phases === null ? 1 : PHASE_COSINES[phases[t]];
        const sin = phases === null ? 0 : PHASE_SINES[phases[t]];
        lanes[0][i & 3] += fround(x * cos);
        lanes[1][i & 3] += fround(x * sin);
        lanes[2][i & 3] += fround(x * x);
      });
      lanes.forEach(([a, b, c, d], k) => sums[3 * row + k] = fround(a + b) + fround(c + d));
    });
  }

  choose(sums: Float32Array, tokens: number, groups: readonly RowGroup[], codes: RowCodes): void {
    for (const group of groups) chooseCodes(sums, group, sampledTokens(tokens), codes);
  }

  model(codes: RowCodes, _tokens: number, groups: readonly RowGroup[]): RowModel {
    return rowModel(codes, groups);
  }

  normalize(
    symbols: Uint8Array,
    tokens: number,
    groups: readonly RowGroup[],
    { classes, flips, octaves }: RowModel,
    counts: Uint32Array,
  ): void {
    const step = countStep(symbols.length);
    const seen = new Uint8Array(counts.length);
    eachRow(groups, (row, phases) => {
      for (let t = 0, at = row * tokens; t < tokens; t++, at++) {
        const entry = row * PHASES + (phases?.[t] ?? 0);
        const symbol = symbols[at];
        const mapped = ((symbol ^ flips[entry]) & 0x80) | ((symbol - 4 * octaves[row]) & 0x7f);
        symbols[at] = mapped;
        const index = classes[entry] * 256 + mapped;
        if (isCounted(row, t, tokens, step)) counts[index]++;
        else seen[index] = 1;
      }
    });
    for (let i = 0; i < counts.length; i++) counts[i] ||= seen[i];
  }

  denormalize(
    symbols: Uint8Array,
    tokens: number,
    groups: readonly RowGroup[],
    { flips, octaves }: RowModel,
  ): Uint8Array {
    eachRow(groups, (row, phases) => {
      for (let t = 0, at = row * tokens; t < tokens; t++, at++) {
        const mapped = symbols[at];
        const flip = flips[row * PHASES + (phases?.[t] ?? 0)];
        symbols[at] = ((mapped ^ flip) & 0x80) | ((mapped + 4 * octaves[row]) & 0x7f);
      }
    });
    return symbols;
  }
}

/** Rows that do not turn are in phase 0. */
function eachRow(groups: readonly RowGroup[], visit: (row: number, phases: Uint8Array | null) => void): void {
  for (const { begin, end, phases } of groups) for (let row = begin; row < end; row++) visit(row, phases);
}

/** The middle of what a symbol stands for in f32, in units in which exponent 16 is 1; 0 for exponent 0 and 31. */
export function symbolValue(symbol: number): number {
  const exponent = (symbol >> 2) & 31;
  if (exponent === 0 || exponent === 31) return 0;
  const value = (1 + (symbol & 3) / 4 + 1 / 8) * powerOfTwo(exponent - 16);
  return symbol > 127 ? -value : value;
}

function splitElement(
  data: Uint8Array,
  dtype: DType,
  base: number,
  at: number,
  planes: readonly Uint8Array[],
  block: number,
  n: number,
): { symbol: number; escape: number } {
  if (dtype === "f16") {
    planes[0][at] = data[2 * at];
    return { symbol: data[2 * at + 1], escape: -1 };
  }
  const high = dtype === "f32" ? 4 * at + 2 : 2 * at;
  const bits = data[high] | (data[high + 1] << 8);
  putFive(planes[0], block, at - block * n, n, bits & 31);
  if (dtype === "f32") {
    planes[1][at] = data[high - 1];
    planes[2][at] = data[high - 2];
  }
  const exponent = (bits >> 7) & 255;
  const inside = exponent > base && exponent <= base + 31;
  const symbol = ((bits >> 8) & 0x80) | (inside ? (exponent - base) << 2 : 0) | ((bits >> 5) & 3);
  return { symbol, escape: inside ? -1 : exponent };
}

/** Element `at` of a block of n. */
function joinElement(
  out: Uint8Array,
  dtype: DType,
  base: number,
  at: number,
  symbol: number,
  escape: number,
  planes: readonly Uint8Array[],
  block: number,
  n: number,
): void {
  if (dtype === "f16") {
    out[2 * at] = planes[0][block * n + at];
    out[2 * at + 1] = symbol;
    return;
  }
  const exponent = escape >= 0 ? escape : ((symbol >> 2) & 31) + base;
  const bits = ((symbol & 0x80) << 8) | (exponent << 7) | ((symbol & 3) << 5) | getFive(planes[0], block, at, n);
  const high = dtype === "f32" ? 4 * at + 2 : 2 * at;
  out[high] = bits & 255;
  out[high + 1] = bits >> 8;
  if (dtype === "f32") {
    out[high - 1] = planes[1][block * n + at];
    out[high - 2] = planes[2][block * n + at];
  }
}

function putFive(plane: Uint8Array, block: number, i: number, n: number, value: number): void {
  const at = block * fiveBitBytes(n);
  plane[at + (i >> 1)] |= (value & 15) << (4 * (i & 1));
  plane[at + ((n + 1) >> 1) + (i >> 3)] |= (value >> 4) << (i & 7);
}

function getFive(plane: Uint8Array, block: number, i: number, n: number): number {
  const at = block * fiveBitBytes(n);
  const four = (plane[at + (i >> 1)] >> (4 * (i & 1))) & 15;
  return four | (((plane[at + ((n + 1) >> 1) + (i >> 3)] >> (i & 7)) & 1) << 4);
}

/** Greatest exponent field of a finite element of bf16 or f32. */
function topExponent(data: Uint8Array, dtype: DType): number {
  const width = dtype === "f32" ? 4 : 2;
  let top = 0;
  for (let at = width - 2; at < data.length; at += width) {
    const exponent = ((data[at + 1] & 127) << 1) | (data[at] >> 7);
    if (exponent < 255 && exponent > top) top = exponent;
  }
  return top;
}
