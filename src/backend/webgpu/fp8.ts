/**
 * FP8 blocks on WebGPU: the reference's bits.
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";
import type { WebGpuDevice } from "./device.ts";
import { rowRanges } from "./quantizer.ts";
import { fp8 } from "./shaders/fp8.ts";

const WORKGROUP = 256;

/** Backend.encodeFp8. */
export function encodeFp8Rows(
  device: WebGpuDevice,
  src: DeviceBuffer,
  rows: number,
  length: number,
  codes: DeviceBuffer,
  scales: DeviceBuffer,
): void {
  for (const { begin, end } of rowRanges(device, rows, length * 4)) {
    const count = end - begin;
    const { from, to, steps, uniforms } = bind(device, begin, end, length, src, codes, scales);
    device.dispatch({
      shader: fp8,
      entry: "scales_of",
      buffers: [from, steps],
      uniforms,
      workgroups: device.grid(Math.ceil(count / 2)),
    });
    if (length === 0) continue;
    device.dispatch({
      shader: fp8,
      entry: "encode",
      buffers: [from, steps, to],
      uniforms,
      workgroups: device.grid(Math.ceil(count * length / 4 / WORKGROUP)),
    });
  }
}

/** Backend.decodeFp8. */
export function decodeFp8Rows(
  device: WebGpuDevice,
  codes: DeviceBuffer,
  scales: DeviceBuffer,
  rows: number,
  length: number,
  dst: DeviceBuffer,
): void {
  if (length === 0) return;
  for (const { begin, end } of rowRanges(device, rows, length * 4)) {
    const { from, to, steps, uniforms } = bind(device, begin, end, length, dst, codes, scales);
    device.dispatch({
      shader: fp8,
      entry: "decode",
      buffers: [to, steps, from],
      uniforms,
      workgroups: device.grid(Math.ceil((end - begin) * length / 4 / WORKGROUP)),
    });
  }
}

function bind(
  device: WebGpuDevice,
  begin: number,
  end: number,
  length: number,
  values: DeviceBuffer,
  codes: DeviceBuffer,
  scales: DeviceBuffer,
) {
  const from = device.range(values, begin * length * 4, end * length * 4);
  const to = device.range(codes, begin * length, end * length);
  const steps = device.range(scales, begin * 2, end * 2);
  const uniforms = Uint32Array.of(from.skip / 4, to.skip, steps.skip / 2, end - begin, length, 0, 0, 0);
  return { from: from.range, to: to.range, steps: steps.range, uniforms };
}
