import { assert, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { openFile } from "../../src/codec/groups.ts";
import { openCodec } from "../../src/codec/open.ts";
import { WINDOW_CHUNK } from "../../src/codec/regions.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

const profile = syntheticProfile();

/** Stored payloads by tag and chunk. */
async function payloads(bytes: Uint8Array): Promise<Map<string, Uint8Array>> {
  const { reader } = await openFile(bytes);
  const out = new Map<string, Uint8Array>();
  for (const info of reader.records) out.set(`${info.tag} ${info.chunk}`, (await reader.read(info)).slice());
  return out;
}

Deno.test("a grown file equals one that was compressed at once", async () => {
  await using codec = await openCodec(profile);
  const splits = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 2, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(splits, fc.integer({ min: 0, max: 140 }), async (parts, window) => {
      const total = parts.reduce((a, b) => a + b, 0);
      const cache = syntheticCache(total, { seed: total });
      let end = parts[0];
      let { bytes } = await codec.compress(cache.slice(0, end), { ratio: 6, window });
      for (const part of parts.slice(1)) {
        const before = bytes;
        const grown = await codec.append(bytes, cache.slice(end, end + part));
        bytes = grown.bytes;
        end += part;
        assertEquals(bytes.subarray(0, grown.report.keptBytes), before.subarray(0, grown.report.keptBytes));
      }
      const once = (await codec.compress(cache, { ratio: 6, window })).bytes;
      assertEquals(await payloads(bytes), await payloads(once));
      const a = (await codec.decompress(bytes)).cache;
      assert(a.equals((await codec.decompress(once)).cache));
    }),
    { numRuns: 15 },
  );
});

Deno.test("appending keeps full chunks where they are", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(800);
  const { bytes } = await codec.compress(cache.slice(0, 700), { ratio: 6 });
  const grown = await codec.append(bytes, cache.slice(700, 800));
  const [before, after] = [await openFile(bytes), await openFile(grown.bytes)];
  const full = before.reader.records.filter(({ chunk, tokens }) => chunk < WINDOW_CHUNK && tokens === 256);
  assert(full.length > 0);
  for (const info of full) assertEquals(after.reader.records.find((r) => r.offset === info.offset), info);
});

Deno.test("what does not fit is not appended", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(400);
  const { bytes } = await codec.compress(cache.slice(0, 300));
  const wrong = [
    [syntheticCache(10, { firstPosition: 301 }), "begin at 301"],
    [syntheticCache(10, { firstPosition: 300, dtype: "f32" }), "f32"],
    [syntheticCache(10, { firstPosition: 300, inputIds: false }), "token ids"],
    [syntheticCache(10, { firstPosition: 300, model: { ...cache.model, layers: 2 } }), "layers"],
  ] as const;
  for (const [more, message] of wrong) await assertRejects(() => codec.append(bytes, more), KvzMismatchError, message);
});
