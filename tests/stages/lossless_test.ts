import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { contiguousPositions } from "../../src/codec/regions.ts";
import { WasmLossless } from "../../src/backend/wasm/lossless_kernels.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { ArrayPool } from "../../src/stages/array_pool.ts";
import { WasmRans } from "../../src/stages/entropy/rans.ts";
import type { RansFactory } from "../../src/stages/entropy/rans_factory.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import { LosslessCoder } from "../../src/stages/lossless/coder.ts";
import { packCodes, rowModel, unpackCodes } from "../../src/stages/lossless/codes.ts";
import { ReferenceLossless } from "../../src/stages/lossless/reference.ts";
import { headsOf, ropeTurns, rowGroups, rowOrder } from "../../src/stages/lossless/shape.ts";
import type { LosslessStreams } from "../../src/stages/lossless/streams.ts";
import { frequenciesOf, packTables, unpackTables } from "../../src/stages/entropy/packed_tables.ts";
import { decodeBlocks, type Filling, LOOPS, losslessCase, losslessCases, random } from "./lossless_cases.ts";

const NAMES = ["contexts", "symbols", "planes", "escapes"] as const;

function referenceCoder(shape: LosslessCoder["shape"]): LosslessCoder {
  return new LosslessCoder(new ReferenceLossless(), (tables) => new ReferenceRans(tables), shape);
}

for (const [name, open] of LOOPS) {
  Deno.test(`${name}: chunks come back bit by bit, coded as by the reference`, async () => {
    const loops = await open();
    await fc.assert(fc.asyncProperty(losslessCases(), async ({ shape, data, tokens, positions }) => {
      // In WebAssembly symbols are coded where the loops leave them.
      const rans: RansFactory = (tables) =>
        loops instanceof WasmLossless ? new WasmRans(loops, tables) : new ReferenceRans(tables);
      const coder = new LosslessCoder(loops, rans, shape);
      const streams = await coder.encode(headsOf(data, shape.blocks), tokens, positions);
      assertEquals(streams, await referenceCoder(shape).encode(headsOf(data, shape.blocks), tokens, positions));
      const limits = coder.limits(tokens);
      for (const stream of NAMES) assert(streams[stream].length <= limits[stream], stream);
      // A coder with memory of its own makes the same.
      const apart = new LosslessCoder(loops, (tables) => new ReferenceRans(tables), shape);
      assertEquals(await apart.encode(headsOf(data, shape.blocks), tokens, positions), streams);
      assertEquals(await decodeBlocks(coder, streams, tokens, positions), data);
      const expanded = await coder.expand(streams, tokens, positions);
      for (let block = 0; block < shape.blocks; block++) {
        const length = data.length / shape.blocks;
        const part = data.subarray(block * length, (block + 1) * length);
        assertEquals(await decodeBlocks(coder, streams, tokens, positions, block, block + 1), part);
        assertEquals(await decodeBlocks(coder, expanded, tokens, positions, block, block + 1), part);
      }
    }));
  });
}

Deno.test("streams lie in arrays of the pool, which serve the next chunk", async () => {
  const loops = await WasmLossless.open();
  for (const dtype of ["f16", "bf16", "f32"] as const) {
    const { shape, data, tokens, positions } = losslessCase(dtype, {
      ...{ blocks: 3, dim: 32, tokens: 70, pairs: 5, first: 9, seed: 4, filling: "cache" },
    });
    const coder = new LosslessCoder(loops, (tables) => new WasmRans(loops, tables), shape);
    const heads = headsOf(data, shape.blocks);
    const alone = await coder.encode(heads, tokens, positions);
    const pool = new ArrayPool(1 << 20);
    const buffers = new Set<ArrayBufferLike>();
    for (let round = 0; round < 3; round++) {
      const streams = await coder.encode(heads, tokens, positions, pool);
      assertEquals(streams, alone);
      for (const { buffer } of [streams.symbols, streams.planes]) buffers.add(buffer);
      for (const name of NAMES) pool.give(streams[name]);
    }
    // Symbols of all groups in one array, planes in another, in use again each time.
    assertEquals(buffers.size, 2, dtype);
  }
});

