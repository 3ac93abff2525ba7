import { assert, assertEquals, assertFalse, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { KvCacheBuilder } from "../../src/cache/builder.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type Kind, type ModelSpec } from "../../src/cache/types.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { denseCaches, noise, raggedCaches } from "./arbitrary.ts";

const KINDS: readonly Kind[] = ["key", "value"];
const MODEL: ModelSpec = { layers: 2, kvHeads: 3, keyDim: 5, valueDim: 4, rope: null };

function small(tokens = 2): KvCache {
  return new KvCache({
    model: MODEL,
    dtype: "f16",
    positions: Int32Array.from({ length: tokens }, (_, t) => t),
    layers: [0, 1].map((n) => ({ key: noise(3 * tokens * 10, n), value: noise(3 * tokens * 8, n + 7) })),
  });
}

function dimOf(cache: KvCache, kind: Kind): number {
  return kind === "key" ? cache.model.keyDim : cache.model.valueDim;
}

Deno.test("KvCache gives views of the caller's bytes, head by head", () => {
  const key = noise(2 * 3 * 2, 1);
  const value = noise(2 * 3 * 4, 2);
  const cache = new KvCache({
    model: { layers: 1, kvHeads: 2, keyDim: 1, valueDim: 2, rope: null },
    dtype: "bf16",
    positions: Int32Array.of(3, 4, 9),
    layers: [{ key, value }],
  });
  assertEquals(cache.key(0, 1), key.subarray(6, 12));
  assertEquals(cache.value(0, 1), value.subarray(12, 24));
  assert(cache.key(0, 0).buffer === key.buffer);
  assertEquals(cache.tokens, 3);
  assertEquals(cache.keptTokens(0, 0), 3);
  assertEquals(cache.positionsOf(0, 1), Int32Array.of(3, 4, 9));
  assertFalse(cache.ragged);
});

Deno.test("KvCache.read() returns [layers][heads][tokens][dim] of any range, views() the same in place", () => {
  fc.assert(fc.property(denseCaches, fc.nat(), fc.nat(), (cache, a, b) => {
    const begin = a % (cache.tokens + 1);
    const end = begin + b % (cache.tokens - begin + 1);
    for (const kind of KINDS) {
      const row = dimOf(cache, kind) * BYTES_PER_ELEMENT[cache.dtype];
      const wanted: number[] = [];
      for (let layer = 0; layer < cache.model.layers; layer++) {
        for (let head = 0; head < cache.model.kvHeads; head++) {
          wanted.push(...cache[kind](layer, head).subarray(begin * row, end * row));
        }
      }
      assertEquals(Array.from(cache.read(kind, begin, end)), wanted);
      const views = cache.views(kind, begin, end);
      assertEquals(views.flatMap((view) => Array.from(view)), wanted);
      assertEquals(views.length, cache.model.layers * cache.model.kvHeads);
      assert(views.every((view, i) => {
        const head = cache[kind](Math.floor(i / cache.model.kvHeads), i % cache.model.kvHeads);
        return view.buffer === head.buffer && view.byteOffset === head.byteOffset + begin * row;
      }));
    }
  }));
});

Deno.test("KvCacheBuilder puts chunks of any split together again", () => {
  const ways = fc.constantFrom("whole", "by layer", "in place");
  fc.assert(fc.property(denseCaches, fc.array(fc.nat(), { maxLength: 3 }), ways, (cache, cuts, way) => {
    const { model, dtype, positions, inputIds, queries, tokens } = cache;
    const builder = new KvCacheBuilder({ model, dtype, positions, inputIds, queries });
    const bounds = [0, ...cuts.map((c) => c % (tokens + 1)), tokens].sort((a, b) => b - a); // last chunk first
    for (const kind of KINDS) {
      for (let i = 1; i < bounds.length; i++) {
        const [end, begin] = [bounds[i - 1], bounds[i]];
        const chunk = cache.read(kind, begin, end);
        const perLayer = chunk.length / model.layers;
        if (way === "whole") builder.write(kind, 0, begin, end - begin, chunk);
        else if (way === "in place") {
          const views = builder.views(kind, 0, model.layers, begin, end - begin);
          views.forEach((view, i) => view.set(chunk.subarray(i * view.length, (i + 1) * view.length)));
          builder.write(kind, 0, begin, end - begin, new Uint8Array(0));
        } else {
          for (let layer = 0; layer < model.layers; layer++) {
            const part = chunk.subarray(layer * perLayer, (layer + 1) * perLayer);
            builder.write(kind, layer, begin, end - begin, part);
          }
        }
      }
    }
    assert(builder.build().equals(cache));
  }));
});

Deno.test("KvCacheBuilder refuses chunks that do not fit and caches with holes", () => {
  const cache = small(4);
  const builder = new KvCacheBuilder({ model: MODEL, dtype: "f16", positions: cache.positions });
  assertThrows(() => builder.write("key", 0, 0, 4, new Uint8Array(7)), RangeError, "expected a multiple of 120");
  assertThrows(() => builder.write("key", 1, 0, 4, cache.read("key", 0, 4)), RangeError, "layers [1, 3)");
  assertThrows(() => builder.write("key", 0, 1, 4, cache.read("key", 0, 4)), RangeError, "tokens [1, 5)");
  assertThrows(() => builder.views("key", 1, 3, 0, 4), RangeError, "layers [1, 3)");
  assertThrows(() => builder.views("key", 0, 2, 1, 4), RangeError, "tokens [1, 5)");
  builder.write("value", 0, 0, 4, cache.read("value", 0, 4));
  builder.write("key", 0, 0, 1, cache.read("key", 0, 1));
  builder.write("key", 0, 2, 2, cache.read("key", 2, 4));
  assertThrows(() => builder.build(), RangeError, "key of layer 0 lacks token 1 of 4");
  // Neither a view nor an empty chunk that has none counts as written.
  const views = builder.views("key", 0, 2, 1, 1);
  builder.write("key", 0, 1, 2, new Uint8Array(0));
  builder.write("value", 0, 1, 1, new Uint8Array(0));
  assertThrows(() => builder.build(), RangeError, "key of layer 0 lacks token 1 of 4");
  cache.views("key", 1, 2).forEach((from, i) => views[i].set(from));
  builder.write("key", 0, 1, 1, new Uint8Array(0));
  assert(builder.build().equals(cache));
  builder.write("key", 0, 1, 2, cache.read("key", 1, 3)); // overlaps what is there
  assert(builder.build().equals(cache));
});

Deno.test("KvCache.slice() keeps the tokens of the range, their ids and their queries", () => {
  fc.assert(fc.property(denseCaches, fc.nat(), fc.nat(), (cache, a, b) => {
    const begin = a % (cache.tokens + 1);
    const end = begin + b % (cache.tokens - begin + 1);
    const slice = cache.slice(begin, end);
    assertFalse(slice.ragged);
    assertEquals(slice.positions, cache.positions.slice(begin, end));
    assertEquals(slice.inputIds, cache.inputIds?.slice(begin, end));
    for (const kind of KINDS) assertEquals(slice.read(kind, 0, end - begin), cache.read(kind, begin, end));
    if (cache.tokens > 0) assert(slice.key(0, 0).buffer === cache.key(0, 0).buffer);
    if (cache.queries) {
      const { heads, tokens, layers } = cache.queries;
      const from = Math.max(begin, cache.tokens - tokens);
      const kept = Math.max(end - from, 0);
      assertEquals(slice.queries?.tokens ?? 0, kept);
      const row = cache.model.keyDim * BYTES_PER_ELEMENT[cache.dtype];
      const first = from - (cache.tokens - tokens);
      slice.queries?.layers.forEach((bytes, n) => {
        for (let head = 0; head < heads; head++) {
          assertEquals(
            bytes.slice(head * kept * row, (head + 1) * kept * row),
            layers[n].slice((head * tokens + first) * row, (head * tokens + first + kept) * row),
          );
        }
      });
    }
  }));
});

Deno.test("KvCache.sliceLayers() keeps the layers of the range", () => {
  fc.assert(fc.property(denseCaches, fc.nat(), fc.nat(), (cache, a, b) => {
    const begin = a % cache.model.layers;
    const end = begin + 1 + b % (cache.model.layers - begin);
    const part = cache.sliceLayers(begin, end);
    assertEquals(part.model.layers, end - begin);
    for (const kind of KINDS) {
      const all = cache.read(kind, 0, cache.tokens);
      const perLayer = all.length / cache.model.layers;
      assertEquals(part.read(kind, 0, cache.tokens), all.slice(begin * perLayer, end * perLayer));
    }
    assertEquals(part.queries?.layers, cache.queries?.layers.slice(begin, end));
    assertEquals(part.inputIds, cache.inputIds);
  }));
  assertThrows(() => small().sliceLayers(1, 1), RangeError, "layers [1, 1) are none");
  assertThrows(() => small().sliceLayers(0, 3), RangeError, "layers [0, 3) are outside [0, 2)");
});

Deno.test("ragged caches know each head's tokens and refuse dense reading by name", () => {
  fc.assert(fc.property(raggedCaches, fc.nat(), fc.nat(), (cache, a, b) => {
    const { layers, kvHeads } = cache.model;
    const all = new Set<number>();
    let dense = true;
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < kvHeads; head++) {
        const positions = cache.positionsOf(layer, head);
        assertEquals(cache.keptTokens(layer, head), positions.length);
        positions.forEach((p) => all.add(p));
        dense &&= positions.toString() === cache.positionsOf(0, 0).toString();
      }
    }
    assertEquals(Array.from(cache.positions), Array.from(all).sort((x, y) => x - y));
    assertEquals(cache.ragged, !dense);
    if (cache.ragged) assertThrows(() => cache.read("key", 0, cache.tokens), KvzUnsupportedError, "ragged");
    const begin = a % (cache.tokens + 1);
    const end = begin + b % (cache.tokens - begin + 1);
    const slice = cache.slice(begin, end);
    const kept = new Set(cache.positions.slice(begin, end));
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < kvHeads; head++) {
        const wanted: number[] = [];
        const keys: number[] = [];
        const row = cache.model.keyDim * BYTES_PER_ELEMENT[cache.dtype];
        cache.positionsOf(layer, head).forEach((p, t) => {
          if (!kept.has(p)) return;
          wanted.push(p);
          keys.push(...cache.key(layer, head).subarray(t * row, (t + 1) * row));
        });
        assertEquals(Array.from(slice.positionsOf(layer, head)), wanted);
        assertEquals(Array.from(slice.key(layer, head)), keys);
      }
    }
  }));
});

