/**
 * quantize and dequantize on WebGPU: the reference's bits.
 *
 * @module
 */
import { DeviceLimitError } from "../fallback.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { WebGpuDevice } from "./device.ts";
import type { WebGpuPlan } from "./plan.ts";
import { dequantize } from "./shaders/dequantize.ts";
import { quantize } from "./shaders/quantize.ts";
import { quantizeRows as quantizeRowsShader } from "./shaders/quantize_rows.ts";

const WORKGROUP = 256;
const SEAM_WORKGROUP = 64;

/**
 * Ranges of rows that a device can bind. They begin at multiples of 4 rows, so that rows of bytes begin at words.
 *
 * @throws {KvzLimitError} when 4 rows are too large.
 */
export function rowRanges(device: WebGpuDevice, rows: number, rowBytes: number): { begin: number; end: number }[] {
  const step = Math.floor(device.mostBytes / Math.max(1, rowBytes) / 4) * 4;
  if (step === 0) {
    throw new DeviceLimitError(
      `Cannot bind 4 rows of ${rowBytes} bytes: this WebGPU device binds at most ${device.mostBytes}`,
    );
  }
  const ranges: { begin: number; end: number }[] = [];
  for (let begin = 0; begin < rows; begin += step) ranges.push({ begin, end: Math.min(rows, begin + step) });
  return ranges;
}

/** Backend.quantize. */
export function quantizeRows(
  device: WebGpuDevice,
  coefficients: DeviceBuffer,
  stride: number,
  tokens: number,
  plan: WebGpuPlan,
  symbols: DeviceBuffer,
  params: DeviceBuffer,
): void {
  if (plan.groups.length === 0) return;
  for (const range of rowRanges(device, tokens, stride * 4)) {
    quantizeRange(device, coefficients, stride, range, plan, symbols, params, range.begin);
  }
}

/** Quantizes rows that can be bound; the first of them has parameters `firstParams` of `params`. */
export function quantizeRange(
  device: WebGpuDevice,
  coefficients: DeviceBuffer,
  stride: number,
  { begin, end }: { readonly begin: number; readonly end: number },
  plan: WebGpuPlan,
  symbols: DeviceBuffer,
  params: DeviceBuffer,
  firstParams: number,
): void {
  const { groups: { length: groups }, components, shape } = plan;
  const { segments, widest, deepest, rows, words } = shape;
  let rounds = 0;
  while (1 << rounds < deepest) rounds++;
  const count = end - begin;
  const from = device.range(coefficients, begin * stride * 4, end * stride * 4);
  const codes = device.range(symbols, begin * components, end * components);
  const pairs = device.range(params, firstParams * groups * 4, (firstParams + count) * groups * 4);
  const uniforms = Uint32Array.of(
    from.skip / 4,
    codes.skip,
    pairs.skip / 4,
    stride,
    count,
    components,
    groups,
    segments,
    widest,
    rounds,
    rows,
    words,
  );
  if (rows === 0) {
    device.dispatch({
      shader: quantize,
      entry: "parameters_of",
      buffers: [from.range, plan.slots, plan.segments, pairs.range],
      uniforms,
      workgroups: device.grid(segments * Math.ceil(count / Math.floor(WORKGROUP / widest))),
    });
    device.dispatch({
      shader: quantize,
      entry: "codes_of",
      buffers: [from.range, plan.lookup, pairs.range, codes.range],
      uniforms,
      workgroups: device.grid(Math.ceil(count * components / 4 / WORKGROUP)),
    });
    return;
  }
  device.dispatch({
    shader: quantizeRowsShader,
    entry: "quantize",
    constants: { VECTORS: Number(stride % 4 === 0), WORDS: Number(shape.whole) },
    buffers: [from.range, plan.slots, plan.segments, pairs.range, codes.range, from.range],
    uniforms,
    workgroups: device.grid(segments * Math.ceil(count / rows)),
  });
  if (shape.whole) return;
  device.dispatch({
    shader: quantize,
    entry: "seams",
    buffers: [from.range, plan.lookup, pairs.range, codes.range, plan.segments],
    uniforms,
    workgroups: device.grid(Math.ceil((count * segments + 1) / SEAM_WORKGROUP)),
  });
}

/** Backend.dequantize. */
export function dequantizeRows(
  device: WebGpuDevice,
  symbols: DeviceBuffer,
  params: DeviceBuffer,
  plan: WebGpuPlan,
  tokens: number,
  coefficients: DeviceBuffer,
  stride: number,
): void {
  const { groups: { length: groups }, components } = plan;
  if (stride === 0) return;
  const wide = stride % 4 === 0;
  for (const { begin, end } of rowRanges(device, tokens, stride * 4)) {
    const count = end - begin;
    const codes = device.range(symbols, begin * components, end * components);
    const pairs = device.range(params, begin * groups * 4, end * groups * 4);
    const to = device.range(coefficients, begin * stride * 4, end * stride * 4);
    device.dispatch({
      shader: dequantize,
      entry: wide ? "vectors" : "singles",
      buffers: [codes.range, plan.lookup, pairs.range, to.range],
      uniforms: Uint32Array.of(to.skip / 4, codes.skip, pairs.skip / 4, stride, count, components, groups, 0),
      workgroups: device.grid(Math.ceil(count * stride / (wide ? 4 : 1) / WORKGROUP)),
    });
  }
}
