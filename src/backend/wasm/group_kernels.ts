/**
 * The kernels of rows in few bits (asm/groups.ts): rotation and uniform quantization of groups, ggml's blocks. What they do
 * is defined in src/stages/quantize/uniform.ts and ggml_blocks.ts.
 *
 * @module
 */
import type { BlockKernels, GroupKernels } from "../../stages/quantize/group_kernels.ts";
import { BLOCK, BLOCK_BYTES, type BlockType } from "../../stages/quantize/ggml_blocks.ts";
import { type CodedGroups, type GroupShape, paramCount } from "../../stages/quantize/uniform.ts";
import { hadamardScale } from "../../stages/transform/hadamard.ts";
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule, type ModuleExports } from "./kernel_module.ts";

/** Exports of the module. Pointers are byte addresses. */
export interface GroupExports extends ModuleExports {
  hadamard(x: number, rows: number, n: number, scale: number): void;
  quantizeGroups(
    x: number,
    outer: number,
    length: number,
    inner: number,
    group: number,
    top: number,
    least: number,
    codes: number,
    params: number,
  ): void;
  dequantizeGroups(
    codes: number,
    outer: number,
    length: number,
    inner: number,
    group: number,
    params: number,
    x: number,
  ): void;
  quantizeQ8(x: number, blocks: number, to: number): void;
  quantizeQ4(x: number, blocks: number, to: number): void;
  dequantizeQ8(from: number, blocks: number, x: number): void;
  dequantizeQ4(from: number, blocks: number, x: number): void;
}

/** Values in the kernels' memory at a time, unless a row of groups has more. */
const SLICE = 1 << 18;

/** The module's kernels. */
export class GroupsModule extends KernelModule<GroupExports> {
  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it.
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<GroupsModule> {
    const { build: chosen, exports } = await instantiate<GroupExports>(
      async () => (await import("./bytes/groups.ts")).groups,
      build,
      "quantize groups",
    );
    return new GroupsModule(chosen, exports);
  }

  /** Uniform quantization. */
  readonly groups: GroupKernels = {
    quantize: (x, shape) => this.#quantize(x, shape),
    dequantize: (coded, shape) => this.#dequantize(coded, shape),
  };

  /** ggml's blocks. */
  readonly blocks = {
    quantize: (values: Float32Array, type: BlockType): Uint8Array => {
      const out = new Uint8Array(values.length / BLOCK * BLOCK_BYTES[type]);
      this.#eachBlocks(values, out, type, false);
      return out;
    },
    dequantize: (bytes: Uint8Array, type: BlockType): Float32Array => {
      const out = new Float32Array(bytes.length / BLOCK_BYTES[type] * BLOCK);
      this.#eachBlocks(out, bytes, type, true);
      return out;
    },
  } satisfies BlockKernels;

  #quantize(x: Float32Array, shape: GroupShape): CodedGroups {
    const { length, inner, group, bits, leastRange, rotated } = shape;
    const codes = new Uint8Array(x.length);
    const params = new Uint16Array(paramCount(shape));
    this.#eachSlice(shape, (outer, values, ofCodes, ofParams, [a, c, p]) => {
      this.write(a, x.subarray(...values));
      if (rotated) this.exports.hadamard(a, outer, length, hadamardScale(length));
      this.exports.quantizeGroups(a, outer, length, inner, group, (1 << bits) - 1, Math.fround(leastRange), c, p);
      this.read(c, codes.subarray(...ofCodes));
      this.read(p, params.subarray(...ofParams));
    });
    return { codes, params };
  }

  #dequantize({ codes, params }: CodedGroups, shape: GroupShape): Float32Array {
    const { length, inner, group, rotated } = shape;
    const x = new Float32Array(codes.length);
    this.#eachSlice(shape, (outer, values, ofCodes, ofParams, [a, c, p]) => {
      this.write(c, codes.subarray(...ofCodes));
      this.write(p, params.subarray(...ofParams));
      this.exports.dequantizeGroups(c, outer, length, inner, group, p, a);
      if (rotated) this.exports.hadamard(a, outer, length, hadamardScale(length));
      this.read(a, x.subarray(...values));
    });
    return x;
  }

  /** Some of the outermost axis at a time, with the ranges of their values, codes and parameters, and memory for them. */
  #eachSlice(
    shape: GroupShape,
    body: (
      outer: number,
      values: [number, number],
      codes: [number, number],
      params: [number, number],
      memory: readonly [values: number, codes: number, params: number],
    ) => void,
  ): void {
    const { outer, length, inner } = shape;
    const [each, eachParams] = [length * inner, paramCount({ ...shape, outer: 1 })];
    if (each === 0) return;
    const step = Math.min(outer, Math.max(1, Math.floor(SLICE / each)));
    this.scoped((alloc) => {
      // Vectors of codes are loaded four at a time.
      const memory = [alloc(4 * step * each), alloc(step * each + 16), alloc(2 * step * eachParams)] as const;
      for (let o = 0; o < outer; o += step) {
        const end = Math.min(outer, o + step);
        const range: [number, number] = [o * each, end * each];
        body(end - o, range, range, [o * eachParams, end * eachParams], memory);
      }
    });
  }

  #eachBlocks(values: Float32Array, bytes: Uint8Array, type: BlockType, restore: boolean): void {
    const size = BLOCK_BYTES[type];
    const blocks = bytes.length / size;
    const step = Math.min(blocks, SLICE / BLOCK);
    const { quantizeQ8, quantizeQ4, dequantizeQ8, dequantizeQ4 } = this.exports;
    this.scoped((alloc) => {
      const [x, packed] = [alloc(4 * BLOCK * step), alloc(size * step)];
      for (let b = 0; b < blocks; b += step) {
        const end = Math.min(blocks, b + step);
        const [floats, coded] = [values.subarray(b * BLOCK, end * BLOCK), bytes.subarray(b * size, end * size)];
        if (restore) {
          this.write(packed, coded);
          (type === "q8_0" ? dequantizeQ8 : dequantizeQ4)(packed, end - b, x);
          this.read(x, floats);
        } else {
          this.write(x, floats);
          (type === "q8_0" ? quantizeQ8 : quantizeQ4)(x, end - b, packed);
          this.read(packed, coded);
        }
      }
    });
  }
}
