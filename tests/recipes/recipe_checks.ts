/**
 * What every recipe that needs nothing but a cache has to do, as tests: `checkRecipe(…)` registers them under the
 * recipe's name. What makes it its method is for its own tests.
 *
 * @module
 */
import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { type DType, type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import * as errors from "../../src/errors.ts";
import type { Profile } from "../../src/profile/types.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { relativeError } from "../codec/helpers.ts";
import { random, syntheticCache } from "../synthetic.ts";

/** A recipe with the settings it is checked in. */
export interface RecipeCheck {
  readonly recipe: string;
  /** Options beside the recipe. */
  readonly options?: Readonly<Record<string, number | string | boolean>>;
  readonly model: ModelSpec;
  /** Largest relative error of keys and values of a synthetic cache. */
  readonly error: number;
  /** Largest relative error after a move to other positions, where it is not that of the cache. */
  readonly movedError?: number;
  /** Whether tokens may be appended to a chunk that is not full; else the words of the refusal. */
  readonly append: true | string;
  /** Newest tokens that were raw in the file and are coded when others come behind them, default 0. */
  readonly recent?: number;
  /** Whether it has option sinks, default true. */
  readonly sinks?: boolean;
  /** Tokens of the caches, default 150. */
  readonly tokens?: number;
  /** Whether zeros come back as zeros, default true; not where a profile says which numbers there are. */
  readonly zeros?: boolean;
  /** Profile of a recipe that needs one. */
  readonly profile?: Profile;
}

/** Options with a recipe, as the codec takes them. */
export function withRecipe({ recipe, options = {} }: Pick<RecipeCheck, "recipe" | "options">): CompressOptions {
  return { recipe, ...options } as CompressOptions;
}

/** Compresses and restores. */
export async function roundTrip(codec: Codec, cache: KvCache, options: CompressOptions) {
  const { bytes, report } = await codec.compress(cache, options);
  return { bytes, report, cache: (await codec.decompress(bytes)).cache };
}

/** A cache of given values: `valueOf(kind, layer, head, token, dimension)`. */
export function cacheOf(
  model: ModelSpec,
  tokens: number,
  dtype: DType,
  valueOf: (kind: Kind, layer: number, head: number, token: number, i: number) => number,
): KvCache {
  const block = (kind: Kind, layer: number) => {
    const dim = kind === "key" ? model.keyDim : model.valueDim;
    const out = new Float32Array(model.kvHeads * tokens * dim);
    out.forEach((_, i) => {
      const row = Math.floor(i / dim);
      out[i] = valueOf(kind, layer, Math.floor(row / tokens), row % tokens, i % dim);
    });
    return fromFloat32(out, dtype);
  };
  const layers = Array.from({ length: model.layers }, (_, l) => ({ key: block("key", l), value: block("value", l) }));
  return new KvCache({ model, dtype, positions: Int32Array.from({ length: tokens }, (_, t) => t), layers });
}

/** Bytes of hexadecimal text. */
export function decodeHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

/** Registers the tests. */
export function checkRecipe(check: RecipeCheck): void {
  const { recipe, model, error, append, recent = 0, tokens = 150, profile = null } = check;
  const options = withRecipe(check);
  const name = `${recipe} ${JSON.stringify(check.options ?? {})}`;

  Deno.test(`${name}: restores within its error, and again at other positions, types, layers and tokens`, async () => {
    await using codec = await openCodec(profile, { threads: 1 });
    const cache = syntheticCache(tokens, { model, firstPosition: 30 });
    const { bytes, report, cache: back } = await roundTrip(codec, cache, options);
    for (const kind of KINDS) assertLess(relativeError(cache, back, kind, 0, tokens), error, kind);
    assertEquals(back.positions, cache.positions);
    assertEquals(report.bytesOut, bytes.length);
    assertEquals((await inspect(bytes, { verify: true })).header.recipe.name, recipe);

    const moved = syntheticCache(tokens, { model, firstPosition: 500 });
    const there = (await codec.decompress(bytes, { firstPosition: 500 })).cache;
    for (const kind of KINDS) {
      assertLess(relativeError(moved, there, kind, 0, tokens), check.movedError ?? error, `${kind} moved`);
    }

    const wide = (await codec.decompress(bytes, { dtype: "f32" })).cache;
    for (const kind of KINDS) assertLess(relativeError(wide, back, kind, 0, tokens), 1e-3, `${kind} as f32`);
    const some = (await codec.decompress(bytes, { layers: [1, 2], tokens: tokens - 7 })).cache;
    for (const kind of KINDS) {
      assertEquals(some.read(kind, 0, tokens - 7), back.sliceLayers(1, 2).read(kind, 0, tokens - 7), kind);
    }
    for await (const { layer, key, value } of codec.layers(bytes)) {
      assertEquals(key, back.sliceLayers(layer, layer + 1).read("key", 0, tokens), `key of layer ${layer}`);
      assertEquals(value, back.sliceLayers(layer, layer + 1).read("value", 0, tokens), `value of layer ${layer}`);
    }
  });

  Deno.test(`${name}: the same bytes on the reference backend and with threads`, async () => {
    await using codec = await openCodec(profile, { threads: 1 });
    const cache = syntheticCache(tokens, { model, seed: 3 });
    const { bytes, cache: back } = await roundTrip(codec, cache, options);
    for (const other of [{ backend: "reference" }, { threads: 2 }] as const) {
      await using second = await openCodec(profile, other);
      const again = await roundTrip(second, cache, options);
      assertEquals(again.bytes, bytes);
      assert(again.cache.equals(back));
    }
  });

  Deno.test(`${name}: one token, none, all zeros, all types`, async () => {
    await using codec = await openCodec(profile, { threads: 1 });
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      for (const n of [0, 1, 33]) {
        const zeros = cacheOf(model, n, dtype, () => 0);
        const { cache: back } = await roundTrip(codec, zeros, options);
        assertEquals(back.tokens, n);
        assertEquals(back.dtype, dtype);
        for (const kind of KINDS) {
          const right = check.zeros ?? true ? (x: number) => x === 0 : Number.isFinite;
          assert(toFloat32(back.read(kind, 0, n), dtype).every(right), `${kind}s of ${n} tokens`);
        }
      }
    }
    const one = syntheticCache(1, { model });
    const { cache: back } = await roundTrip(codec, one, options);
    for (const kind of KINDS) assertLess(relativeError(one, back, kind, 0, 1), 1);
  });

  Deno.test(`${name}: NaN is refused with its place`, async () => {
    await using codec = await openCodec(profile, { threads: 1 });
    const bad = cacheOf(
      model,
      tokens,
      "f16",
      (kind, layer, head, token, i) =>
        kind === "value" && layer === 1 && head === 1 && token === 9 && i === 3 ? NaN : 1,
    );
    await assertRejects(
      () => codec.compress(bad, options),
      errors.KvzUnsupportedError,
      "value of layer 1, head 1, token 9, dimension 3",
    );
  });

  if (check.sinks ?? true) {
    Deno.test(`${name}: raw sinks stay as they are`, async () => {
      await using codec = await openCodec(profile, { threads: 1 });
      const cache = syntheticCache(tokens * 3, { model, seed: 5 });
      const { cache: back } = await roundTrip(codec, cache, { ...options, sinks: 4 });
      assert(back.slice(0, 4).equals(cache.slice(0, 4)));
      for (const kind of KINDS) assertLess(relativeError(cache, back, kind, 4, tokens * 3), error, kind);
    });
  }

  Deno.test(`${name}: appending codes nothing anew, or is refused`, async () => {
    await using codec = await openCodec(profile, { threads: 1 });
    const cache = syntheticCache(tokens, { model, seed: 7 });
    const { bytes } = await codec.compress(cache.slice(0, tokens - 40), options);
    if (append !== true) {
      await assertRejects(
        () => codec.append(bytes, cache.slice(tokens - 40, tokens)),
        errors.KvzUnsupportedError,
        append,
      );
      return;
    }
    const grown = await codec.append(bytes, cache.slice(tokens - 40, tokens));
    const { cache: back } = await codec.decompress(grown.bytes);
    const old = (await codec.decompress(bytes)).cache;
    const coded = Math.max(0, tokens - 40 - recent);
    assert(back.slice(0, coded).equals(old.slice(0, coded)), "tokens that were there");
    for (const kind of KINDS) assertLess(relativeError(cache, back, kind, 0, tokens), error, kind);
  });

  Deno.test(`${name}: any bytes in its streams give a typed error or a cache, and truncations an error`, async () => {
    await using codec = await openCodec(profile, { threads: 1 });
    const cache = syntheticCache(recent > 0 ? tokens : Math.min(tokens, 70), { model, seed: 9 });
    const { bytes } = await codec.compress(cache, options);
    const damage = fc.record({
      record: fc.nat(),
      at: fc.nat(),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 24 }),
      how: fc.constantFrom("overwrite", "cut", "extend", "empty"),
    });
    await fc.assert(
      fc.asyncProperty(damage, async (damage) => {
        const file = await damaged(bytes, damage);
        try {
          await codec.decompress(file);
        } catch (error) {
          assert(Object.values(errors).some((kind) => error instanceof kind), `${error}`);
        }
      }),
      { numRuns: 60 },
    );
    const next = random(11);
    for (let i = 0; i < 30; i++) {
      const length = Math.floor(next() * bytes.length);
      await assertRejects(() => codec.decompress(bytes.subarray(0, length)), errors.KvzFormatError);
    }
  });
}

