import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type ByteSource, MemorySink, memorySource } from "../../src/container/bytes.ts";
import { canonicalJson } from "../../src/container/canonical_json.ts";
import {
  FOOTER_BYTES,
  type FrameKind,
  INDEX_ENTRY_BYTES,
  PRELUDE_BYTES,
  RECORD_HEADER_BYTES,
} from "../../src/container/frame.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { readFrames } from "../../src/container/frame_stream.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import { KvzFormatError, KvzLimitError } from "../../src/errors.ts";
import {
  forge,
  HEADER,
  pieces,
  raw,
  readByRanges,
  readForward,
  type Sample,
  SAMPLES,
  u64,
  writeFile,
} from "./samples.ts";

const KINDS: FrameKind[] = ["cache", "profile", "statistics"];

const sampleArbitrary: fc.Arbitrary<Sample> = fc.record({
  tag: fc.string({ unit: "grapheme-ascii", minLength: 4, maxLength: 4 }).filter((t) => t !== "INDX"),
  chunk: fc.nat(0xffffffff),
  tokens: fc.nat(0xffffffff),
  stored: fc.uint8Array({ maxLength: 200 }),
  inflated: fc.option(fc.nat(1032)),
}).map(({ tag, chunk, tokens, stored, inflated }) => ({
  head: inflated === null
    ? { tag, chunk, tokens, codec: "raw", rawLength: stored.length }
    : { tag, chunk, tokens, codec: "deflate-raw", rawLength: stored.length * inflated },
  stored,
}));

/** Files written by make_frame_golden.py from docs/format.md. */
const golden: Record<FrameKind, string> = JSON.parse(
  await Deno.readTextFile(new URL("frame_golden.json", import.meta.url)),
);

Deno.test("frame: files of an independent writer are read, and written again byte for byte", async () => {
  const zeros = new Uint8Array(1000);
  const contents = await readByRanges(fromHex(golden.cache), "cache");
  assertEquals(contents.header, { a: [1, true, null], name: "é" });
  assertEquals(contents.records.map(({ info: { tag, chunk, tokens, codec } }) => [tag, chunk, tokens, codec]), [
    ["KCOD", 7, 256, "deflate-raw"],
    ["IDS ", 0, 2, "raw"],
  ]);
  const inflated = new Response(
    new Blob([contents.records[0].stored as Uint8Array<ArrayBuffer>]).stream()
      .pipeThrough(new DecompressionStream("deflate-raw")),
  );
  assertEquals(new Uint8Array(await inflated.arrayBuffer()), zeros);
  for (const kind of KINDS) {
    const { header, records } = await readByRanges(fromHex(golden[kind]), kind);
    const again = await writeFile(kind, header, records.map(({ info, stored }) => ({ head: info, stored })));
    assertEquals(again, fromHex(golden[kind]));
  }
});

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g)!, (byte) => parseInt(byte, 16));
}

Deno.test("frame: what was written is read by ranges and forward, in pieces of any size", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...KINDS),
      fc.dictionary(fc.string({ unit: "grapheme" }), fc.oneof(fc.integer(), fc.string({ unit: "grapheme" }))),
      fc.array(sampleArbitrary, { maxLength: 6 }),
      fc.integer({ min: 1, max: 100 }),
      async (kind, header, samples, piece) => {
        const bytes = await writeFile(kind, header, samples);
        const byRanges = await readByRanges(bytes, kind);
        assertEquals(await readForward(bytes, kind, piece), byRanges);
        assertEquals(canonicalJson(byRanges.header), canonicalJson(header));
        assertEquals(byRanges.records.length, samples.length);
        byRanges.records.forEach(({ info, stored }, i) => {
          const { tag, chunk, tokens, codec, rawLength } = info;
          assertEquals({ tag, chunk, tokens, codec, rawLength }, samples[i].head);
          assertEquals(stored, samples[i].stored);
        });
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("frame: every single-bit flip is detected by both readers", async () => {
  const bytes = await writeFile("cache", HEADER, SAMPLES);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = bytes.slice();
    flipped[bit >> 3] ^= 1 << (bit & 7);
    await assertRejects(() => readByRanges(flipped, "cache"), KvzFormatError, undefined, `bit ${bit} by ranges`);
    await assertRejects(() => readForward(flipped, "cache", 1 << 16), KvzFormatError, undefined, `bit ${bit} forward`);
  }
});