Deno.test("memory does not grow between a split and the last stream, and is given back", async () => {
  for (const dtype of ["f16", "bf16"] as const) {
    const loops = await WasmLossless.open();
    // Each chunk is larger than the one before; of one group of rows, and of many.
    for (const [blocks, tokens, pairs] of [[2, 64, 0], [3, 100, 8], [9, 500, 32], [40, 512, 0]]) {
      const { shape, data, positions } = losslessCase(dtype, {
        ...{ blocks, dim: 64, tokens, pairs, first: 3, seed: blocks, filling: "cache" },
      });
      let memory: ArrayBufferLike | undefined;
      const coder = new LosslessCoder(loops, (tables) => {
        // The first coder of a chunk is the symbols'.
        memory ??= loops.exports.memory.buffer;
        return new WasmRans(loops, tables);
      }, shape);
      const { symbols } = await coder.encode(headsOf(data, blocks), tokens, positions);
      assert(symbols.length < blocks * 64 * tokens, "symbols are coded");
      assert(memory === loops.exports.memory.buffer, `${dtype}: ${blocks} blocks, ${tokens} tokens`);
    }
    const inUse = loops.bytesInUse;
    const again = losslessCase(dtype, {
      ...{ blocks: 9, dim: 64, tokens: 500, pairs: 32, first: 3, seed: 9, filling: "cache" },
    });
    const coder = new LosslessCoder(loops, (tables) => new WasmRans(loops, tables), again.shape);
    await coder.encode(headsOf(again.data, 9), 500, again.positions);
    assertEquals(loops.bytesInUse, inUse);
  }
});

Deno.test("every bit of f16 survives: all values, NaN of every payload", async () => {
  const data = new Uint8Array(new Uint16Array(65536).map((_, i) => i).buffer);
  const shape = { blocks: 4, dim: 64, dtype: "f16", turns: new Uint32Array(0) } as const;
  const positions = contiguousPositions(0, 256);
  const coder = referenceCoder(shape);
  assertEquals(
    await decodeBlocks(coder, await coder.encode(headsOf(data, shape.blocks), 256, positions), 256, positions),
    data,
  );
});

Deno.test("every upper half of f32 and every bf16 survives", async () => {
  for (const dtype of ["bf16", "f32"] as const) {
    const words = dtype === "bf16"
      ? new Uint16Array(65536).map((_, i) => i)
      : new Uint32Array(65536).map((_, i) => (i << 16) | (i * 40503 & 0xffff));
    const data = new Uint8Array(words.buffer);
    const shape = { blocks: 4, dim: 64, dtype, turns: new Uint32Array(0) };
    const positions = contiguousPositions(0, 256);
    const coder = referenceCoder(shape);
    assertEquals(
      await decodeBlocks(coder, await coder.encode(headsOf(data, shape.blocks), 256, positions), 256, positions),
      data,
    );
  }
});

Deno.test("rows with means and rotations take fewer bits than one table would", async () => {
  const size = async (filling: Filling, pairs: number) => {
    const [blocks, dim] = [100, 6];
    const chunk = losslessCase("f16", { blocks, dim, tokens: 256, pairs, first: 0, seed: 5, filling });
    const bytes = async (turns: Uint32Array) => {
      const streams = await referenceCoder({ ...chunk.shape, turns }).encode(
        headsOf(chunk.data, chunk.shape.blocks),
        256,
        chunk.positions,
      );
      return NAMES.reduce((sum, name) => sum + streams[name].length, 0);
    };
    return { told: await bytes(chunk.shape.turns), untold: await bytes(new Uint32Array(0)), raw: chunk.data.length };
  };
  const turning = await size("cache", 3);
  assert(turning.told < 0.97 * turning.untold, JSON.stringify(turning));
  assert(turning.told < 0.85 * turning.raw, JSON.stringify(turning));
  const still = await size("cache", 0);
  assert(still.told < 0.85 * still.raw, JSON.stringify(still));
  const bits = await size("bits", 0);
  assert(bits.told < 1.01 * bits.raw, JSON.stringify(bits));
  const zeros = await size("zeros", 0);
  assert(zeros.told < 0.02 * zeros.raw, JSON.stringify(zeros));
});

Deno.test("damaged streams are refused or decode to a chunk, truncated ones are refused", async () => {
  for (const [dtype, filling] of [["f16", "cache"], ["bf16", "wide"], ["f32", "cache"], ["bf16", "bits"]] as const) {
    for (const tokens of [70, 6]) {
      const chunk = losslessCase(dtype, { blocks: 2, dim: 9, tokens, pairs: 3, first: 7, seed: 2, filling });
      const coder = referenceCoder(chunk.shape);
      const streams = await coder.encode(headsOf(chunk.data, chunk.shape.blocks), tokens, chunk.positions);
      const decode = (changed: LosslessStreams) => decodeBlocks(coder, changed, tokens, chunk.positions);
      for (const name of NAMES) {
        const bytes = streams[name];
        for (let length = 0; length < bytes.length; length += 1 + (length >> 5)) {
          // An empty stream of escapes is one without any.
          await assertRejects(() => decode({ ...streams, [name]: bytes.subarray(0, length) }), KvzFormatError);
        }
        await assertRejects(() => decode({ ...streams, [name]: Uint8Array.of(...bytes, 0) }), KvzFormatError);
        const next = random(11);
        for (let i = 0; i < 200 && bytes.length > 0; i++) {
          const damaged = bytes.slice();
          damaged[Math.floor(next() * damaged.length)] ^= 1 << (8 * next());
          await decodesOrRefuses(() => decode({ ...streams, [name]: damaged }), chunk.data.length);
        }
      }
    }
  }
});

