/**
 * Rows of keys and values side by side, for the joint Gram matrix, and some chunks kept whole to train the coder on.
 *
 * @module
 */
import { type Backend, paddedLength } from "../../backend/backend.ts";
import type { CalibrateKernels } from "../../backend/wasm/calibrate_kernels.ts";
import { findNonFinite } from "../../cache/finite.ts";
import { type DType, type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import { KvzUnsupportedError } from "../../errors.ts";
import { GramAccumulator } from "../gram.ts";
import type { KindEngine } from "../kind_engine.ts";
import type { RowBlock } from "../kind_fitter.ts";
import { featuresOf } from "../statistics.ts";
import { kindDim } from "./sensitivity.ts";

/** A chunk as it was read: elements [layers][heads][tokens][dim] of both kinds. */
export interface RawChunk {
  readonly tokens: number;
  readonly dtype: DType;
  readonly data: Readonly<Record<Kind, Uint8Array>>;
  readonly positions: Int32Array;
}

/** Multiples of the golden ratio, modulo 1, are spread evenly, however many there are (Weyl's equidistribution). */
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** Takes the rows of a gatherer. */
export class JointReader implements Disposable {
  readonly gram: GramAccumulator;
  readonly #model: ModelSpec;
  readonly #backend: Backend;
  readonly #features: Record<Kind, number>;
  readonly #keep: number;
  /** In the order in which they were read, each with its rank among all: those of the lowest are kept. */
  readonly #kept: { readonly rank: number; readonly chunk: RawChunk }[] = [];
  #read = 0;
  #waiting: RowBlock | null = null;

  /** @param keep chunks to keep for training at most */
  constructor(model: ModelSpec, backend: Backend, kernels: CalibrateKernels, keep: number) {
    this.#model = model;
    this.#backend = backend;
    this.#features = featuresOf(model);
    this.#keep = keep;
    this.gram = new GramAccumulator(kernels, this.#features.key + this.#features.value);
  }

  /** Chunks to train on, evenly of all that was read: at least one as soon as there were rows. */
  get chunks(): readonly RawChunk[] {
    return this.#kept.map(({ chunk }) => chunk);
  }

  /** The two ends of the reader: the gatherer gives keys and then values of each run. */
  engines(): Record<Kind, KindEngine> {
    const none = () => Promise.reject(new TypeError("Cannot fit one kind of a joint calibration"));
    const engine = (add: (block: RowBlock) => Promise<void>): KindEngine => ({
      add,
      merge: none,
      statistics: none,
      fit: none,
      close: () => {},
    });
    return {
      key: engine((block) => {
        this.#waiting = block;
        return Promise.resolve();
      }),
      value: engine(async (block) => {
        const key = this.#waiting!;
        this.#waiting = null;
        await this.#add({ key, value: block });
      }),
    };
  }

  [Symbol.dispose](): void {
    this.#backend[Symbol.dispose]();
  }

  async #add(blocks: Record<Kind, RowBlock>): Promise<void> {
    const { tokens } = blocks.key;
    const stride = paddedLength(this.#features.key + this.#features.value);
    const rows = new Float32Array(tokens * stride);
    for (const kind of KINDS) {
      this.#requireFinite(blocks[kind], kind);
      const part = await this.#gather(blocks[kind], kind);
      const width = paddedLength(this.#features[kind]);
      const at = kind === "key" ? 0 : this.#features.key;
      for (let t = 0; t < tokens; t++) {
        rows.set(part.subarray(t * width, t * width + this.#features[kind]), t * stride + at);
      }
    }
    this.gram.add(rows, tokens, stride);
    const { dtype, positions } = blocks.key;
    this.#offer({ tokens, dtype, data: { key: blocks.key.bytes, value: blocks.value.bytes }, positions });
  }

  /**
   * Keeps a chunk if it ranks among the lowest. How many there will be is not known, and caches tend to come sorted by
   * what they are of: the first ones would train the coder on one kind of text.
   */
  #offer(chunk: RawChunk): void {
    const rank = (++this.#read * GOLDEN) % 1;
    this.#kept.push({ rank, chunk });
    if (this.#kept.length <= this.#keep) return;
    const highest = this.#kept.reduce((at, { rank }, i) => rank > this.#kept[at].rank ? i : at, 0);
    this.#kept.splice(highest, 1);
  }

  async #gather({ bytes, dtype, tokens, rotation, rotaryDim }: RowBlock, kind: Kind): Promise<Float32Array> {
    const { layers, kvHeads } = this.#model;
    const backend = this.#backend;
    const length = tokens * paddedLength(this.#features[kind]) * 4;
    const source = backend.alloc(bytes.byteLength);
    const rows = backend.alloc(length);
    const turns = rotation === null ? null : backend.alloc(rotation.byteLength);
    try {
      backend.write(source, bytes);
      if (turns !== null) backend.write(turns, rotation!);
      const shape = { dtype, blocks: layers * kvHeads, tokens, dim: kindDim(this.#model, kind), rotaryDim };
      backend.gather(source, shape, turns, null, rows);
      const out = await backend.read(rows, 0, length);
      return new Float32Array(out.buffer, out.byteOffset, length / 4);
    } finally {
      source.free();
      rows.free();
      turns?.free();
    }
  }

  #requireFinite({ bytes, dtype, tokens, name, firstToken }: RowBlock, kind: Kind): void {
    const index = findNonFinite(bytes, dtype);
    if (index < 0) return;
    const row = Math.floor(index / kindDim(this.#model, kind));
    const block = Math.floor(row / tokens);
    const heads = this.#model.kvHeads;
    throw new KvzUnsupportedError(
      `Cannot calibrate on ${name}: ${kind} of layer ${Math.floor(block / heads)}, head ${block % heads}, token ${
        firstToken + row % tokens
      } holds NaN or infinity, expected finite numbers`,
    );
  }
}