Deno.test("frame: every truncation and every trailing byte is refused by both readers", async () => {
  const bytes = await writeFile("profile", HEADER, SAMPLES);
  for (let length = 0; length < bytes.length; length++) {
    const cut = bytes.slice(0, length);
    await assertRejects(() => readByRanges(cut, "profile"), KvzFormatError, undefined, `${length} bytes by ranges`);
    await assertRejects(() => readForward(cut, "profile", 33), KvzFormatError, undefined, `${length} bytes forward`);
  }
  for (const tail of [[0], [0x1a], [...bytes]]) {
    const longer = Uint8Array.from([...bytes, ...tail]);
    await assertRejects(() => readByRanges(longer, "profile"), KvzFormatError);
    await assertRejects(() => readForward(longer, "profile", 33), KvzFormatError);
  }
});

Deno.test("frame: arbitrary bytes, and arbitrary damage, give a typed error or the right content", async () => {
  const bytes = await writeFile("cache", HEADER, SAMPLES);
  const whole = await readByRanges(bytes, "cache");
  const damage = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
  const hostile = fc.oneof(
    fc.uint8Array({ maxLength: 400 }),
    // Right magic, the rest arbitrary.
    fc.uint8Array({ maxLength: 400 }).map((rest) => Uint8Array.from([...bytes.subarray(0, 12), ...rest])),
    // Right beginning and end, the middle arbitrary.
    fc.tuple(fc.nat(bytes.length), fc.uint8Array({ maxLength: 100 }), fc.nat(bytes.length)).map(([a, middle, b]) =>
      Uint8Array.from([...bytes.subarray(0, a), ...middle, ...bytes.subarray(b)])
    ),
    damage.map((changes) => {
      const out = bytes.slice();
      for (const [at, value] of changes) out[at] = value;
      return out;
    }),
  );
  await fc.assert(
    fc.asyncProperty(hostile, async (data) => {
      for (const read of [() => readByRanges(data, "cache"), () => readForward(data, "cache", 50)]) {
        try {
          assertEquals(await read(), whole);
        } catch (error) {
          assert(error instanceof KvzFormatError, `${error}`);
        }
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("frame: another kind, version or flag is refused with both sides named", async () => {
  const bytes = await writeFile("profile", HEADER, SAMPLES);
  const messages: [Uint8Array, string][] = [
    [bytes, "Cannot read file: it is a profile (.kvzp), expected a compressed cache (.kvz)"],
    [set(await writeFile("cache", HEADER, []), 8, 2), "Cannot read file: format version is 2, expected 1"],
    [set(await writeFile("cache", HEADER, []), 10, 4), "Cannot read file: flags are 0x4, expected 0"],
    [set(await writeFile("cache", HEADER, []), 4, 0x58), "Cannot read file: it is of unknown kind 0x58, expected"],
    [set(await writeFile("cache", HEADER, []), 0, 0x09), "it does not begin with the kvz magic"],
    [set(await writeFile("cache", HEADER, []), 15, 0xff), "the limit is 16777216"],
  ];
  for (const [data, message] of messages) {
    await assertRejects(() => readByRanges(data, "cache"), KvzFormatError, message);
    await assertRejects(() => readForward(data, "cache", 99), KvzFormatError, message);
  }
});

function set(bytes: Uint8Array, at: number, value: number): Uint8Array {
  bytes[at] = value;
  return bytes;
}

/** Offsets in the file of {@linkcode forgeable}. */
async function forgeable() {
  const bytes = await writeFile("cache", {}, [raw("AAAA", 0, 1, [1, 2, 3]), raw("BBBB", 0, 1, [4, 5])]);
  const { records, indexOffset, headerEnd } = await FrameReader.open(memorySource(bytes), "cache");
  return { bytes, a: records[0].offset, b: records[1].offset, index: indexOffset, headerEnd };
}

Deno.test("frame: contradictions whose checksums fit are refused", async () => {
  const { bytes, a, b, index } = await forgeable();
  const footer = bytes.length - FOOTER_BYTES;
  const entries = index + RECORD_HEADER_BYTES;
  const record = (at: number, field: number, value: number[]) => forge(bytes, at + field, value, at, at + 36);
  /** Changes an index entry and mends the index's checksums. */
  const entry = (i: number, field: number, value: number[]) => {
    const out = forge(bytes, entries + i * INDEX_ENTRY_BYTES + field, value, entries, footer);
    const crc = [...out.subarray(footer, footer + 4)];
    out.set(bytes.subarray(footer, footer + 4), footer);
    return forge(out, index + 32, crc, index, index + 36);
  };
  const cases: [string, Uint8Array, string][] = [
    ["tag differs from the index", record(a, 0, [0x43]), "tag is CAAA, the index says AAAA"],
    ["chunk differs from the index", record(b, 4, [9]), "chunk is 9, the index says 0"],
    ["index names another chunk", entry(0, 4, [9]), "chunk is 0, the index says 9"],
    ["index names other tokens", entry(1, 8, [9]), "tokens is 1, the index says 9"],
    ["unknown codec", record(a, 12, [2]), "codec"],
    ["set bytes that must be zero", record(a, 13, [1]), "must be zero"],
    ["unprintable tag", record(a, 0, [0x07]), "not printable ASCII"],
    ["raw length of a raw record", record(a, 16, [4]), "is raw and stores 3 bytes, expected 4"],
    ["stored length beyond the file", entry(0, 16, [...u64(2 ** 40), ...u64(2 ** 40)]), "past the index"],
    ["lengths beyond 2^53", entry(0, 16, [...u64(2n ** 60n), ...u64(2n ** 60n)]), "exceeds 2^53 - 1"],
    ["record that leaves a gap", entry(1, 36, u64(b + 1)), `begins at ${b + 1}, expected ${b}`],
    ["record that overlaps", entry(1, 36, u64(b - 1)), `begins at ${b - 1}, expected ${b}`],
    ["DEFLATE that expands too much", entry(0, 12, [1, 0, 0, 0, ...u64(3 * 1032 + 1)]), "DEFLATE reaches 1032 times"],
    ["index listed in the index", entry(0, 0, [...new TextEncoder().encode("INDX")]), "lists an index"],
    ["footer with another length", forge(bytes, footer + 8, u64(bytes.length + 1), footer, footer + 20), "footer says"],
    ["footer that points at a record", forge(bytes, footer, u64(b), footer, footer + 20), "index"],
    ["footer that points into the header", forge(bytes, footer, u64(3), footer, footer + 20), "index"],
    ["footer that points past the end", forge(bytes, footer, u64(footer), footer, footer + 20), "index"],
    ["footer that points far past the end", forge(bytes, footer, u64(2n ** 63n), footer, footer + 20), "index offset"],
  ];
  for (const [name, data, message] of cases) {
    const byRanges = await assertRejects(() => readByRanges(data, "cache"), KvzFormatError, undefined, name);
    const forward = await assertRejects(() => readForward(data, "cache", 64), KvzFormatError, undefined, name);
    assert(`${byRanges} ${forward}`.includes(message), `${name}: ${byRanges} | ${forward}`);
  }
});

Deno.test("frame: a header that is not one canonical JSON object is refused", async () => {
  const texts = [
    '{"b":1,"a":2}',
    '{"a":1,"a":1}',
    '{"a": 1}',
    "[]",
    "null",
    "1",
    '"x"',
    "",
    "{",
    "{}x",
    '{"a":1e400}',
    "[".repeat(5000) + "]".repeat(5000),
  ];
  for (const text of texts) {
    const json = new TextEncoder().encode(text);
    const whole = await writeFile("cache", {}, []);
    const data = new Uint8Array(whole.length - 2 + json.length);
    data.set(whole.subarray(0, PRELUDE_BYTES));
    new DataView(data.buffer).setUint32(12, json.length, true);
    data.set(json, PRELUDE_BYTES);
    data.set(whole.subarray(PRELUDE_BYTES + 6), PRELUDE_BYTES + json.length + 4);
    const headerEnd = PRELUDE_BYTES + json.length + 4;
    const footer = data.length - FOOTER_BYTES;
    const sealed = forge(
      forge(data, 0, [0x89], 0, headerEnd - 4),
      footer,
      [...u64(headerEnd), ...u64(data.length)],
      footer,
      footer + 20,
    );
    await assertRejects(() => readByRanges(sealed, "cache"), KvzFormatError, undefined, text.slice(0, 20));
    await assertRejects(() => readForward(sealed, "cache", 64), KvzFormatError, "header", text.slice(0, 20));
  }
  // The same seal around a canonical header reads, so the refusals above are about the header.
  assertEquals((await readByRanges(await writeFile("cache", { a: 1 }, []), "cache")).header, { a: 1 });
});

Deno.test("frame: declared lengths allocate nothing before the bytes are there", async () => {
  const bytes = await writeFile("cache", {}, [raw("AAAA", 0, 1, [1, 2, 3])]);
  const { records: [{ offset }] } = await FrameReader.open(memorySource(bytes), "cache");
  const huge = 2 ** 50;
  const claims = forge(bytes, offset + 16, [...u64(huge), ...u64(huge)], offset, offset + 36);
  // Would throw RangeError (or hang) if the length were believed.
  await assertRejects(() => readForward(claims, "cache", 64, { maxRecordBytes: Infinity }), KvzFormatError, "ends at");
  await assertRejects(() => readForward(claims, "cache", 64), KvzLimitError, "the limit is 1073741824");
  await assertRejects(() => readForward(bytes, "cache", 64, { maxRecordBytes: 2 }), KvzLimitError, "the limit is 2");
  await readForward(bytes, "cache", 64, { maxRecordBytes: 3 });

  const header = bytes.slice();
  new DataView(header.buffer).setUint32(12, 16 << 20, true);
  await assertRejects(() => readByRanges(header, "cache"), KvzFormatError, "header ends at");
  // A source may lie about its size, too.
  const liar: ByteSource = {
    size: 2 ** 50,
    read: (at, n) => Promise.resolve(bytes.subarray(at, at + Math.min(n, 10))),
  };
  await assertRejects(() => FrameReader.open(liar, "cache"), KvzFormatError, "the source gave");
});

Deno.test("frame: ranged reading touches only both ends and the records asked for", async () => {
  const big = new Uint8Array(1 << 20);
  const samples = Array.from({ length: 8 }, (_, i) => raw("BIG ", i, 1, []));
  for (const sample of samples) Object.assign(sample, { head: { ...sample.head, rawLength: big.length }, stored: big });
  const bytes = await writeFile("cache", HEADER, samples);
  const reads: [number, number][] = [];
  const source = memorySource(bytes);
  const reader = await FrameReader.open({
    size: bytes.length,
    read: (at, n) => (reads.push([at, n]), source.read(at, n)),
  }, "cache");
  assertEquals(reads.length, 2);
  assert(reads.every(([, n]) => n <= 16384));
  assertEquals(await reader.read(reader.records[3]), big);
  assertEquals(reads[2], [reader.records[3].offset, RECORD_HEADER_BYTES + big.length]);
  await assertRejects(() => reader.read({ ...reader.records[3], offset: bytes.length }), RangeError);
});

Deno.test("frame: headers and indexes longer than the first reads", async () => {
  const header = { text: "x".repeat(10_000) };
  const samples = Array.from({ length: 1000 }, (_, i) => raw("TINY", i, 1, [i & 255]));
  const bytes = await writeFile("statistics", header, samples);
  const contents = await readByRanges(bytes, "statistics");
  assertEquals(contents.header, header);
  assertEquals(contents.records.map(({ stored }) => stored[0]), samples.map(({ stored }) => stored[0]));
  assertEquals(await readForward(bytes, "statistics", 7), contents);
});

Deno.test("frame: appending keeps all bytes before the index and equals writing at once", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(sampleArbitrary, { maxLength: 4 }),
      fc.array(sampleArbitrary, { maxLength: 4 }),
      async (before, after) => {
        const first = await writeFile("cache", HEADER, before);
        const reader = await FrameReader.open(memorySource(first), "cache");
        const sink = new MemorySink();
        const resume = { records: reader.records, offset: reader.indexOffset };
        const writer = new FrameWriter(sink, "cache", reader.header, resume);
        await writer.start();
        for (const { head, stored } of after) await writer.writeRecord(head, stored);
        await writer.finish();
        const joined = Uint8Array.from([...first.subarray(0, reader.indexOffset), ...sink.bytes()]);
        assertEquals(joined, await writeFile("cache", HEADER, [...before, ...after]));
        assertEquals(writer.bytesWritten, sink.bytes().length);
        assertEquals(writer.offset, joined.length);
      },
    ),
    { numRuns: 50 },
  );
});

Deno.test("frame: dropping the last record before appending replaces it", async () => {
  const first = await writeFile("cache", HEADER, [raw("KCOD", 0, 256, [1]), raw("WIND", 0, 3, [2, 3])]);
  const reader = await FrameReader.open(memorySource(first), "cache");
  const sink = new MemorySink();
  const resume = { records: reader.records.slice(0, 1), offset: reader.records[1].offset };
  const writer = new FrameWriter(sink, "cache", HEADER, resume);
  await writer.start();
  await writer.writeRecord({ tag: "WIND", chunk: 0, tokens: 1, codec: "raw", rawLength: 1 }, Uint8Array.of(9));
  await writer.finish();
  const joined = Uint8Array.from([...first.subarray(0, resume.offset), ...sink.bytes()]);
  assertEquals((await readByRanges(joined, "cache")).records.map(({ stored }) => [...stored]), [[1], [9]]);
});

Deno.test("frame: the writer refuses records and resumptions that the format cannot hold", async () => {
  const writer = new FrameWriter(new MemorySink(), "cache", {});
  const head = { tag: "AAAA", chunk: 0, tokens: 0, codec: "raw", rawLength: 0 } as const;
  await assertRejects(() => writer.writeRecord(head, new Uint8Array(0)), Error, "the writer is new");
  await writer.start();
  await assertRejects(() => writer.start(), Error, "the writer is open");
  for (
    const bad of [
      { tag: "AAA" },
      { tag: "INDX" },
      { tag: "AAA\u00e9" },
      { chunk: -1 },
      { chunk: 2 ** 32 },
      { tokens: 0.5 },
      { rawLength: 1 },
      { rawLength: NaN },
      { codec: "deflate-raw", rawLength: 1 } as const,
    ]
  ) {
    await assertRejects(
      () => writer.writeRecord({ ...head, ...bad }, new Uint8Array(0)),
      RangeError,
      "Cannot write record",
    );
  }
  await writer.writeRecord(head, new Uint8Array(0));
  await writer.finish();
  await assertRejects(() => writer.finish(), Error, "the writer is finished");

  const records = writer.records;
  for (const resume of [{ records, offset: 1 }, { records: [], offset: records[0].offset + 1 }]) {
    assertThrows(() => new FrameWriter(new MemorySink(), "cache", {}, resume), RangeError, "Cannot append");
  }
  const other = { records, offset: records[0].offset + RECORD_HEADER_BYTES };
  assertThrows(() => new FrameWriter(new MemorySink(), "cache", { a: 1 }, other), RangeError, "Cannot append");
  assertThrows(() => new FrameWriter(new MemorySink(), "cache", { a: "x".repeat(17 << 20) }), RangeError, "the limit");
});

Deno.test("frame: a failed or overlapping write ends the writer", async () => {
  let fail = true;
  const writer = new FrameWriter(
    { write: () => fail ? Promise.reject(new Error("disk full")) : undefined },
    "cache",
    {},
  );
  await assertRejects(() => writer.start(), Error, "disk full");
  fail = false;
  await assertRejects(() => writer.finish(), Error, "the writer is busy");

  const slow = new FrameWriter({ write: () => new Promise((done) => setTimeout(done, 1)) }, "cache", {});
  await slow.start();
  const head = { tag: "AAAA", chunk: 0, tokens: 0, codec: "raw", rawLength: 1 } as const;
  const first = slow.writeRecord(head, new Uint8Array(1));
  await assertRejects(() => slow.writeRecord(head, new Uint8Array(1)), Error, "the writer is busy");
  await first;
  await slow.finish();
});

Deno.test("frame: a stream is cancelled when reading stops early, and its own error comes through", async () => {
  const bytes = await writeFile("cache", HEADER, SAMPLES);
  let cancelled = 0;
  const stream = () =>
    new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(bytes.subarray(0, 150)),
      cancel: () => void cancelled++,
    });
  for await (const frame of readFrames(stream(), "cache")) if (frame.type === "header") break;
  assertEquals(cancelled, 1);
  await assertRejects(async () => {
    for await (const _ of readFrames(stream(), "profile"));
  }, KvzFormatError);
  assertEquals(cancelled, 2);

  const broken = new ReadableStream<Uint8Array>({ pull: () => Promise.reject(new Error("connection lost")) });
  await assertRejects(
    async () => {
      for await (const _ of readFrames(broken, "cache"));
    },
    Error,
    "connection lost",
  );

  let returned = false;
  const iterable = {
    async *[Symbol.asyncIterator]() {
      try {
        for await (const piece of pieces(bytes, 20)) yield piece;
      } finally {
        returned = true;
      }
    },
  };
  for await (const frame of readFrames(iterable, "cache")) if (frame.type === "record") break;
  assert(returned);
});
