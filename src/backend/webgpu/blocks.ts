/**
 * ggml's blocks on WebGPU (wgsl/blocks.wgsl).
 *
 * @module
 */
import { BLOCK, type BlockType, quantizeBlocks } from "../../stages/quantize/ggml_blocks.ts";
import type { DeviceBuffer } from "../backend.ts";
import { blockBytes, type GpuBlocks, requireBlocks } from "../gpu/blocks.ts";
import type { WebGpuDevice } from "./device.ts";
import { blocks as shader } from "./shaders/blocks.ts";

const TYPES: readonly BlockType[] = ["q8_0", "q4_0"];

/** The kernels on one device. */
export class WebGpuBlocks implements GpuBlocks {
  readonly #device: WebGpuDevice;
  #exact: Promise<boolean> | null = null;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  quantize(x: DeviceBuffer, blocks: number, type: BlockType, bytes: DeviceBuffer): void {
    requireBlocks(x, blocks, type, bytes);
    // Two blocks an invocation.
    this.#run(`quantize_${type.slice(0, 2)}`, blocks, Math.ceil(blocks / 128), [x, bytes]);
  }

  dequantize(bytes: DeviceBuffer, blocks: number, type: BlockType, x: DeviceBuffer): void {
    requireBlocks(x, blocks, type, bytes);
    // Four values an invocation.
    this.#run(`dequantize_${type.slice(0, 2)}`, blocks, Math.ceil(blocks / 32), [bytes, x]);
  }

  exact(): Promise<boolean> {
    return this.#exact ??= this.#try();
  }

  #run(entry: string, blocks: number, groups: number, buffers: readonly DeviceBuffer[]): void {
    if (blocks === 0) return;
    const workgroups = this.#device.grid(groups);
    this.#device.dispatch({ shader, entry, buffers, uniforms: Uint32Array.of(blocks, 0, 0, 0), workgroups });
  }

  /**
   * WGSL leaves it to a device to which of two neighbours a product or a sum is rounded. So the kernels are tried on
   * values whose products lie around the middles between codes, where the last place decides.
   */
  async #try(): Promise<boolean> {
    const x = trialValues();
    const blocks = x.length / BLOCK;
    const values = this.#device.alloc(x.byteLength);
    const coded = this.#device.alloc(blockBytes(blocks, "q8_0"));
    try {
      this.#device.write(values, x, 0);
      for (const type of TYPES) {
        this.quantize(values, blocks, type, coded);
        const wanted = quantizeBlocks(x, type);
        const found = await this.#device.read(coded, 0, blockBytes(blocks, type));
        if (wanted.some((byte, i) => byte !== found[i])) return false;
      }
      return true;
    } finally {
      values.free();
      coded.free();
    }
  }
}

/** Blocks of random scales whose other values are some last places from (code + ½) · scale, of q8_0 and of q4_0. */
function trialValues(): Float32Array {
  const x = new Float32Array(128 * BLOCK);
  const words = new Uint32Array(x.buffer);
  let state = 1;
  for (let at = 0; at < x.length; at += BLOCK) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    const most = Math.fround(1 + (state >>> 1) / 2 ** 31);
    const steps = at % (2 * BLOCK) === 0 ? 127 : 8;
    x[at] = most;
    for (let i = 1; i < BLOCK; i++) {
      x[at + i] = ((i * 5 + at / BLOCK) % steps + 0.5) / steps * most * (i % 2 === 0 ? 1 : -1);
      words[at + i] += (i % 9 - 4) << (at / 64 % 4);
    }
  }
  return x;
}