Deno.test("slicing layers of a ragged cache keeps the ids of the tokens that are left", () => {
  const block = (...list: number[]) => ({
    key: noise(list.length * 10, 1),
    value: noise(list.length * 8, 2),
    positions: Int32Array.from(list),
  });
  const cache = KvCache.ragged({
    model: { ...MODEL, kvHeads: 1 },
    dtype: "f16",
    inputIds: Int32Array.of(70, 71, 75),
    blocks: [[block(0, 5)], [block(1)]],
  });
  assertEquals(cache.tokens, 3);
  assertEquals(cache.sliceLayers(0, 1).inputIds, Int32Array.of(70, 75));
  assertFalse(cache.sliceLayers(0, 1).ragged);
});

Deno.test("KvCache.equals() is bitwise", () => {
  fc.assert(fc.property(denseCaches, fc.nat(), (cache, at) => {
    const { model, dtype, positions, inputIds, queries } = cache;
    const perLayer = (kind: Kind) => {
      const all = cache.read(kind, 0, cache.tokens);
      const size = all.length / model.layers;
      return Array.from({ length: model.layers }, (_, n) => all.slice(n * size, (n + 1) * size));
    };
    const [keys, values] = KINDS.map(perLayer);
    const copy = () =>
      new KvCache({
        model,
        dtype,
        positions,
        inputIds,
        queries,
        layers: keys.map((key, n) => ({ key, value: values[n] })),
      });
    assert(cache.equals(copy()));
    if (cache.tokens > 0) {
      values[at % model.layers][at % values[0].length] ^= 1 << at % 8;
      assertFalse(cache.equals(copy()));
      assertFalse(cache.equals(cache.slice(0, cache.tokens - 1)));
    }
  }));
  const cache = small();
  assertFalse(cache.equals(
    new KvCache({
      model: MODEL,
      dtype: "bf16",
      positions: cache.positions,
      layers: [0, 1].map((n) => ({ key: noise(60, n), value: noise(48, n + 7) })),
    }),
  ));
});

