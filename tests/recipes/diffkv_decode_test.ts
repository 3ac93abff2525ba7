import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { f16ToNumber, fromFloat32, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { diffKv, type DiffKvOptions } from "../../src/recipes/diffkv/diffkv.ts";
import { runDiffKv } from "../../src/recipes/diffkv/running.ts";
import { CLASSES, SCORED_QUERIES, type Thresholds } from "../../src/stages/diffkv/classes.ts";
import { decide } from "../../src/stages/diffkv/decode.ts";
import { type PageShape, pagesLength } from "../../src/stages/diffkv/pages.ts";
import { type Precision, PRECISIONS } from "../../src/stages/diffkv/presets.ts";
import { type PromptHead, RunningHead } from "../../src/stages/diffkv/running_head.ts";
import { queriedCache } from "../evict/helpers.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { BLOCK_MODEL } from "./models.ts";

const refuse = (): never => {
  throw new Error("no scale");
};

Deno.test("diffkv decoding: the four cases by hand", () => {
  const rule: Thresholds = { alphaHigh: 1, alphaLow: 0.1, buffer: 4 };
  // Of a sequence of 100 tokens: low precision below 0.01, pruned below 0.001. All were seen by 10 queries.
  const mean = (...means: number[]) => means.map((m) => ({ score: 10 * m, since: 90 }));
  const none = mean(0.5, 0.4);
  assertEquals(decide(none, mean(0.0001, 0.3), 100, rule), { act: "append" });
  assertEquals(decide(mean(0.5, 0.0005, 0.4), mean(0.3), 100, rule), { act: "prune", victim: 1 });
  assertEquals(decide(mean(0.5, 0.0005), [], 100, rule), { act: "append" }, "so few tokens are all kept");
  assertEquals(decide(mean(0.5, 0.5, 0.5, 0.0005), [], 100, rule), { act: "prune", victim: 3 });
  assertEquals(decide(mean(0.5, 0.005, 0.4), mean(0.3), 100, rule), { act: "demote", victim: 1, replaced: null });
  assertEquals(decide(mean(0.5, 0.4, 0.005), mean(0.3, 0.0005), 100, rule), {
    act: "demote",
    victim: 2,
    replaced: 1,
  });
  // Less attended than the one in high precision: that one is demoted into its place.
  assertEquals(decide(mean(0.5, 0.4, 0.0005), mean(0.0004), 100, rule), { act: "demote", victim: 2, replaced: 0 });
  // Seen by fewer queries than the buffer is long: out of the question.
  const young = [...none, { score: 0, since: 97 }, { score: 0, since: 98 }];
  assertEquals(decide(young, [], 100, rule), { act: "append" });
  assertEquals(decide(young, [], 101, rule), { act: "prune", victim: 2 });
});

/** A token as the twin knows it: all that was ever paid to it, in float64. */
interface Plain {
  readonly position: number;
  key: number[];
  value: number[];
  low: boolean;
  /** Largest attention of the group's heads, of each query that counts. */
  readonly paid: number[];
}

function rounded(x: readonly number[], bits: number, groups: number): number[] {
  const size = x.length / groups;
  const half = (value: number) => f16ToNumber(numberToF16(value));
  return x.map((value, i) => {
    const group = x.slice(Math.floor(i / size) * size, (Math.floor(i / size) + 1) * size);
    const least = Math.min(...group);
    const [scale, offset] = [half((Math.max(...group) - least) / (2 ** bits - 1)), half(least)];
    const steps = (value - offset) / scale;
    const even = Math.abs(steps % 1) === 0.5 ? 2 * Math.round(steps / 2) : Math.round(steps);
    return Math.fround(Math.min(2 ** bits - 1, Math.max(0, even)) * scale + offset);
  });
}

const quantized = (token: Plain, { keyBits, valueBits, keyGroups, valueGroups }: Precision, low: boolean): Plain => ({
  ...token,
  key: rounded(token.key, keyBits, keyGroups),
  value: rounded(token.value, valueBits, valueGroups),
  low,
});

/** One token of the sequence more, straight from the paper's words and the authors' kernel: sorts, sums and copies. */
function step(head: Plain[], next: Plain, tokens: number, rule: Thresholds, precisions: readonly Precision[]): Plain[] {
  const arrived = quantized(next, precisions[0], false);
  if (head.length + 1 <= rule.buffer) return [...head, arrived];
  const mean = ({ paid }: Plain) => paid.reduce((sum, x) => Math.fround(sum + x), 0) / paid.length;
  const ranked = head.filter(({ paid }) => paid.length >= rule.buffer).sort((a, b) => mean(a) - mean(b));
  const victim = ranked.find(({ low }) => !low);
  const weakest = ranked.find(({ low }) => low);
  const [high, low] = [rule.alphaHigh / tokens, rule.alphaLow / tokens];
  if (victim === undefined || mean(victim) >= high) return [...head, arrived];
  const rest = head.filter((token) => token !== victim);
  if (mean(victim) < low && !(weakest !== undefined && mean(weakest) <= mean(victim))) return [...rest, arrived];
  const kept = weakest !== undefined && mean(weakest) < low ? rest.filter((token) => token !== weakest) : rest;
  return [...kept, quantized(victim, precisions[1], true), arrived];
}

function pay(head: readonly Plain[], queries: readonly Float32Array[]): void {
  const shares = queries.map((query) => {
    const logits = head.map(({ key }) => key.reduce((sum, x, i) => sum + x * query[i], 0) / Math.sqrt(query.length));
    const all = logits.reduce((sum, x) => sum + Math.exp(x), 0);
    return logits.map((x) => Math.exp(x) / all);
  });
  head.forEach((token, t) => token.paid.push(Math.max(...shares.map((share) => share[t]))));
}

const [KEY, VALUE] = [8, 4];
const shapes = (["k8v4", "k4v2"] as const).map((name): PageShape => ({
  keyDim: KEY,
  valueDim: VALUE,
  precision: PRECISIONS[name],
})) as [PageShape, PageShape];
const precisions = shapes.map(({ precision }) => precision);

/** A head after a prompt, and what the twin makes of the same prompt. */
function prompted(tokens: number, rule: Thresholds, next: () => number): { head: RunningHead; twin: Plain[] } {
  const vector = (dim: number) => Float32Array.from({ length: dim }, () => 3 * (next() - next()));
  const all = Array.from({ length: tokens }, (_, t) => {
    // The class by any rule: how the head got here does not matter.
    const c = tokens - t <= rule.buffer ? 1 : Math.floor(3 * next());
    return { t, c, key: vector(KEY), value: vector(VALUE), score: Math.fround(next() * 2 / tokens * 64) };
  });
  const kept = all.filter(({ c }) => c !== 0);
  const prompt: PromptHead = {
    tokens,
    classes: Uint8Array.from(all, ({ c }) => c),
    scores: Float32Array.from(all, ({ score }) => score),
    positions: Int32Array.from(kept, ({ t }) => 100 + t),
    keys: Float32Array.from(kept.flatMap(({ key }) => [...key])),
    values: Float32Array.from(kept.flatMap(({ value }) => [...value])),
  };
  const twin = kept.map(({ t, c, key, value, score }): Plain => ({
    position: 100 + t,
    key: [...key],
    value: [...value],
    low: c === CLASSES.low,
    paid: [score, ...Array(Math.min(tokens - t, SCORED_QUERIES) - 1).fill(0)],
  }));
  return { head: new RunningHead(shapes, rule, prompt), twin };
}

Deno.test("diffkv decoding: token by token the same tokens, precisions and elements as a plain twin", () => {
  const cases = fc.record({
    prompt: fc.nat(90),
    tokens: fc.integer({ min: 1, max: 60 }),
    heads: fc.integer({ min: 1, max: 3 }),
    alphaHigh: fc.constantFrom(0, 0.8, 1, 2),
    low: fc.constantFrom(0, 0.3, 0.9, 1),
    buffer: fc.constantFrom(1, 5, 20, 64),
    seed: fc.nat(),
  });
  const seen = { append: 0, prune: 0, demote: 0, replace: 0 };
  fc.assert(
    fc.property(cases, ({ prompt, tokens, heads, alphaHigh, low, buffer, seed }) => {
      const rule: Thresholds = { alphaHigh, alphaLow: low * alphaHigh, buffer };
      const next = random(seed);
      const made = prompted(prompt, rule, next);
      const { head } = made;
      let { twin } = made;
      const vector = (dim: number, spread: number) =>
        Float32Array.from({ length: dim }, () => spread * (next() - next()));
      for (let i = 0; i < tokens; i++) {
        const [key, value] = [vector(KEY, 3), vector(VALUE, 3)];
        const position = 100 + prompt + i;
        const before = [head.high.length, head.low.length];
        const lowBefore = head.low.map(({ position: p }) => p).join();
        head.append(key, value, position, refuse);
        twin = step(
          twin,
          { position, key: [...key], value: [...value], low: false, paid: [] },
          prompt + i,
          rule,
          precisions,
        );
        const [high, lows] = [head.high.length - before[0], head.low.length - before[1]];
        // One token more, at most one token less, none comes to low precision but from high.
        assert([[1, 0], [0, 0], [0, 1]].some(([a, b]) => a === high && b === lows), `${high} ${lows}`);
        if (high === 1) seen.append++;
        else if (lows === 1) seen.demote++;
        else seen[head.low.map(({ position: p }) => p).join() === lowBefore ? "prune" : "replace"]++;
        const mine = [
          ...head.high.map((token) => ({ ...token, low: false })),
          ...head.low.map((token) => ({
            ...token,
            low: true,
          })),
        ].sort((a, b) => a.position - b.position);
        const theirs = [...twin].sort((a, b) => a.position - b.position);
        assertEquals(
          mine.map((token) => [token.position, token.low]),
          theirs.map((token) => [token.position, token.low]),
        );
        for (const kind of ["key", "value"] as const) {
          assert(mine.every((token, t) => token[kind].every((x, d) => x === theirs[t][kind][d])), `${kind}, step ${i}`);
        }
        // The newest tokens of the sequence are in high precision, whatever attention they get.
        for (const token of mine) if (position - token.position < buffer - 1) assert(!token.low);
        const queries = Array.from({ length: heads }, () => vector(KEY, 4));
        head.attend(queries);
        pay(twin, queries);
        const [first] = theirs;
        const sum = first.paid.reduce((a, b) => a + b, 0);
        const held = [...head.high, ...head.low].find((token) => token.position === first.position)!;
        assertAlmostEquals(held.score, sum, 1e-5 * (1 + sum));
      }
      assertEquals(head.bytes, pagesLength(shapes[0], head.high.length) + pagesLength(shapes[1], head.low.length));
    }),
    // Enough that every one of them is seen in any draw: in 40 runs the rarest was, once, seen 19 times.
    { numRuns: 120 },
  );
  assert(Object.values(seen).every((count) => count > 20), JSON.stringify(seen));
});

Deno.test("diffkv decoding: without thresholds, or within the buffer, everything stays in high precision", () => {
  for (
    const rule of [{ alphaHigh: 0, alphaLow: 0, buffer: 4 }, { alphaHigh: 1e6, alphaLow: 1e6, buffer: 4096 }]
  ) {
    const next = random(9);
    const vector = () => Float32Array.from({ length: KEY }, () => 3 * (next() - next()));
    const head = prompted(0, rule, next).head;
    for (let i = 0; i < 150; i++) {
      head.append(vector(), vector().slice(0, VALUE), 100 + i, refuse);
      head.attend([vector()]);
      assertEquals([head.high.length, head.low.length], [i + 1, 0]);
    }
    // Attention is shared out: each query pays 1 in all.
    const paid = head.high.reduce((sum, { score }) => sum + score, 0);
    assertAlmostEquals(paid, 150, 1e-3);
  }
});

const OPTIONS = diffKv.parseOptions({ alphaHigh: 1.05, alphaLow: 0.95 });

async function restoredOf(cache: KvCache, { alphaHigh, alphaLow, buffer, high, low }: DiffKvOptions): Promise<KvCache> {
  await using codec = await openCodec(null, { threads: 1 });
  const options = { alphaHigh, alphaLow, buffer, high, low };
  return (await codec.decompress((await codec.compress(cache, { recipe: "diffkv", ...options })).bytes)).cache;
}

Deno.test("diffkv decoding: goes on from a file with the prompt's classes and scores, each group's largest head counts", async () => {
  const [tokens, more] = [200, 40];
  const cache = queriedCache(tokens, 64, { model: BLOCK_MODEL, dtype: "f32", firstPosition: 7 });
  const restored = await restoredOf(cache, OPTIONS);
  const running = await runDiffKv(cache, restored, OPTIONS);
  const same = running.cache();
  for (let layer = 0; layer < 2; layer++) {
    for (let head = 0; head < 2; head++) {
      assertEquals(same.positionsOf(layer, head), restored.positionsOf(layer, head));
      assertEquals(same.key(layer, head), restored.key(layer, head));
      assertEquals(same.value(layer, head), restored.value(layer, head));
    }
  }
  const read = queriedCache(more, more, { model: BLOCK_MODEL, dtype: "f32", firstPosition: 207, seed: 5 });
  // In two parts: where they are cut does not matter.
  running.append(read.slice(0, 13));
  running.append(read.slice(13, more));
  const back = running.cache();
  const { marks, plan } = await diffKv.select!(cache, OPTIONS);
  const scores = new Float32Array(plan!.slice().buffer);
  let bytes = 0;
  for (let layer = 0; layer < 2; layer++) {
    for (let head = 0; head < 2; head++) {
      const at = (layer * 2 + head) * tokens;
      const [k, v] = [toFloat32(restored.key(layer, head), "f32"), toFloat32(restored.value(layer, head), "f32")];
      let twin = Array.from(restored.positionsOf(layer, head), (position, row): Plain => ({
        position,
        key: [...k.subarray(row * 64, (row + 1) * 64)],
        value: [...v.subarray(row * 32, (row + 1) * 32)],
        low: marks![at + position - 7] === CLASSES.low,
        paid: [scores[at + position - 7], ...Array(Math.min(tokens - position + 7, 64) - 1).fill(0)],
      }));
      const two = [PRECISIONS.k8v4, PRECISIONS.k4v2];
      const rows = (of: Uint8Array, dim: number, t: number) => toFloat32(of, "f32").subarray(t * dim, (t + 1) * dim);
      for (let t = 0; t < more; t++) {
        const arrived = {
          position: 207 + t,
          key: [...rows(read.key(layer, head), 64, t)],
          value: [...rows(read.value(layer, head), 32, t)],
        };
        twin = step(twin, { ...arrived, low: false, paid: [] }, tokens + t, OPTIONS, two);
        const queries = read.queries!.layers[layer];
        pay(twin, [2 * head, 2 * head + 1].map((h) => rows(queries, 64, h * more + t)));
      }
      twin.sort((a, b) => a.position - b.position);
      assertEquals([...back.positionsOf(layer, head)], twin.map(({ position }) => position));
      assertEquals([...toFloat32(back.key(layer, head), "f32")], twin.flatMap(({ key }) => key));
      assertEquals([...toFloat32(back.value(layer, head), "f32")], twin.flatMap(({ value }) => value));
      const lows = twin.filter(({ low }) => low).length;
      const shape = { keyDim: 64, valueDim: 32 };
      bytes += pagesLength({ ...shape, precision: two[0] }, twin.length - lows) +
        pagesLength({ ...shape, precision: two[1] }, lows);
    }
  }
  assertEquals(running.bytes, bytes);
  assert(back.ragged && back.tokens > 100);
});

Deno.test("diffkv decoding: what it needs and what does not fit is refused by name", async () => {
  const cache = queriedCache(100, 64, { model: BLOCK_MODEL, dtype: "f32" });
  const restored = await restoredOf(cache, OPTIONS);
  const running = await runDiffKv(cache, restored, OPTIONS);
  const facts = { model: BLOCK_MODEL, dtype: "f32" } as const;
  const bare = syntheticCache(4, { ...facts, firstPosition: 100 });
  assertThrows(() => running.append(bare), KvzUnsupportedError, "needs the queries of 4 new tokens, found those of 0");
  const few = queriedCache(4, 3, { ...facts, firstPosition: 100 });
  assertThrows(() => running.append(few), KvzUnsupportedError, "found those of 3");
  const later = queriedCache(4, 4, { ...facts, firstPosition: 101 });
  assertThrows(() => running.append(later), KvzMismatchError, "begin at position 101, expected all from 100 on");
  const other = queriedCache(4, 4, { model: SMALL_MODEL, dtype: "f32", firstPosition: 100 });
  assertThrows(() => running.append(other), KvzMismatchError);
  const huge = queriedCache(4, 4, { ...facts, firstPosition: 100 });
  huge.key(1, 0).set(fromFloat32(Float32Array.of(1e9), "f32"));
  assertThrows(() => running.append(huge), KvzUnsupportedError, "layer 1, head 0 needs a scale or offset of");
  huge.key(1, 0).set(fromFloat32(Float32Array.of(NaN), "f32"));
  assertThrows(() => running.append(huge), KvzUnsupportedError, "is NaN");
  await assertRejects(
    () => runDiffKv(cache, restored, { ...OPTIONS, alphaLow: 1.05 }),
    KvzMismatchError,
    "holds other tokens than these options keep",
  );
  // A short prompt is compressed without queries; the rule for decoding needs them.
  const short = syntheticCache(40, { model: BLOCK_MODEL, dtype: "f32" });
  await assertRejects(
    async () => runDiffKv(short, await restoredOf(short, OPTIONS), OPTIONS),
    KvzUnsupportedError,
    "queries of at least 40",
  );
});
