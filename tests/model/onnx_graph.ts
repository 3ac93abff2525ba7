/**
 * A graph of models/smollm2 in onnxruntime, with nothing of kvz between.
 *
 * @module
 */
import { createRequire } from "node:module";

export const MODEL = "models/smollm2";
export const LAYERS = 30;
export const KV_HEADS = 3;
export const DIM = 64;
export const VOCABULARY = 49152;

/** What `deno task model` has installed. */
export const runtime = createRequire(`${Deno.cwd()}/.cache/eval/package.json`);

/** An onnxruntime tensor, as far as tests need it. */
export interface OrtTensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/** Logits [tokens][vocabulary] of new tokens, and the cache with them. */
export interface Step {
  readonly logits: Float32Array;
  readonly cache: Readonly<Record<string, OrtTensor>>;
}

/** A session of one of the two graphs. */
export class Graph {
  // deno-lint-ignore no-explicit-any
  private constructor(readonly name: "model" | "capture", private readonly session: any) {}

  static async open(name: "model" | "capture"): Promise<Graph> {
    const { InferenceSession } = runtime("onnxruntime-node");
    return new Graph(name, await InferenceSession.create(`${MODEL}/onnx/${name}.onnx`));
  }

  /** Runs `ids` after `past`, at the positions that follow it. */
  async run(ids: readonly number[], past: Step["cache"] = {}): Promise<Step> {
    const { Tensor } = runtime("onnxruntime-node");
    const before = past["key.0"]?.dims[2] ?? 0;
    const int64 = (values: readonly number[], dims: number[]) =>
      new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
    const feeds: Record<string, unknown> = {
      input_ids: int64(ids, [1, ids.length]),
      attention_mask: int64(Array(before + ids.length).fill(1), [1, before + ids.length]),
      position_ids: int64(ids.map((_, i) => before + i), [1, ids.length]),
      num_logits_to_keep: int64([0], []),
    };
    const empty = new Tensor("float32", new Float32Array(0), [1, KV_HEADS, 0, DIM]);
    for (const [layer, kind] of entries()) {
      feeds[`past_key_values.${layer}.${kind}`] = past[`${kind}.${layer}`] ?? empty;
    }
    if (this.name === "capture") {
      feeds.attention_bias = new Tensor("float32", new Float32Array(LAYERS * KV_HEADS * before), [
        LAYERS,
        KV_HEADS,
        before,
      ]);
      feeds.layer_source = int64(Array.from({ length: LAYERS }, (_, i) => i), [LAYERS]);
    }
    const out = await this.session.run(feeds, ["logits", ...entries().map(([n, kind]) => `present.${n}.${kind}`)]);
    const cache = Object.fromEntries(entries().map(([n, kind]) => [`${kind}.${n}`, out[`present.${n}.${kind}`]]));
    return { logits: out.logits.data, cache };
  }

  async close(): Promise<void> {
    await this.session.release();
  }
}

/** Every layer's keys and values. */
export function entries(): [layer: number, kind: "key" | "value"][] {
  return Array.from({ length: 2 * LAYERS }, (_, i) => [i >> 1, i % 2 === 0 ? "key" : "value"]);
}

/** −log of the probability that each row of logits gives to its next token; one fewer than `ids`. */
export function surprisals(logits: Float32Array, ids: readonly number[]): number[] {
  return ids.slice(1).map((next, row) => {
    const scores = logits.subarray(row * VOCABULARY, (row + 1) * VOCABULARY);
    let top = -Infinity;
    for (const score of scores) top = Math.max(top, score);
    let sum = 0;
    for (const score of scores) sum += Math.exp(score - top);
    return Math.log(sum) + top - scores[next];
  });
}

/** Perplexity of `ids`, in chunks of 512 tokens: all logits of 2048 tokens would take 400 MB. */
export async function perplexity(graph: Graph, ids: readonly number[]): Promise<number> {
  let past: Step["cache"] = {};
  let sum = 0;
  for (let begin = 0; begin < ids.length; begin += 512) {
    const step = await graph.run(ids.slice(begin, begin + 512), past);
    past = step.cache;
    for (const surprisal of surprisals(step.logits, ids.slice(begin, begin + 513))) sum += surprisal;
  }
  return Math.exp(sum / (ids.length - 1));
}
