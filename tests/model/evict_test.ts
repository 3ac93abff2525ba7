/**
 * Positive controls of the evicting recipes in what SmolLM2 says: with the question in the cache's last tokens, as in the
 * papers, SnapKV finds answers that StreamingLLM has dropped, at the same budget, and ThinK's λ = 0.4 loses next to nothing.
 * Needs `deno task model`.
 */
import { assert, assertEquals, assertGreater, assertLess } from "deno-std/assert";
import { loadModel } from "../../cli/model_input.ts";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { castCache } from "../../src/cache/cast.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { openCodec } from "../../src/codec/open.ts";
import { captureCache } from "../../src/eval/capture.ts";
import { buildRetrieval, scoreRetrieval } from "../../src/eval/retrieval.ts";

/** 512 tokens of cache; the questions of the middle, which no recent window holds. */
const CONTEXT = 512;
const ASKED = 3;

const SETTINGS: Readonly<Record<string, CompressOptions>> = {
  streamingllm: { recipe: "streamingllm", keep: 0.25 },
  snapkv: { recipe: "snapkv", keep: 0.25, window: 16 },
  pyramidkv: { recipe: "pyramidkv", keep: 0.25, window: 16, budgets: "kvpress", beta: 2 },
  think: { recipe: "think" },
  "think after snapkv": { recipe: "think", after: "snapkv", keep: 0.25, window: 16, recent: 16, queries: 16 },
};

Deno.test("snapkv finds what streamingllm has dropped, think loses next to nothing", async () => {
  const { model } = await loadModel("models/smollm2", { graph: "capture" });
  await using _model = model;
  await using codec = await openCodec(null);
  const sample = await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));
  const text = model.detokenize(sample.inputIds!).repeat(3);
  const { prompt, questions } = buildRetrieval(model, "key-value", { text, context: CONTEXT, seed: 1 });
  const means: Record<string, number> = {};
  const middle = questions.filter(({ depth }) => depth > 0.1 && depth < 0.7).slice(0, ASKED);
  assertEquals(middle.length, ASKED);
  for (const { ask, answer, depth } of middle) {
    // All of the question but its last token belongs to the cache.
    const ids = Int32Array.of(...prompt, ...ask.subarray(0, -1));
    const cache = castCache(await captureCache(model, ids, { queries: 32 }), "f16");
    const question = { ask: ask.subarray(-1), answer, depth };
    const score = async (name: string, restored: typeof cache) => {
      const [{ logProbability }] = await scoreRetrieval(model, await model.load(restored), [question]);
      means[name] = (means[name] ?? 0) + logProbability / ASKED;
    };
    await score("whole", cache);
    for (const [name, options] of Object.entries(SETTINGS)) {
      const { bytes, report } = await codec.compress(cache, options);
      if (name !== "think") assertGreater(report.fileRatio, 3.9);
      await score(name, (await codec.decompress(bytes)).cache);
    }
  }
  // Measured: whole −0.41, streamingllm −3.59, snapkv −1.61, pyramidkv −1.68, think −0.51, think after snapkv −1.75.
  const told = JSON.stringify(means);
  assertGreater(means.snapkv, means.streamingllm + 1, told);
  assertGreater(means.pyramidkv, means.streamingllm + 1, told);
  assertLess(Math.abs(means.think - means.whole), 0.2, told);
  assert(means["think after snapkv"] > means.streamingllm + 1, told);
});
