/** Profiles whose checksums are right and whose contents are not. */
import { assert, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { openCodec } from "../../../src/codec/open.ts";
import { MemorySink, memorySource } from "../../../src/container/bytes.ts";
import type { JsonObject } from "../../../src/container/canonical_json.ts";
import { FrameReader } from "../../../src/container/frame_reader.ts";
import { FrameWriter } from "../../../src/container/frame_writer.ts";
import { KvzFormatError, KvzMismatchError } from "../../../src/errors.ts";
import { parseProfile, serializeProfile } from "../../../src/profile/profile.ts";
import type { KvzProfile } from "../../../src/profile/kvz/types.ts";
import { decodeStream, encodeStream } from "../../../src/stages/entropy/deflate.ts";
import { smallKvzProfile } from "../../codec/kvz_profile.ts";
import { syntheticCache } from "../../synthetic.ts";

const profile = await smallKvzProfile();
const whole = await serializeProfile(profile);

type Section = readonly [tag: string, bytes: Uint8Array];

async function sectionsOf(file: Uint8Array): Promise<{ header: JsonObject; sections: Section[] }> {
  const reader = await FrameReader.open(memorySource(file), "profile");
  const sections = await Promise.all(reader.records.map(async (record) => {
    const { tag, codec, rawLength } = record;
    return [tag, await decodeStream({ codec, rawLength, bytes: await reader.read(record) }, rawLength, tag)] as const;
  }));
  return { header: reader.header, sections };
}

async function framed(header: JsonObject, sections: readonly Section[]): Promise<Uint8Array> {
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, "profile", header);
  await writer.start();
  const pieces = new Map<string, number>();
  for (const [tag, data] of sections) {
    const chunk = pieces.get(tag) ?? 0;
    pieces.set(tag, chunk + 1);
    const { codec, bytes, rawLength } = await encodeStream(data);
    await writer.writeRecord({ tag, chunk, tokens: 0, codec, rawLength }, bytes);
  }
  await writer.finish();
  return sink.bytes();
}

const { header, sections } = await sectionsOf(whole);

Deno.test("the sections of a profile, framed anew, are that profile", async () => {
  assertEquals(await parseProfile(await framed(header, sections)), profile);
});

Deno.test("sections of other bytes: a typed error, or a profile that restores or refuses a file", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(40);
  const { bytes: file } = await codec.compress(cache);
  const seen = { refused: 0, read: 0 };
  const change = fc.record({
    which: fc.nat(sections.length - 1),
    bytes: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 5 }),
    cut: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: -3, max: 9 }) }),
  });
  await fc.assert(
    fc.asyncProperty(change, async ({ which, bytes, cut }) => {
      const changed = sections.map(([tag, data], i): Section => {
        if (i !== which) return [tag, data];
        const out = new Uint8Array(Math.max(0, data.length - cut));
        out.set(data.subarray(0, out.length));
        for (const [at, value] of bytes) if (out.length > 0) out[at % out.length] = value;
        return [tag, out];
      });
      let parsed: KvzProfile;
      try {
        parsed = await parseProfile(await framed(header, changed)) as KvzProfile;
      } catch (error) {
        assert(error instanceof KvzFormatError, `${error}`);
        seen.refused++;
        return;
      }
      seen.read++;
      await using other = await openCodec(parsed);
      try {
        assertEquals((await other.decompress(file)).cache.tokens, 40);
      } catch (error) {
        assert(error instanceof KvzFormatError || error instanceof KvzMismatchError, `${error}`);
      }
    }),
    { numRuns: 150 },
  );
  assert(seen.refused > 10 && seen.read > 10, JSON.stringify(seen));
});

Deno.test("sections twice, missing, unknown", async () => {
  for (const [i, [tag]] of sections.entries()) {
    await assertRejects(
      async () => await parseProfile(await framed(header, sections.filter((_, j) => j !== i))),
      KvzFormatError,
      tag.trim(),
    );
    const twice = [...sections, sections[i]];
    await assertRejects(async () => await parseProfile(await framed(header, twice)), KvzFormatError, tag.trim());
  }
  const unknown = [...sections, ["XXXX", Uint8Array.of(1)] as const];
  await assertRejects(async () => await parseProfile(await framed(header, unknown)), KvzFormatError, "XXXX");
});

Deno.test("headers that claim what no file of this size holds are refused before anything is allocated", async () => {
  const model = header.model as JsonObject;
  const claims: JsonObject[] = [
    { components: 4096 },
    { components: 0 },
    { components: 2 ** 31 },
    { shingles: 2 ** 31 },
    { basisBytes: 2 ** 40 },
    { basisBytes: 0 },
    { basisTables: 255 },
    { basisTables: 1 },
    { curve: 256 },
    { steps: Array.from({ length: 64 }, (_, i) => i), stepBits: Array.from({ length: 64 }, () => 1) },
    { steps: [], stepBits: [] },
    { model: { ...model, layers: 4096, kvHeads: 4096 } },
    { model: { ...model, keyDim: 65536, valueDim: 65536 } },
    { model: { ...model, layers: 4096, kvHeads: 4096, keyDim: 65536, valueDim: 65536 }, components: 4096 },
  ];
  for (const claim of claims) {
    const file = await framed({ ...header, ...claim }, sections);
    const before = performance.now();
    await assertRejects(() => parseProfile(file), KvzFormatError, undefined, JSON.stringify(claim));
    assert(performance.now() - before < 10_000, JSON.stringify(claim));
  }
});

Deno.test("a small file that inflates to a large basis stops at the coder's limit", async () => {
  // 2^19 features and 4096 components: all symbols of a table with one symbol cost no bytes.
  const features = 2 ** 19;
  const components = 4096;
  const zeros = (length: number) => new Uint8Array(length);
  const table = new Uint16Array(128);
  table[0] = 4096;
  const states = new Uint8Array(Uint32Array.from({ length: 32 }, () => 1 << 16).buffer);
  const small = {
    model: { layers: 2 ** 9, kvHeads: 2 ** 9, keyDim: 1, valueDim: 1, rope: null },
    components,
    basisTables: 1,
    basisBytes: states.length,
    shingles: 0,
    curve: 0,
    steps: [0],
    stepBits: [1],
  };
  const made: Section[] = [
    ["MEAN", zeros(4 * features)],
    ["SCAL", zeros(4 * features)],
    ["VARI", zeros(4 * components)],
    ["BMUL", zeros(components).fill(1)],
    ["BCLS", zeros(components)],
    ["BTAB", new Uint8Array(table.buffer)],
    ["BASI", states],
    ["SENL", zeros(features)],
    ["SENH", zeros(features)],
    ["RHO ", zeros(5 * components)],
    ["SIGM", zeros(10 * components)],
    sections.find(([tag]) => tag === "TABL")!,
  ];
  const file = await framed({ ...header, ...small }, made);
  assert(file.length < 50_000, `${file.length} bytes`);
  await assertRejects(() => parseProfile(file), KvzFormatError, "expected at most");
});
