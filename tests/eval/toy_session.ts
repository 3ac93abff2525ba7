/**
 * A toy decoder behind the interface of an onnxruntime session, in float64: one attention over the past in every layer,
 * with RoPE, grouped heads, causal mask and bias, whose outputs are mixed into logits. It is no good language model, but
 * what it says depends on every key and value of its past, as with a real one.
 */
import { type OnnxModel, type OnnxSession, type OnnxTensor, openOnnxModel } from "../../src/adapters/onnx_model.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { random, SMALL_MODEL } from "../synthetic.ts";

export const TOY_VOCABULARY = 40;
export const TOY_POSITIONS = 640;

/** Options of {@linkcode toyModel}. */
export interface ToyOptions {
  readonly spec?: ModelSpec;
  /** Whether the graph has the inputs and outputs of the capture graph. */
  readonly bias?: boolean;
  /** Whether it can leave out logits. */
  readonly keepLogits?: boolean;
}

export function makeTensor(type: string, data: ArrayBufferView, dims: readonly number[]): OnnxTensor {
  return { type, data, dims, location: "cpu" };
}

/** The session alone. */
export function toySession({ spec = SMALL_MODEL, bias = false, keepLogits = true }: ToyOptions = {}): OnnxSession {
  const { layers, kvHeads, keyDim, valueDim } = spec;
  const next = random(7);
  const table = (n: number, scale = 1) => Float64Array.from({ length: n }, () => (next() - 0.5) * 2 * scale);
  const heads = layers * kvHeads;
  const queries = table(TOY_VOCABULARY * heads * keyDim, 2);
  const keys = table(TOY_VOCABULARY * heads * keyDim, 2);
  const values = table(TOY_VOCABULARY * heads * valueDim);
  const output = table(heads * valueDim * TOY_VOCABULARY, 2);
  const pasts = Array.from({ length: layers }, (_, n) => [`past_key_values.${n}.key`, `past_key_values.${n}.value`]);

  function rotated(row: Float64Array, position: number): Float64Array {
    const out = row.slice();
    if (spec.rope === null) return out;
    const half = spec.rope.dim / 2;
    for (let i = 0; i < half; i++) {
      const angle = position * spec.rope.theta ** (-i / half);
      out[i] = row[i] * Math.cos(angle) - row[i + half] * Math.sin(angle);
      out[i + half] = row[i + half] * Math.cos(angle) + row[i] * Math.sin(angle);
    }
    return out;
  }

  return {
    inputNames: [
      "input_ids",
      "attention_mask",
      "position_ids",
      ...(keepLogits ? ["num_logits_to_keep"] : []),
      ...(bias ? ["attention_bias", "layer_source"] : []),
      ...pasts.flat(),
    ],
    outputNames: [
      ...(bias ? ["final_hidden"] : []),
      "logits",
      ...pasts.flat().map((name) => name.replace("past_key_values", "present")),
      ...(bias ? Array.from({ length: layers }, (_, n) => `rotated_query.${n}`) : []),
    ],
    run(feeds) {
      const ids = Array.from(feeds.input_ids.data as BigInt64Array, Number);
      const positions = Array.from(feeds.position_ids.data as BigInt64Array, Number);
      const past = feeds["past_key_values.0.key"].dims[2];
      const tokens = past + ids.length;
      const hidden = feeds.attention_bias?.data as Float32Array | undefined;
      const logits = new Float32Array(ids.length * TOY_VOCABULARY);
      const width = heads * valueDim;
      const final = new Float32Array(ids.length * width);
      const sources = Array.from((feeds.layer_source?.data as BigInt64Array | undefined) ?? [], Number);
      const held: { keys: Float32Array; values: Float32Array }[] = [];
      const outputs: Record<string, OnnxTensor> = {};
      for (let layer = 0; layer < layers; layer++) {
        const allKeys = new Float32Array(kvHeads * tokens * keyDim);
        const allValues = new Float32Array(kvHeads * tokens * valueDim);
        const allQueries = new Float32Array(kvHeads * ids.length * keyDim);
        const oldKeys = feeds[`past_key_values.${layer}.key`].data as Float32Array;
        const oldValues = feeds[`past_key_values.${layer}.value`].data as Float32Array;
        held.push({ keys: allKeys, values: allValues });
        const shared = held[sources[layer] ?? layer];
        for (let head = 0; head < kvHeads; head++) {
          const h = layer * kvHeads + head;
          allKeys.set(oldKeys.subarray(head * past * keyDim, (head + 1) * past * keyDim), head * tokens * keyDim);
          allValues.set(
            oldValues.subarray(head * past * valueDim, (head + 1) * past * valueDim),
            head * tokens * valueDim,
          );
          ids.forEach((id, i) => {
            const at = (id * heads + h) * keyDim;
            allKeys.set(rotated(keys.subarray(at, at + keyDim), positions[i]), (head * tokens + past + i) * keyDim);
            const from = (id * heads + h) * valueDim;
            allValues.set(values.subarray(from, from + valueDim), (head * tokens + past + i) * valueDim);
          });
          ids.forEach((id, i) => {
            const at = (id * heads + h) * keyDim;
            const query = rotated(queries.subarray(at, at + keyDim), positions[i]);
            // Scaled so that q · k ÷ √dim is the score below.
            allQueries.set(query.map((x) => x * Math.sqrt(keyDim) / 3), (head * ids.length + i) * keyDim);
            let sum = 0;
            const mixed = new Float64Array(valueDim);
            for (let t = 0; t <= past + i; t++) {
              let score = t < past && hidden ? hidden[h * past + t] : 0;
              for (let d = 0; d < keyDim; d++) score += query[d] * shared.keys[(head * tokens + t) * keyDim + d] / 3;
              const weight = Math.exp(score);
              sum += weight;
              for (let d = 0; d < valueDim; d++) mixed[d] += weight * shared.values[(head * tokens + t) * valueDim + d];
            }
            for (let d = 0; d < valueDim; d++) {
              final[i * width + h * valueDim + d] = mixed[d] / sum;
              for (let v = 0; v < TOY_VOCABULARY; v++) {
                logits[i * TOY_VOCABULARY + v] += mixed[d] / sum * output[(h * valueDim + d) * TOY_VOCABULARY + v];
              }
            }
          });
        }
        outputs[`rotated_query.${layer}`] = makeTensor("float32", allQueries, [1, kvHeads, ids.length, keyDim]);
        outputs[`present.${layer}.key`] = makeTensor("float32", allKeys, [1, kvHeads, tokens, keyDim]);
        outputs[`present.${layer}.value`] = makeTensor("float32", allValues, [1, kvHeads, tokens, valueDim]);
      }
      const kept = keepLogits ? Number((feeds.num_logits_to_keep.data as BigInt64Array)[0]) || ids.length : ids.length;
      outputs.final_hidden = makeTensor("float32", final.slice((ids.length - kept) * width), [1, kept, width]);
      outputs.logits = makeTensor("float32", logits.slice((ids.length - kept) * TOY_VOCABULARY), [
        1,
        kept,
        TOY_VOCABULARY,
      ]);
      return Promise.resolve(outputs);
    },
  };
}

/** The model; its tokenizer takes one character from "a" on for each id. */
export function toyModel(options: ToyOptions = {}): OnnxModel {
  return openOnnxModel({
    session: toySession(options),
    makeTensor,
    tokenizer: {
      encode: (text) => Array.from(text, (c) => c.charCodeAt(0) - 97),
      decode: (ids) => String.fromCharCode(...ids.map((id) => id + 97)),
    },
    spec: options.spec ?? SMALL_MODEL,
    vocabulary: TOY_VOCABULARY,
    maxPositions: TOY_POSITIONS,
  });
}

/** Token ids with some structure. */
export function toyIds(length: number, seed = 1): Int32Array {
  const next = random(seed);
  return Int32Array.from({ length }, (_, i) => Math.floor(next() * TOY_VOCABULARY / (1 + i % 3)));
}
