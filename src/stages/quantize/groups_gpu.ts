/**
 * Quantization of groups on a GPU; what its kernels do not take is the host's.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { type GpuGroups, takesGroups } from "../../backend/gpu/groups.ts";
import { withScratch } from "../scratch.ts";
import type { GroupKernels } from "./group_kernels.ts";
import { type CodedGroups, type GroupShape, paramCount } from "./uniform.ts";

/** Values on the device at once: 64 MiB of float32, which every WebGPU device binds. */
const SLICE = 1 << 24;

/** The quantizer on one device. */
export class GpuGroupKernels implements GroupKernels {
  readonly #backend: Backend;
  readonly #kernels: GpuGroups;
  readonly #openHost: () => Promise<GroupKernels>;
  #host: Promise<GroupKernels> | null = null;

  /** @param openHost makes the quantizer of the shapes that the device's kernels do not take */
  constructor(backend: Backend, kernels: GpuGroups, openHost: () => Promise<GroupKernels>) {
    this.#backend = backend;
    this.#kernels = kernels;
    this.#openHost = openHost;
  }

  async quantize(x: Float32Array, shape: GroupShape): Promise<CodedGroups> {
    if (!fits(shape)) return await (await this.#onHost()).quantize(x, shape);
    const codes = new Uint8Array(x.length);
    const params = new Uint16Array(paramCount(shape));
    await this.#eachSlice(shape, async (part, at, ofParams) => {
      await withScratch(this.#backend, async (scratch) => {
        const values = part.outer * part.length * part.inner;
        const from = scratch.upload(x.subarray(at, at + values));
        const [to, words] = [scratch.alloc(values), scratch.alloc(2 * paramCount(part))];
        this.#kernels.quantize(from, part, to, words);
        // Both are enqueued before either is waited for.
        const [bytes, halves] = await Promise.all([
          this.#backend.read(to, 0, values),
          this.#backend.read(words, 0, 2 * paramCount(part)),
        ]);
        codes.set(bytes, at);
        params.set(new Uint16Array(halves.buffer), ofParams);
      });
    });
    return { codes, params };
  }

  async dequantize(coded: CodedGroups, shape: GroupShape): Promise<Float32Array> {
    if (!fits(shape)) return await (await this.#onHost()).dequantize(coded, shape);
    const { codes, params } = coded;
    const x = new Float32Array(codes.length);
    await this.#eachSlice(shape, async (part, at, ofParams) => {
      await withScratch(this.#backend, async (scratch) => {
        const values = part.outer * part.length * part.inner;
        const from = scratch.upload(codes.subarray(at, at + values));
        const words = scratch.upload(params.subarray(ofParams, ofParams + paramCount(part)));
        const to = scratch.alloc(4 * values);
        this.#kernels.dequantize(from, words, part, to);
        x.set(new Float32Array((await this.#backend.read(to, 0, 4 * values)).buffer), at);
      });
    });
    return x;
  }

  #onHost(): Promise<GroupKernels> {
    return this.#host ??= this.#openHost();
  }

  /** Some of the outermost axis at a time, with the places where its values and parameters begin. */
  async #eachSlice(
    shape: GroupShape,
    body: (part: GroupShape, values: number, params: number) => Promise<void>,
  ): Promise<void> {
    const { outer, length, inner } = shape;
    const step = Math.max(1, Math.floor(SLICE / (length * inner)));
    for (let o = 0; o < outer; o += step) {
      const part = { ...shape, outer: Math.min(step, outer - o) };
      await body(part, o * length * inner, o * paramCount({ ...shape, outer: 1 }));
    }
  }
}

function fits(shape: GroupShape): boolean {
  const { length, inner } = shape;
  return takesGroups(shape) && length > 0 && length * inner <= SLICE;
}