/** The file with the contents of one of the recipe's streams changed and all checksums right. */
async function damaged(
  file: Uint8Array,
  damage: { record: number; at: number; bytes: Uint8Array; how: string },
): Promise<Uint8Array> {
  const reader = await FrameReader.open(memorySource(file), "cache");
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, "cache", reader.header);
  await writer.start();
  const streams = reader.records.filter(({ tag }) => tag !== "PLAN" && tag !== "IDS ");
  const chosen = streams[damage.record % streams.length];
  for (const info of reader.records) {
    let payload = (await reader.read(info)).slice();
    if (info === chosen) {
      payload = (await decodeStream({ ...info, bytes: payload }, info.rawLength, "the stream")).slice();
      const at = damage.at % Math.max(payload.length, 1);
      if (damage.how === "overwrite") payload.set(damage.bytes.subarray(0, Math.max(0, payload.length - at)), at);
      else if (damage.how === "cut") payload = payload.slice(0, at);
      else if (damage.how === "empty") payload = new Uint8Array(0);
      else payload = Uint8Array.from([...payload, ...damage.bytes]);
    }
    const changed = info === chosen ? { codec: "raw", rawLength: payload.length } as const : {};
    await writer.writeRecord({ ...info, ...changed }, payload);
  }
  await writer.finish();
  return sink.bytes();
}
