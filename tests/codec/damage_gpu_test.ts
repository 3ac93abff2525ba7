/** Files that are cut or damaged, on GPUs: typed errors as on the host, and a codec that goes on. */
import { assert, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { KINDS } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import {
  KvzBackendError,
  KvzFormatError,
  KvzLimitError,
  KvzMismatchError,
  KvzUnsupportedError,
} from "../../src/errors.ts";
import { BACKENDS } from "../backend/backends.ts";
import { casesFor } from "../cases.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const GPUS = BACKENDS.filter(([name]) => name === "cuda" || name === "webgpu");
const TYPED = [KvzBackendError, KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError];
const PROFILES = { kvz: await smallKvzProfile(), kvtc: syntheticProfile() };
const FILES: readonly (readonly [string, keyof typeof PROFILES, CompressOptions])[] = [
  ["kvz", "kvz", { sinks: 2, window: 4 }],
  ["kvtc", "kvtc", { recipe: "kvtc", ratio: 4, sinks: 2, window: 4 }],
  ["kvtc with rANS", "kvtc", { recipe: "kvtc", ratio: 4, sinks: 2, window: 4, entropy: "rans" }],
];
const cache = syntheticCache(40, { seed: 31 });

/** Longest that a small file may take, milliseconds. */
const LIMIT = 30_000;

/** A decoded cache's bytes, or the name of the typed error. */
async function outcome(codec: Codec, bytes: Uint8Array): Promise<readonly Uint8Array[] | string> {
  let timer;
  const hang = new Promise<never>((_, reject) => timer = setTimeout(() => reject(new Error("a hang")), LIMIT));
  try {
    const { cache } = await Promise.race([codec.decompress(bytes), hang]);
    return KINDS.map((kind) => cache.read(kind, 0, cache.tokens));
  } catch (error) {
    assert(TYPED.some((type) => error instanceof type), `${error}`);
    return (error as Error).name;
  } finally {
    clearTimeout(timer);
  }
}

/** The file with one of its chunks' coded streams changed, and every checksum right. */
async function rewritten(bytes: Uint8Array, which: number, change: (stream: Uint8Array) => void): Promise<Uint8Array> {
  const reader = await FrameReader.open(memorySource(bytes), "cache");
  const coded = reader.records.filter(({ chunk, tag, storedLength }) =>
    chunk < 2 ** 31 && tag !== "IDS " && storedLength > 0
  );
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, "cache", reader.header);
  await writer.start();
  for (const info of reader.records) {
    const payload = (await reader.read(info)).slice();
    if (info === coded[which % coded.length]) change(payload);
    await writer.writeRecord(info, payload);
  }
  await writer.finish();
  return sink.bytes();
}

for (const [label, options] of GPUS) {
  for (const [what, recipe, settings] of FILES) {
    Deno.test(`${label}: ${what}: every cut of a file is refused, and the codec goes on`, async () => {
      await using codec = await openCodec(PROFILES[recipe], options);
      const { bytes } = await codec.compress(cache, settings);
      const whole = await outcome(codec, bytes);
      for (let length = 0; length < bytes.length; length++) {
        await assertRejects(() => codec.decompress(bytes.subarray(0, length)), KvzFormatError);
      }
      assertEquals(await outcome(codec, bytes), whole);
    });

    Deno.test(`${label}: ${what}: damage, also under right checksums, is refused as by the host`, async () => {
      await using codec = await openCodec(PROFILES[recipe], options);
      await using host = await openCodec(PROFILES[recipe], { backend: "wasm" });
      const { bytes } = await codec.compress(cache, settings);
      const whole = await outcome(codec, bytes);
      const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
      const seen = { refused: 0, restored: 0 };
      await fc.assert(
        fc.asyncProperty(damage, fc.nat(), fc.nat(3), async (places, which, kind) => {
          const spoil = (part: Uint8Array) => {
            for (const [at, value] of places) part[at % part.length] = value;
          };
          const broken = kind === 0 ? bytes.slice() : await rewritten(bytes, which, spoil);
          if (kind === 0) spoil(broken);
          const found = await outcome(codec, broken);
          const wanted = await outcome(host, broken);
          assertEquals(typeof found === "string" ? found : "", typeof wanted === "string" ? wanted : "");
          if (typeof found === "string") seen.refused++;
          else seen.restored++;
        }),
        { numRuns: casesFor(60) },
      );
      assert(seen.refused > 5, JSON.stringify(seen));
      assertEquals(await outcome(codec, bytes), whole);
    });
  }
}
