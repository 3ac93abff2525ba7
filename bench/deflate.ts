/**
 * DEFLATE implementations on real code streams: the platform's CompressionStream (what kvz uses), node:zlib and fflate,
 * compared with benny.
 *
 *     deno run -A bench/deflate.ts [--cache C.safetensors] [--profile P.kvzp] [--ratio 32]
 *
 * @module
 */
import b from "benny";
import { deflateSync as fflateDeflate, inflateSync as fflateInflate } from "fflate";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { openFile, readGroup } from "../src/codec/groups.ts";
import { openCodec } from "../src/codec/open.ts";
import { decodeStream, encodeStream } from "../src/stages/entropy/deflate.ts";
import { loadInputs, option } from "./inputs.ts";

const { cache, profile } = await loadInputs();
const codec = await openCodec(profile);
const { bytes } = await codec.compress(cache, { ratio: Number(option("ratio", "32")), window: 32 });
await codec.close();
const file = await openFile(bytes);
const chunk = file.groups.find(({ chunk }) => chunk === 0)!;
const record = (await readGroup(file, chunk)).records.get("KQ4 ")!;
const raw = await decodeStream(record, record.rawLength, "codes");
const coded = await encodeStream(raw);
console.log(`int4 codes of the keys of one chunk: ${raw.length} bytes, CompressionStream makes ${coded.bytes.length}`);
for (const level of [1, 6, 9] as const) {
  console.log(`node:zlib level ${level}: ${deflateRawSync(raw, { level }).length}`);
}
console.log(`fflate level 6: ${fflateDeflate(raw, { level: 6 }).length}`);

await b.suite(
  "deflate",
  b.add("CompressionStream", async () => void await encodeStream(raw)),
  b.add("node:zlib level 6", () => void deflateRawSync(raw, { level: 6 })),
  b.add("fflate level 6", () => void fflateDeflate(raw, { level: 6 })),
  b.cycle(),
  b.complete(),
);
await b.suite(
  "inflate",
  b.add("DecompressionStream", async () => void await decodeStream(coded, raw.length, "codes")),
  b.add("node:zlib", () => void inflateRawSync(coded.bytes)),
  b.add("fflate", () => void fflateInflate(coded.bytes)),
  b.cycle(),
  b.complete(),
);
