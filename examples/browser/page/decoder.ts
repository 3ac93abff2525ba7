/**
 * Greedy decoding over a graph with past: the tensors that come out as `present.N` go in again as `past_key_values.N`.
 *
 * @module
 */
import type { ModelSpec } from "@kvz/kvz";
import type { Ort, OrtSession, OrtTensor } from "./onnxruntime.ts";

/** The cache as the graph takes it: `past_key_values.N.key|value`, [1, KV heads, tokens, dim]. */
export interface Past {
  readonly tensors: Readonly<Record<string, OrtTensor>>;
  readonly tokens: number;
}

/** One model, ready to run. */
export class Decoder {
  readonly #ort: Ort;
  readonly #session: OrtSession;
  readonly #names: readonly string[];

  constructor(ort: Ort, session: OrtSession, private readonly spec: ModelSpec) {
    this.#ort = ort;
    this.#session = session;
    this.#names = session.inputNames.filter((name) => name.startsWith("past_key_values."));
  }

  /** A past without tokens. */
  emptyPast(): Past {
    const { kvHeads, keyDim, valueDim } = this.spec;
    const make = (name: string) =>
      new this.#ort.Tensor("float32", new Float32Array(0), [1, kvHeads, 0, name.endsWith("key") ? keyDim : valueDim]);
    return { tensors: Object.fromEntries(this.#names.map((name) => [name, make(name)])), tokens: 0 };
  }

  /**
   * Runs tokens after a past, which stays as it is.
   *
   * @returns the most likely next token, and the past with the tokens added
   */
  async run(ids: readonly number[], past: Past): Promise<{ readonly next: number; readonly past: Past }> {
    const { Tensor } = this.#ort;
    const int64 = (values: readonly number[], dims: readonly number[]) =>
      new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
    const tokens = past.tokens + ids.length;
    const inputs: Record<string, OrtTensor> = {
      input_ids: int64(ids, [1, ids.length]),
      attention_mask: int64(Array(tokens).fill(1), [1, tokens]),
      position_ids: int64(ids.map((_, i) => past.tokens + i), [1, ids.length]),
      // Logits of one token instead of all: 0.2 MB instead of 50 MB at 256 tokens.
      num_logits_to_keep: int64([1], []),
    };
    const feeds = { ...past.tensors };
    for (const [name, tensor] of Object.entries(inputs)) {
      if (this.#session.inputNames.includes(name)) feeds[name] = tensor;
    }
    const outputs = await this.#session.run(feeds);
    const tensors = Object.fromEntries(
      this.#names.map((name) => [name, outputs[name.replace("past_key_values", "present")]]),
    );
    return { next: await lastArgmax(outputs.logits), past: { tensors, tokens } };
  }
}

/** Frees what the runtime holds of a past. */
export function dispose(past: Past): void {
  for (const tensor of Object.values(past.tensors)) tensor.dispose();
}

/** The most likely token after the last of [1, rows, vocabulary]. */
async function lastArgmax(logits: OrtTensor): Promise<number> {
  const data = await logits.getData() as Float32Array;
  const row = data.subarray(data.length - logits.dims[2]);
  let best = 0;
  for (let id = 1; id < row.length; id++) if (row[id] > row[best]) best = id;
  return best;
}
