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

/** Tokens of a chunk that is kept. */
const CHUNK_TOKENS = 512;
/** Chunks of one sequence that are kept at most, those that begin at multiples of this many chunks. */
const EVERY = 2;

/** Takes the rows of a gatherer. */
export class JointReader implements Disposable {
  readonly gram: GramAccumulator;
  readonly #model: ModelSpec;
  readonly #backend: Backend;
  readonly #features: Record<Kind, number>;
  readonly #keep: number;
  readonly #chunks: RawChunk[] = [];
  /** A chunk that was not wanted, for where none is. */
  #spare: RawChunk | null = null;
  #waiting: RowBlock | null = null;
  #inSequence = 0;
  #sequence = 0;

  /** @param keep chunks to keep for training at most */
  constructor(model: ModelSpec, backend: Backend, kernels: CalibrateKernels, keep: number) {
    this.#model = model;
    this.#backend = backend;
    this.#features = featuresOf(model);
    this.#keep = keep;
    this.gram = new GramAccumulator(kernels, this.#features.key + this.#features.value);
  }

  /** Chunks to train on; at least one as soon as there were rows. */
  get chunks(): readonly RawChunk[] {
    return this.#chunks.length > 0 || this.#spare === null ? this.#chunks : [this.#spare];
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
    const { tokens, firstToken } = blocks.key;
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
    // A sequence begins where the token count starts anew; every sequence gives other parts of itself.
    if (firstToken < CHUNK_TOKENS) {
      this.#inSequence = 0;
      this.#sequence++;
    }
    const wanted = (this.#inSequence + this.#sequence) % EVERY === 0;
    this.#inSequence++;
    if (wanted ? this.#chunks.length >= this.#keep : this.#spare !== null) return;
    const { dtype, positions } = blocks.key;
    const chunk = { tokens, dtype, data: { key: blocks.key.bytes, value: blocks.value.bytes }, positions };
    if (wanted) this.#chunks.push(chunk);
    else this.#spare = chunk;
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
