/**
 * Makes tests/codec/golden.json: a small file of format version 1 with what it decodes to. Run it only when the format
 * gets a new version, and keep the old golden beside it.
 *
 *     deno run -A tests/codec/golden_make.ts
 *
 * @module
 */
import { toFloat32 } from "../../src/cache/elements.ts";
import { openFile, readGroup } from "../../src/codec/groups.ts";
import { openCodec } from "../../src/codec/open.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

const base64 = (bytes: Uint8Array) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

const codec = await openCodec(syntheticProfile(), { backend: "reference" });
const { bytes } = await codec.compress(syntheticCache(24, { seed: 5 }), {
  ratio: 5,
  window: 3,
  user: { note: "golden" },
});
const { cache } = await codec.decompress(bytes);
await codec.close();
const streams: Record<string, string> = {};
const file = await openFile(bytes);
for (const info of file.groups) {
  const { chunk, records } = await readGroup(file, info);
  for (const [tag, record] of records) {
    streams[`${tag} ${chunk}`] = base64(await decodeStream(record, record.rawLength, tag));
  }
}
await Deno.writeTextFile(
  new URL("./golden.json", import.meta.url),
  JSON.stringify({
    file: base64(bytes),
    /** Payloads before DEFLATE. */
    streams,
    key: [...toFloat32(cache.read("key", 0, 24), "f16")],
    value: [...toFloat32(cache.read("value", 0, 24), "f16")],
  }) + "\n",
);
