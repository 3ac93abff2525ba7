import { assertEquals, assertLess } from "deno-std/assert";
import { toFloat32 } from "../../src/cache/elements.ts";
import { openFile, readGroup } from "../../src/codec/groups.ts";
import { openCodec } from "../../src/codec/open.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { BACKENDS } from "../backend/backends.ts";
import golden from "./golden.json" with { type: "json" };

const fromBase64 = (text: string) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const file = fromBase64(golden.file);

Deno.test("a file of version 1 reads as it was written", async () => {
  const { header, tokens, groups } = await openFile(file);
  assertEquals(header.recipe, {
    name: "kvtc",
    version: 1,
    options: { keyRatio: 5, ratio: 5, sinks: 4, valueRatio: 5, window: 3 },
  });
  assertEquals([tokens, header.firstPosition, header.chunkTokens, header.user], [24, 0, 256, { note: "golden" }]);
  assertEquals(groups.map(({ chunk, tokens }) => [chunk, tokens]), [
    [0xfffffffd, 0],
    [0xfffffffe, 4],
    [0, 17],
    [0xffffffff, 3],
  ]);
});

for (const [name, options] of BACKENDS) {
  Deno.test(`golden file, ${name}`, async () => {
    await using codec = await openCodec(syntheticProfile(), options);
    const { cache } = await codec.decompress(file);
    for (const kind of ["key", "value"] as const) {
      const found = toFloat32(cache.read(kind, 0, 24), "f16");
      golden[kind].forEach((wanted, i) => {
        // One unit in the last place of binary16, where the f32 transform rounds the other way.
        assertLess(Math.abs(found[i] - wanted), Math.max(Math.abs(wanted), 2 ** -14) * 2 ** -9);
      });
    }
    // What encoding makes, before DEFLATE.
    const again = await openFile(
      (await codec.compress(syntheticCache(24, { seed: 5 }), { ratio: 5, window: 3 })).bytes,
    );
    let [bytes, different] = [0, 0];
    for (const info of again.groups) {
      const { chunk, records } = await readGroup(again, info);
      for (const [tag, record] of records) {
        const stream = await decodeStream(record, record.rawLength, tag);
        const wanted = fromBase64(golden.streams[`${tag} ${chunk}` as keyof typeof golden.streams]);
        assertEquals(stream.length, wanted.length);
        bytes += stream.length;
        stream.forEach((byte, i) => different += Number(byte !== wanted[i]));
      }
    }
    // Rounding ties of the f32 transform may turn a code or the last bit of a scale; on CUDA its rows are binary16.
    assertLess(different / bytes, name === "reference" ? Number.MIN_VALUE : name === "cuda" ? 0.04 : 0.01);
  });
}
