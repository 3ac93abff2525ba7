/**
 * Methods that need no profile on stored caches, without running a model: ratios, errors and what the errors cost the
 * model by its Fisher blocks (tools/sensitivity.py), ½ Σ eᵀ F e over layers and heads, the mean of every fourth token behind
 * the sinks. That is the KL to second order, where errors are small and independent; it ranks methods in seconds where
 * bench/profile_free.ts takes minutes.
 *
 *     deno run -A bench/profile_free_fisher.ts CACHE.safetensors --fisher F.safetensors [--sinks 4]
 *         [--steps 0.1,0.15,0.22,0.32,0.43] [--only kvz-free,q4_0]
 *
 * @module
 */
import { readSafetensors } from "../src/adapters/safetensors.ts";
import { toFloat32 } from "../src/cache/elements.ts";
import type { KvCache } from "../src/cache/kv_cache.ts";
import { rotationTable } from "../src/cache/rope.ts";
import { type Kind, KINDS } from "../src/cache/types.ts";
import { openCodec } from "../src/codec/open.ts";
import { memorySource } from "../src/container/bytes.ts";
import { readSensitivity } from "../src/profile/kvz/sensitivity.ts";
import { digits, markdown } from "./controls/tables.ts";
import { option } from "./inputs.ts";
import { profileFreeMethods } from "./profile_free_methods.ts";

const EVERY = 4;
const [path] = Deno.args;
const sinks = Number(option("sinks", "4"));
const steps = option("steps", "0.1,0.15,0.22,0.32,0.43").split(",").map(Number);
const only = option("only", "").split(",").filter((name) => name !== "");

/** Elements of a head's tokens, keys before RoPE. */
function rows(cache: KvCache, kind: Kind, layer: number, head: number): Float64Array {
  const { rope, keyDim: dim } = cache.model;
  const x = Float64Array.from(
    toFloat32(kind === "key" ? cache.key(layer, head) : cache.value(layer, head), cache.dtype),
  );
  if (kind === "value" || rope === null) return x;
  const turns = rotationTable(rope, cache.positions, "undo");
  const half = rope.dim / 2;
  for (let t = 0; t < cache.tokens; t++) {
    for (let i = 0; i < half; i++) {
      const [a, b] = [x[t * dim + i], x[t * dim + half + i]];
      const [cos, sin] = [turns[t * rope.dim + i], turns[t * rope.dim + half + i]];
      x[t * dim + i] = a * cos - b * sin;
      x[t * dim + half + i] = b * cos + a * sin;
    }
  }
  return x;
}

await using codec = await openCodec(null, { threads: 1 });
const cache = await readSafetensors(await Deno.readFile(path));
const fisher = await readSensitivity(
  memorySource(await Deno.readFile(option("fisher", "fisher.safetensors"))),
  cache.model,
);
const table: string[][] = [];
for (const method of profileFreeMethods(codec, steps, sinks)) {
  if (only.length > 0 && !only.includes(method.name)) continue;
  const { cache: restored, ratios } = await method.run(cache);
  const cost = { key: 0, value: 0 };
  const errors = { key: 0, value: 0 };
  for (const kind of KINDS) {
    const dim = kind === "key" ? cache.model.keyDim : cache.model.valueDim;
    let [squares, energy, sum, count] = [0, 0, 0, 0];
    for (let layer = 0; layer < cache.model.layers; layer++) {
      for (let head = 0; head < cache.model.kvHeads; head++) {
        const [x, y] = [rows(cache, kind, layer, head), rows(restored, kind, layer, head)];
        const block = layer * cache.model.kvHeads + head;
        const F = fisher[kind].subarray(block * dim * dim, (block + 1) * dim * dim);
        const e = x.map((value, i) => value - y[i]);
        for (let t = sinks; t < cache.tokens; t++) {
          for (let i = t * dim; i < (t + 1) * dim; i++) {
            squares += e[i] * e[i];
            energy += x[i] * x[i];
          }
          if (t % EVERY > 0) continue;
          count++;
          for (let i = 0; i < dim; i++) {
            let product = 0;
            for (let j = 0; j < dim; j++) product += F[i * dim + j] * e[t * dim + j];
            sum += product * e[t * dim + i];
          }
        }
      }
    }
    cost[kind] = sum / 2 / (count / (cache.model.layers * cache.model.kvHeads));
    errors[kind] = Math.sqrt(squares / energy);
  }
  table.push([
    method.name,
    method.setting,
    ratios.file!.toFixed(2),
    `${digits(errors.key)} / ${digits(errors.value)}`,
    `${digits(cost.key)} + ${digits(cost.value)}`,
    digits(cost.key + cost.value),
  ]);
}
console.log(markdown(["method", "setting", "ratio", "K / V error", "cost of K + V", "cost, nats a token"], table));