Deno.test("any bytes as streams are refused or decode to a chunk", async () => {
  const bytes = fc.uint8Array({ maxLength: 600 });
  await fc.assert(fc.asyncProperty(
    losslessCases(),
    fc.record({ contexts: bytes, symbols: bytes, planes: bytes, escapes: bytes }),
    fc.integer({ min: 0, max: 2 }),
    async ({ shape, data, tokens, positions }, streams, mode) => {
      if (streams.contexts.length > 0) streams.contexts[0] = mode;
      await decodesOrRefuses(() => decodeBlocks(referenceCoder(shape), streams, tokens, positions), data.length);
    },
  ));
});

Deno.test("codes of rows survive; those out of range are refused", () => {
  const shape = { blocks: 2, dim: 4, dtype: "f16", turns: Uint32Array.of(1 << 28) } as const;
  const groups = rowGroups(shape, contiguousPositions(0, 8));
  const scales = Uint8Array.of(1, 2, 3, 63, 5, 6, 7, 0);
  const means = Uint8Array.of(255, 31, 3, 0, 31 + 128, 1, 2, 3);
  assertEquals(unpackCodes(packCodes({ scales, means }), groups), { scales, means });
  for (const [at, value] of [[0, 64], [8 + 1, 32], [8 + 4, 32], [8 + 5, 64]]) {
    const bytes = packCodes({ scales, means });
    bytes[at] = value;
    assertThrows(() => unpackCodes(bytes, groups), KvzFormatError);
  }
});

Deno.test("classes and map of rows: still ones, and a pair that turns", () => {
  const shape = { blocks: 1, dim: 3, dtype: "f16", turns: Uint32Array.of(1 << 28) } as const;
  const groups = rowGroups(shape, contiguousPositions(0, 16));
  assertEquals(groups[0].phases, Uint8Array.from({ length: 16 }, (_, t) => t));
  assertEquals(groups[1].phases, null);
  const model = rowModel({ scales: Uint8Array.of(33, 33, 20), means: Uint8Array.of(9, 31, 5 + 128) }, groups);
  assertEquals(model.octaves, Uint8Array.of(16, 16, 10));
  // Direction 31 + phase 0's middle 1 = 0: the cosine is 1, the sine 0.
  assertEquals(model.classes[0], 32 + 9);
  assertEquals(model.classes[16], 32 + 0);
  assertEquals(model.classes[8], 32 + 9);
  assertEquals([model.flips[0], model.flips[8], model.flips[16 + 4], model.flips[16 + 12]], [0, 128, 0, 128]);
  assertEquals(model.classes.subarray(32), new Uint8Array(16).fill(5));
  assertEquals(model.flips.subarray(32), new Uint8Array(16).fill(128));
});

Deno.test("rows: pairs first, then what does not turn", () => {
  const shape = { blocks: 2, dim: 5, dtype: "f16", turns: Uint32Array.of(1, 2) } as const;
  assertEquals(rowOrder(shape), Int32Array.of(0, 4, 1, 5, 8, 2, 6, 3, 7, 9));
  assertEquals(ropeTurns({ theta: 100, dim: 4, pairing: "half-split" }), Uint32Array.of(683565276, 68356528));
});

Deno.test("frequency tables sum to their size, keep every symbol and survive", () => {
  fc.assert(fc.property(
    fc.array(fc.array(fc.oneof(fc.constant(0), fc.nat(1000)), { minLength: 256, maxLength: 256 }), { maxLength: 3 }),
    (lists) => {
      const frequencies = new Uint16Array(256 * lists.length);
      lists.forEach((list, i) => {
        list[i] ||= 1;
        const table = frequenciesOf(Uint32Array.from(list), 11);
        assertEquals(table.reduce((sum, f) => sum + f), 2048);
        table.forEach((f, s) => assertEquals(f > 0, list[s] > 0));
        frequencies.set(table, 256 * i);
      });
      const bytes = packTables({ bits: 11, frequencies });
      const read = unpackTables(Uint8Array.of(9, ...bytes), 1, lists.length, 11);
      assertEquals(read, { tables: { bits: 11, frequencies }, end: 1 + bytes.length });
    },
  ));
});

/** A typed refusal, or a whole chunk; anything else fails. */
async function decodesOrRefuses(decode: () => Promise<Uint8Array>, length: number): Promise<void> {
  let data: Uint8Array;
  try {
    data = await decode();
  } catch (error) {
    assert(error instanceof KvzFormatError, `${error}`);
    return;
  }
  assertEquals(data.length, length);
}