Deno.test("a cache may hold no tokens", () => {
  const cache = small(0);
  assertEquals(cache.tokens, 0);
  assertEquals(cache.read("key", 0, 0), new Uint8Array());
  assert(cache.equals(cache.slice(0, 0)));
  assertEquals(cache.slice(0, 0).sliceLayers(0, 1).tokens, 0);
  assert(new KvCacheBuilder({ model: MODEL, dtype: "f16", positions: new Int32Array() }).build().equals(cache));
});

Deno.test("KvCache says which size is wrong, and what was wanted", () => {
  const good = {
    model: MODEL,
    dtype: "f16" as const,
    positions: Int32Array.of(0, 1),
    layers: [0, 1].map(() => ({ key: new Uint8Array(60), value: new Uint8Array(48) })),
  };
  const refuse = (change: object, message: string, type: typeof RangeError | typeof TypeError = RangeError) =>
    assertThrows(() => new KvCache({ ...good, ...change }), type, message);
  refuse({ layers: good.layers.slice(1) }, "there are 1 layers, expected 2");
  refuse(
    { layers: [good.layers[0], { key: new Uint8Array(58), value: new Uint8Array(48) }] },
    "key of layer 1 has 58 bytes, expected 60 (3 heads × 2 tokens × 5 × f16)",
  );
  refuse(
    { layers: [{ key: new Uint8Array(60), value: new Uint8Array(60) }, good.layers[1]] },
    "value of layer 0 has 60 bytes, expected 48",
  );
  refuse({ positions: Int32Array.of(1, 1) }, "position at token 1 is 1, expected more than 1");
  refuse({ positions: Int32Array.of(-2, 1) }, "position at token 0 is -2, expected more than -1");
  refuse({ inputIds: Int32Array.of(1) }, "there are 1 token ids, expected 2");
  refuse({ dtype: "f64" }, 'element type is "f64"', TypeError);
  refuse({ model: { ...MODEL, kvHeads: 0 } }, "number of KV heads is 0");
  refuse({ model: { ...MODEL, rope: { theta: 1e4, dim: 6, pairing: "adjacent" } } }, "RoPE dimension is 6");
  const queries = { dtype: "f16", heads: 6, tokens: 1, layers: [new Uint8Array(60), new Uint8Array(60)] };
  assertEquals(new KvCache({ ...good, queries } as never).queries?.heads, 6);
  refuse({ queries: { ...queries, heads: 4 } }, "there are 4 query heads, expected a multiple of 3");
  refuse({ queries: { ...queries, tokens: 3 } }, "queries cover 3 tokens, expected 0 to 2");
  refuse({ queries: { ...queries, layers: [] } }, "queries have 0 layers, expected 2");
  refuse({ queries: { ...queries, tokens: 2 } }, "queries of layer 0 has 60 bytes, expected 120");

  const block = { key: new Uint8Array(10), value: new Uint8Array(8), positions: Int32Array.of(3) };
  const ragged = (...blocks: object[][]) => () => KvCache.ragged({ model: MODEL, dtype: "f16", blocks } as never);
  assertThrows(ragged([block, block], [block, block, block]), RangeError, "layer 0 has 2 heads, expected 3");
  assertThrows(
    ragged([block, block, block], [block, { ...block, positions: Int32Array.of(3, 2) }, block]),
    RangeError,
    "position of layer 1, head 1 at token 1 is 2",
  );
  assertThrows(
    ragged([block, block, block], [block, block, { ...block, value: new Uint8Array(9) }]),
    RangeError,
    "value of layer 1, head 2 has 9 bytes, expected 8",
  );
  assertThrows(() => small().key(2, 0), RangeError, "layer 2, head 0 is outside");
  assertThrows(() => small().value(0, 3), RangeError, "layer 0, head 3 is outside");
  assertThrows(() => small().read("key", 0, 3), RangeError, "tokens [0, 3) are outside [0, 2)");
  assertThrows(() => small().slice(1, 0), RangeError, "tokens [1, 0)");
});
