/**
 * FP8 blocks on WebGPU: the reference's bits.
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";
import type { BufferRange, WebGpuDevice } from "./device.ts";
import { WebGpuPlan } from "./plan.ts";
import { quantizeRange, rowRanges } from "./quantizer.ts";
import { fp8 } from "./shaders/fp8.ts";

const WORKGROUP = 256;

/** Longest rows that the quantizer takes in one pass. */
const ONE_PASS_LENGTH = 2048;

/** Backend.encodeFp8 of one device. Rows are a plan of one group to the quantizer, which reads them once. */
export class Fp8Encoder {
  readonly #device: WebGpuDevice;
  /** The plan of the rows last encoded: lengths seldom change. */
  #plan: WebGpuPlan | null = null;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  encode(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void {
    for (const { begin, end } of rowRanges(this.#device, rows, length * 4)) {
      const { from, to, steps, uniforms } = bind(this.#device, begin, end, length, src, codes, scales);
      if (length > 8 && length <= ONE_PASS_LENGTH) {
        this.#encodeOnePass(src, { begin, end }, length, codes, steps, uniforms);
      } else {
        this.#encodeAnyLength(from, end - begin, length, to, steps, uniforms);
      }
    }
  }

  #encodeOnePass(
    src: DeviceBuffer,
    range: { readonly begin: number; readonly end: number },
    length: number,
    codes: DeviceBuffer,
    steps: BufferRange,
    uniforms: Uint32Array,
  ): void {
    if (this.#plan?.components !== length) {
      this.#plan?.free();
      this.#plan = new WebGpuPlan(this.#device, [{ first: 0, size: length, type: 3 }], length);
    }
    const count = range.end - range.begin;
    const params = this.#device.alloc(count * 4);
    quantizeRange(this.#device, src, length, range, this.#plan, codes, params, 0);
    this.#device.dispatch({
      shader: fp8,
      entry: "scales_from",
      buffers: [params, steps],
      uniforms,
      workgroups: this.#device.grid(Math.ceil(count / 2 / WORKGROUP)),
    });
    params.free();
  }

  #encodeAnyLength(
    from: BufferRange,
    count: number,
    length: number,
    to: BufferRange,
    steps: BufferRange,
    uniforms: Uint32Array,
  ): void {
    this.#device.dispatch({
      shader: fp8,
      entry: "scales_of",
      buffers: [from, steps],
      uniforms,
      workgroups: this.#device.grid(Math.ceil(count / 2)),
    });
    if (length === 0) return;
    this.#device.dispatch({
      shader: fp8,
      entry: "encode",
      buffers: [from, steps, to],
      uniforms,
      workgroups: this.#device.grid(Math.ceil(count * length / 4 / WORKGROUP)),
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
      entry: length % 4 === 0 ? "decode_words" : "decode",
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
