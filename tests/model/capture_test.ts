/** Evicted tokens and shared layers on the real model: the capture graph against the ordinary one. */
import { assert, assertEquals, assertLess } from "deno-std/assert";
import { loadModel } from "../../cli/model_input.ts";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { castCache } from "../../src/cache/cast.ts";
import { densify } from "../../src/cache/densify.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { AgreementMeter } from "../../src/eval/agreement.ts";

const CONTEXT = 200;
/** Tokens 50 to 119 are evicted. */
const KEPT = Array.from({ length: CONTEXT }, (_, t) => t).filter((t) => t < 50 || t >= 120);

/** The cache with `choose`n tokens in each head. */
function evict(cache: KvCache, choose: (layer: number, head: number) => readonly number[]): KvCache {
  const { model, dtype } = cache;
  return KvCache.ragged({
    model,
    dtype,
    blocks: Array.from({ length: model.layers }, (_, layer) =>
      Array.from({ length: model.kvHeads }, (_, head) => {
        const kept = choose(layer, head);
        const rows = (bytes: Uint8Array) => {
          const row = bytes.length / cache.tokens;
          const out = new Uint8Array(kept.length * row);
          kept.forEach((t, i) => out.set(bytes.subarray(t * row, (t + 1) * row), i * row));
          return out;
        };
        return {
          key: rows(cache.key(layer, head)),
          value: rows(cache.value(layer, head)),
          positions: Int32Array.from(kept, (t) => cache.positions[t]),
        };
      })),
  });
}

Deno.test("evicted tokens and shared layers in the capture graph", async () => {
  const sample = castCache(await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors")), "f32");
  const cache = sample.slice(0, CONTEXT);
  const ids = sample.inputIds!.slice(CONTEXT, CONTEXT + 33);
  const tail = ids.subarray(0, 32);
  const gap = evict(cache, () => KEPT);
  // One head of the last layer keeps one of the tokens, so that the others need the bias.
  const ragged = evict(cache, (layer, head) => layer === 29 && head === 2 ? [...KEPT, 60].sort((a, b) => a - b) : KEPT);
  assertEquals([gap.ragged, ragged.ragged], [false, true]);

  const ordinary = await loadModel("models/smollm2");
  const whole = (await ordinary.model.forward(tail, { past: await ordinary.model.load(cache) })).logits;
  const removed = (await ordinary.model.forward(tail, { past: await ordinary.model.load(gap) })).logits;
  const zeros = densify(gap, cache.positions).cache;
  const attended = (await ordinary.model.forward(tail, { past: await ordinary.model.load(zeros) })).logits;
  await ordinary.model[Symbol.asyncDispose]();

  const { model } = await loadModel("models/smollm2", { graph: "capture" });
  await using _model = model;
  const kl = (a: Float32Array, b: Float32Array) => {
    const meter = new AgreementMeter(model.vocabulary);
    meter.add(a, b, ids.subarray(1));
    return meter.result().kl;
  };
  const plain = (await model.forward(tail, { past: await model.load(cache) })).logits;
  assertLess(kl(whole, plain), 1e-5);
  const hidden = (await model.forward(tail, { past: await model.load(ragged) })).logits;
  // One token in one of 90 heads is all that differs.
  assertLess(kl(removed, hidden), 1e-3);
  assert(kl(whole, removed) > 100 * kl(removed, hidden), "evicting 70 of 200 tokens shows");
  assert(kl(removed, attended) > 10 * kl(removed, hidden), "zeros that are attended to are no evicted tokens");

  const identity = Array.from({ length: 30 }, (_, layer) => layer);
  const own = (await model.forward(tail, { past: await model.load(cache, { layerSource: identity }) })).logits;
  assertEquals(kl(plain, own), 0);
  const shared = identity.with(20, 19);
  const after = (await model.forward(tail, { past: await model.load(cache, { layerSource: shared }) })).logits;
  assert(kl(plain, after) > 1e-3, "a shared layer shows");
});
