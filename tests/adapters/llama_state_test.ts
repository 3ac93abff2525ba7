import { assert, assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import {
  isLlamaState,
  type LlamaStateLayout,
  parseLlamaStateLayout,
  readLlamaState,
  writeLlamaState,
} from "../../src/adapters/llama_state.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { Kind, ModelSpec, RopePairing } from "../../src/cache/types.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { type Field, llamaState, SCALE, type StateSpec } from "./llama_state_builder.ts";

/** Values that every element type holds exactly. */
const small: Field = (layer, head, t, i) => (layer * 7 + head * 5 + t * 3 + i) % 64 - 32;

/** Codes of quantized blocks that are in canonical form: each block of 32 has the extreme code. */
function codes(lowest: number, highest: number): Field {
  return (layer, head, t, i) => {
    const code = i % 32 === 3 ? lowest : (layer * 11 + head * 5 + t * 7 + i * 13) % (highest - lowest + 1) + lowest;
    return code * SCALE;
  };
}

function modelOf(spec: StateSpec, pairing: RopePairing = "adjacent"): ModelSpec {
  const { layers, heads, keyDim, valueDim } = spec;
  const dim = keyDim & ~1;
  return { layers, kvHeads: heads, keyDim, valueDim, rope: { theta: 10000, dim, pairing } };
}

const BASE: StateSpec = {
  layers: 2,
  heads: 2,
  keyDim: 6,
  valueDim: 5,
  positions: [0, 1, 2],
  keyType: "f16",
  valueType: "f16",
  key: small,
  value: small,
};

/** What the cache must hold for head h, dimension i (half-split) of token t, by the layout's definition. */
function expected(spec: StateSpec, kind: Kind, pairing: RopePairing, hadamard: boolean): Field {
  const dim = kind === "key" ? spec.keyDim : spec.valueDim;
  const type = kind === "key" ? spec.keyType : spec.valueType;
  const order = spec.positions.map((_, cell) => cell).sort((a, b) => spec.positions[a] - spec.positions[b]);
  let block = 1;
  if (hadamard && type.startsWith("q") && dim % 64 === 0) {
    block = 64;
    while (kind === "key" && dim % (2 * block) === 0) block *= 2;
  }
  const stored = spec[kind];
  const plain = (layer: number, head: number, cell: number, i: number) => {
    const first = i - i % block;
    let sum = 0;
    for (let j = 0; j < block; j++) {
      const parity = ((i - first) & j).toString(2).split("1").length - 1;
      sum += (parity % 2 ? -1 : 1) * stored(layer, head, cell, first + j);
    }
    return sum / Math.sqrt(block);
  };
  return (layer, head, t, i) => {
    const half = (dim & ~1) / 2;
    const paired = kind === "key" && pairing === "adjacent" && i < 2 * half;
    return plain(layer, head, order[t], paired ? (i < half ? 2 * i : 2 * (i - half) + 1) : i);
  };
}

function assertHolds(cache: KvCache, kind: Kind, field: Field, tolerance: number): void {
  const dim = kind === "key" ? cache.model.keyDim : cache.model.valueDim;
  for (let layer = 0; layer < cache.model.layers; layer++) {
    for (let head = 0; head < cache.model.kvHeads; head++) {
      const found = toFloat32(cache[kind](layer, head), cache.dtype);
      assertEquals(found.length, cache.tokens * dim);
      found.forEach((x, at) => {
        const wanted = field(layer, head, Math.floor(at / dim), at % dim);
        if (!(Math.abs(x - wanted) <= tolerance)) assertAlmostEquals(x, wanted, tolerance);
      });
    }
  }
}

const plainSpecs: fc.Arbitrary<StateSpec> = fc.record({
  layers: fc.integer({ min: 1, max: 3 }),
  heads: fc.integer({ min: 1, max: 3 }),
  keyDim: fc.integer({ min: 2, max: 9 }),
  valueDim: fc.integer({ min: 1, max: 9 }),
  positions: fc.uniqueArray(fc.integer({ min: 0, max: 100000 }), { minLength: 1, maxLength: 6 }),
  keyType: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
  valueType: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
  transposed: fc.boolean(),
  streams: fc.integer({ min: 1, max: 4 }),
  stream: fc.nat(3),
  sequence: fc.nat(7),
  fewerTokens: fc.boolean(),
}).map(({ fewerTokens, ...spec }) => ({
  ...spec,
  stream: spec.stream % spec.streams,
  key: small,
  value: (layer, head, t, i) => small(layer, head, t, i) + 1,
  ...(fewerTokens ? { tokens: spec.positions.slice(1) } : {}),
}));

Deno.test("llama.cpp states of plain types are read by the layout's definition and written back bit for bit", () => {
  fc.assert(
    fc.property(plainSpecs, fc.constantFrom<RopePairing>("adjacent", "half-split"), (spec, pairing) => {
      const bytes = llamaState(spec);
      const { cache, layout } = readLlamaState(bytes, { model: modelOf(spec, pairing) });
      const same = spec.keyType === spec.valueType;
      assertEquals(cache.dtype, same ? spec.keyType : "f32");
      assertEquals(Array.from(cache.positions), [...spec.positions].sort((a, b) => a - b));
      if (!spec.tokens) assertEquals(Array.from(cache.inputIds!), spec.positions.map((position) => 1000 + position));
      else assertEquals([cache.inputIds, layout.tokens], [undefined, spec.tokens]);
      assertHolds(cache, "key", expected(spec, "key", pairing, true), 0);
      assertHolds(cache, "value", expected(spec, "value", pairing, true), 0);
      assertEquals(writeLlamaState(cache, layout), bytes);
      assertEquals(writeLlamaState(cache, parseLlamaStateLayout(JSON.parse(JSON.stringify(layout)))), bytes);
    }),
  );
});

const QUANTIZED: [Partial<StateSpec>, string][] = [
  [{ keyDim: 64, valueDim: 64 }, "64"],
  [{ keyDim: 128, valueDim: 128 }, "128, one block of keys and two of values"],
  [{ keyDim: 192, valueDim: 64 }, "192 and 64"],
  [{ keyDim: 96, valueDim: 32 }, "96 and 32, which are not transformed"],
  [{ keyDim: 64, valueDim: 64, valueType: "f16", value: small, transposed: true }, "64 beside transposed f16 values"],
];
for (const [change, name] of QUANTIZED) {
  for (const type of ["q8_0", "q4_0"] as const) {
    const field = type === "q8_0" ? codes(-127, 127) : codes(-8, 7);
    const spec: StateSpec = { ...BASE, keyType: type, valueType: type, key: field, value: field, ...change };
    Deno.test(`llama.cpp states of ${type} are dequantized, transformed back and exact in f32: heads of ${name}`, () => {
      const bytes = llamaState(spec);
      const { cache, layout } = readLlamaState(bytes, { model: modelOf(spec), dtype: "f32" });
      // Codes times SCALE reach 127/8; sums of 64 to 128 of them in float32.
      assertHolds(cache, "key", expected(spec, "key", "adjacent", true), 1e-4);
      assertHolds(cache, "value", expected(spec, "value", "adjacent", true), 1e-4);
      assert(layout.hadamard);
      assertEquals(writeLlamaState(cache, layout), bytes);

      const rounded = readLlamaState(bytes, { model: modelOf(spec) });
      assertEquals(rounded.cache.dtype, "f16");
      assertHolds(rounded.cache, "key", expected(spec, "key", "adjacent", true), 0.05);

      const raw = readLlamaState(bytes, { model: modelOf(spec), hadamard: false });
      assertHolds(raw.cache, "key", expected(spec, "key", "adjacent", false), 0);
      assertEquals(raw.layout.hadamard, false);
      assertEquals(writeLlamaState(raw.cache, raw.layout), bytes);
    });
  }
}

Deno.test("a slice or another part of the sequence can be written in the layout of the whole", () => {
  const spec = { ...BASE, positions: [4, 2, 9], transposed: true };
  const model = modelOf(spec);
  const { cache, layout } = readLlamaState(llamaState(spec), { model });
  assertEquals(layout.cells, [4, 2, 9]);
  const part = readLlamaState(writeLlamaState(cache.slice(0, 2), layout), { model });
  assert(part.cache.equals(cache.slice(0, 2)));
  assertEquals(part.layout.cells, undefined);
  const other = new KvCache({
    model,
    dtype: "f16",
    positions: Int32Array.of(1, 2, 3),
    layers: [0, 1].map(() => ({ key: new Uint8Array(72), value: new Uint8Array(60) })),
  });
  const written = readLlamaState(writeLlamaState(other, layout), { model });
  assertEquals(Array.from(written.cache.positions), [1, 2, 3]);
});

Deno.test("states of kinds that are not supported are refused by name", () => {
  const model = modelOf(BASE);
  const refuse = (
    bytes: Uint8Array,
    message: string,
    type: typeof KvzUnsupportedError | typeof KvzFormatError = KvzUnsupportedError,
  ) => assertThrows(() => readLlamaState(bytes, { model }), type, message);
  const good = llamaState(BASE);
  assert(isLlamaState(good));
  refuse(llamaState(BASE, BASE), "second section for sliding-window layers");
  refuse(llamaState({ ...BASE, extra: 12 }), "several positions (M-RoPE)");
  refuse(llamaState({ ...BASE, positions: [] }), "holds no tokens");
  const twoStreams = llamaState({ ...BASE, streams: 2 });
  const oneSection = llamaState({ ...BASE, tokens: [] }).subarray(16);
  const joined = Uint8Array.of(...twoStreams.subarray(0, twoStreams.length - 4), ...oneSection);
  refuse(joined, "streams 0 and 1 both hold cells");
  const values = 2 * (4 + 8 + 3 * 2 * 5 * 2);
  refuse(good.subarray(0, good.length - values), "latent attention (MLA)");
  refuse(Uint8Array.of(...good, 1, 2, 3, 4), "4 bytes follow the cache", KvzFormatError);
  const set = (at: number, value: number) => {
    const bytes = good.slice();
    new DataView(bytes.buffer).setUint32(at, value, true);
    return bytes;
  };
  refuse(set(0, 0x6767736e), "session of a whole context");
  refuse(set(0, 0x12345678), "magic is 0x12345678", KvzFormatError);
  assert(!isLlamaState(set(0, 0x12345678)));
  refuse(set(4, 2), "version is 2, expected 3", KvzFormatError);
  const cells = 12 + 3 * 4 + 8;
  refuse(set(cells + 4, 2), "cell 0 belongs to 2 sequences", KvzFormatError);
  refuse(set(cells + 12 + 8, 1), "cell 1 is of sequence 1, expected 0", KvzFormatError);
  refuse(set(cells + 12, 0), "position 0 of cell", KvzFormatError);
  refuse(set(cells, 0xffffffff), "position -1 of cell 0 is negative", KvzFormatError);
  refuse(set(cells + 36, 2), "value layout is 2", KvzFormatError);
  refuse(set(cells + 44, 3), "element type q4_1 is not supported");
});

Deno.test("states that do not fit the model are refused, and both sides are named", () => {
  const bytes = llamaState(BASE);
  const refuse = (change: Partial<ModelSpec>, message: string, given = bytes) =>
    assertThrows(
      () => readLlamaState(given, { model: { ...modelOf(BASE), ...change } }),
      KvzMismatchError,
      message,
    );
  refuse({ layers: 3 }, "the file has 2 layers, the model 3");
  refuse({ kvHeads: 3 }, "key of layer 0 has 24 bytes of f16 a cell in the file, 36 in the model (3 heads of 6)");
  refuse({ valueDim: 6 }, "value of layer 0 has 20 bytes of f16 a cell in the file, 24 in the model (2 heads of 6)");
  refuse(
    { valueDim: 6 },
    "value of layer 0 has 10 channels in the file, 12 in the model",
    llamaState({ ...BASE, transposed: true }),
  );
});

Deno.test("every truncation of a state is refused", () => {
  for (const transposed of [false, true]) {
    const bytes = llamaState({ ...BASE, transposed });
    const model = modelOf(BASE);
    readLlamaState(bytes, { model });
    for (let length = 0; length < bytes.length; length++) {
      let refused = false;
      try {
        readLlamaState(bytes.subarray(0, length), { model });
      } catch (error) {
        refused = error instanceof KvzFormatError || error instanceof KvzUnsupportedError;
        if (!refused) throw error;
      }
      assert(refused, `a state of ${bytes.length} bytes cut to ${length} was read`);
    }
  }
});

Deno.test("arbitrary bytes and bit flips give a cache or a typed error", () => {
  const good = llamaState(BASE);
  const model = modelOf(BASE);
  const typed = (bytes: Uint8Array) => {
    try {
      readLlamaState(bytes, { model });
    } catch (error) {
      const known = [KvzFormatError, KvzUnsupportedError, KvzMismatchError];
      if (!known.some((type) => error instanceof type)) throw error;
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), typed));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (tail) => typed(Uint8Array.of(...good.subarray(0, 8), ...tail))),
  );
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(7), (at, bit) => {
      const bytes = good.slice();
      bytes[at] ^= 1 << bit;
      typed(bytes);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("layouts from outside are checked, and impossible ones are not written", () => {
  const { cache, layout } = readLlamaState(llamaState(BASE), { model: modelOf(BASE) });
  const refuse = (change: object, message: string) =>
    assertThrows(() => parseLlamaStateLayout({ ...layout, ...change }), KvzFormatError, message);
  refuse({ keyType: "q6_K" }, 'keyType is "q6_K", expected a ggml type');
  refuse({ valueType: "toString" }, 'valueType is "toString"');
  refuse({ transposedValues: 1 }, "transposedValues is 1, expected true or false");
  refuse({ streams: 0 }, "streams is 0, expected a 32-bit integer of at least 1");
  refuse({ stream: 1 }, "stream is 1, expected less than the number of streams (1");
  refuse({ sequence: undefined }, "sequence is undefined");
  refuse({ cells: [0.5] }, "cells is [0.5], expected 32-bit integers");
  refuse({ tokens: "a" }, 'tokens is "a"');
  refuse({ valueType: "q8_0", transposedValues: true }, "transposedValues is true, expected false");
  assertThrows(() => parseLlamaStateLayout(null), KvzFormatError, "expected an object");
  const quantized: LlamaStateLayout = { ...layout, keyType: "q8_0" };
  assertThrows(() => writeLlamaState(cache, quantized), RangeError, "2 heads of 6 are no whole blocks of q8_0");
  const block = (t: number) => ({ key: new Uint8Array(12), value: new Uint8Array(10), positions: Int32Array.of(t) });
  const ragged = KvCache.ragged({
    model: cache.model,
    dtype: "f16",
    blocks: [[block(0), block(1)], [block(0), block(1)]],
  });
  assertThrows(() => writeLlamaState(ragged, layout), KvzUnsupportedError, "ragged");
});
