/**
 * Node's Buffer is a Uint8Array whose slice() copies nothing. What comes as one must neither be changed nor be
 * transferred to a worker.
 */
import { assert, assertEquals } from "deno-std/assert";
import { Buffer } from "node:buffer";
import { openCodec, readLlamaState, readSafetensors, writeSafetensors } from "../../mod.ts";
import { convertPairing } from "../../src/cache/pairing.ts";
import { llamaState } from "../adapters/llama_state_builder.ts";
import { SMALL_MODEL, syntheticCache, syntheticProfile } from "../synthetic.ts";

/** A Buffer within a larger one, as readFile and sockets give them. */
function pooled(bytes: Uint8Array): Buffer {
  const pool = Buffer.alloc(bytes.length + 24, 7);
  pool.set(bytes, 8);
  return pool.subarray(8, 8 + bytes.length);
}

Deno.test("caches and files in Buffers work with threads, and stay as they are", async () => {
  const cache = syntheticCache(400);
  const plain = await writeSafetensors(cache);
  const input = pooled(plain);
  const codec = await openCodec(syntheticProfile(), { threads: 2 });
  try {
    const { bytes } = await codec.compress(await readSafetensors(input), { ratio: 4, window: 32 });
    const file = pooled(bytes);
    const first = await codec.decompress(file);
    const second = await codec.decompress(file);
    assert(first.cache.equals(second.cache));
    assert(first.cache.equals((await codec.decompress(bytes)).cache));
    const { bytes: appended } = await codec.append(file, syntheticCache(3, { firstPosition: 400 }));
    assert(appended.length > 0);
    assertEquals(new Uint8Array(file), bytes);
    assertEquals(new Uint8Array(input), plain);
  } finally {
    await codec.close();
  }
});

Deno.test("the pairing of a Buffer's keys is converted in a copy", () => {
  const shape = { dtype: "f16", dim: 4, rotaryDim: 4 } as const;
  const keys = Uint8Array.from({ length: 16 }, (_, i) => i);
  const buffer = pooled(keys);
  assertEquals(
    new Uint8Array(convertPairing(buffer, shape, "adjacent", "half-split")),
    convertPairing(keys, shape, "adjacent", "half-split"),
  );
  assertEquals(new Uint8Array(buffer), keys);
});

Deno.test("a llama.cpp state in a Buffer has its own token ids", () => {
  const { layers, kvHeads: heads, keyDim, valueDim } = SMALL_MODEL;
  const state = llamaState({
    layers,
    heads,
    keyDim,
    valueDim,
    positions: [0, 1, 2],
    tokens: [17, 4, 99],
    keyType: "f16",
    valueType: "f16",
    key: (layer, head, t, i) => layer + head + t + i,
    value: () => 1,
  });
  const { cache } = readLlamaState(pooled(state), { model: SMALL_MODEL });
  assertEquals(cache.inputIds, Int32Array.of(17, 4, 99));
  assert(cache.equals(readLlamaState(state, { model: SMALL_MODEL }).cache));
});
