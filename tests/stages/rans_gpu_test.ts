import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { RANS_STATUS } from "../../src/backend/gpu/entropy.ts";
import { reciprocal } from "../../src/backend/gpu/entropy_tables.ts";
import { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { KvzBackendError } from "../../src/errors.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import { normalizeTables } from "../../src/stages/entropy/rans_tables.ts";
import { dirty, generator, upload } from "../backend/backends.ts";
import { cases, coderCases, CODERS, GPU_BACKENDS, NEXT, outcome } from "./rans_cases.ts";
import {
  batches,
  decodeBatch,
  encodeBatch,
  layOut,
  randomBatch,
  referenceStreams,
  testEntropy,
  throughDevice,
  words,
} from "./rans_gpu_cases.ts";

Deno.test("reciprocals of all frequencies divide all states that they meet", () => {
  const next = generator(9);
  for (const bits of [11, 12]) {
    for (let f = 1; f <= 1 << bits; f++) {
      const { factor, shift, add } = reciprocal(f, bits);
      assert(Number.isInteger(factor) && factor > 0 && factor < 2 ** 32, `${f}`);
      // Wrong quotients would be wrong at the largest states, right below and at a multiple of f.
      const most = 2 ** (32 - bits);
      const multiples = [most - 1, most - 2, 1, Math.floor(next() * most), Math.floor(next() * most)];
      if (f === 1 << bits) continue;
      for (const x of multiples.flatMap((q) => [q * f, q * f + f - 1])) {
        const quotient = BigInt(x + add) * BigInt(factor) >> 32n >> BigInt(shift);
        assertEquals(Number(quotient), Math.floor(x / f), `${x} / ${f}, ${bits} bits`);
      }
    }
  }
});

testEntropy("streams are the reference's, one after the other, and decode again", async (backend, kernels, label) => {
  await fc.assert(
    fc.asyncProperty(batches, async (batch) => {
      const wanted = referenceStreams(batch);
      const { bytes, begins, lengths } = await encodeBatch(backend, kernels, batch);
      const laidOut = layOut(wanted, 4);
      assertEquals(begins, laidOut.begins);
      assertEquals(Array.from(lengths), wanted.map(({ length }) => length));
      for (const [i, stream] of wanted.entries()) {
        assertEquals(bytes.subarray(begins[i], begins[i] + lengths[i]), stream);
        assertEquals(bytes.subarray(begins[i] + lengths[i], begins[i + 1]).every((byte) => byte === 0), true);
      }
      // Decoded from a layout without gaps, since a range is a stream.
      const tight = layOut(wanted, 2);
      const back = await decodeBatch(backend, kernels, batch, tight.bytes, tight.begins);
      assertEquals(back.status, new Uint32Array(batch.streams));
      assertEquals(back.symbols, batch.symbols);
      const through = await throughDevice(backend, kernels, batch);
      assertEquals(through, { symbols: batch.symbols, status: new Uint32Array(batch.streams) });
    }),
    { numRuns: coderCases(label) },
  );
});

testEntropy("damaged streams have the reference's status, the others are decoded", async (backend, kernels, label) => {
  const damage = fc.record({
    batch: batches.filter(({ streams, rows, tokens }) => streams > 0 && rows * tokens > 0),
    victim: fc.nat(),
    kind: fc.constantFrom("flip", "cut", "grow", "noise", "zero"),
    at: fc.nat(),
  });
  const codes: Record<string, number> = { "below": RANS_STATUS.badState, "ends before": RANS_STATUS.truncated };
  await fc.assert(
    fc.asyncProperty(damage, async ({ batch, victim, kind, at }) => {
      const streams = referenceStreams(batch);
      const which = victim % batch.streams;
      streams[which] = damaged(streams[which], kind, at);
      const { bytes, begins } = layOut(streams, 2);
      const { rows, tokens, contexts, tables } = batch;
      const found = await decodeBatch(backend, kernels, batch, bytes, begins);
      const message = await outcome(() =>
        new ReferenceRans(tables).decode(streams[which], rows, tokens, contexts[which] ?? contexts[0])
      );
      let wanted: number = RANS_STATUS.ok;
      if (typeof message === "string") {
        const known = Object.keys(codes).find((text) => message.includes(text));
        wanted = known !== undefined ? codes[known] : RANS_STATUS.notAtEnd;
        // A length that no stream of the geometry has is refused by the host before kernels see it.
        if (message.includes("the stream has")) {
          wanted = streams[which].length < 4 * Math.min(32, tokens) ? RANS_STATUS.truncated : found.status[which];
          assert(found.status[which] !== RANS_STATUS.ok);
        }
      }
      assertEquals(
        Array.from(found.status),
        streams.map((_, i) => i === which ? wanted : RANS_STATUS.ok),
        `${message}`,
      );
      const count = rows * tokens;
      for (let i = 0; i < batch.streams; i++) {
        if (i === which && wanted !== RANS_STATUS.ok) continue;
        const part = found.symbols.subarray(i * count, (i + 1) * count);
        assertEquals(part, i === which ? message : batch.symbols.subarray(i * count, (i + 1) * count));
      }
    }),
    { numRuns: coderCases(label) },
  );
});

function damaged(stream: Uint8Array, kind: string, at: number): Uint8Array {
  const bytes = stream.slice();
  if (kind === "flip") bytes[at % bytes.length] ^= 1 << at % 8;
  if (kind === "cut") return bytes.subarray(0, 2 * (at % (bytes.length / 2)));
  if (kind === "grow") return Uint8Array.of(...bytes, ...new Uint8Array(2 + 2 * (at % 50)).fill(at));
  if (kind === "noise") bytes.forEach((_, i) => bytes[i] = (at * 31 + i * i * 7) >> 3);
  if (kind === "zero") bytes.fill(0, bytes.length >> 1);
  return bytes;
}

testEntropy("a stream with a symbol that its table lacks is marked, the others are coded", async (backend, kernels) => {
  const tables = normalizeTables([[1, 1], [1, 1, 1]], 11);
  for (const tokens of [40, 128]) {
    const symbols = new Uint8Array(5 * 2 * tokens).map((_, i) => i % 2);
    // Symbol 2 in the last stream's row of table 1 is fine, in the second stream's row of table 0 it is not.
    symbols[4 * 2 * tokens + tokens + 3] = 2;
    symbols[2 * tokens + 5] = 2;
    const contexts: RansContexts[] = [{ variant: "plain", tableOf: Uint16Array.of(0, 1) }];
    const batch = { streams: 5, rows: 2, tokens, symbols, contexts, tables };
    const { bytes, begins, lengths } = await encodeBatch(backend, kernels, batch);
    const rans = new ReferenceRans(tables);
    for (let i = 0; i < 5; i++) {
      const part = symbols.subarray(i * 2 * tokens, (i + 1) * 2 * tokens);
      if (i === 1) {
        assertEquals([lengths[i], begins[i + 1] - begins[i]], [0xffffffff, 0]);
        assertThrows(() => rans.encode(part, 2, tokens, contexts[0]), RangeError, "frequency 0");
      } else {
        const wanted = rans.encode(part, 2, tokens, contexts[0]);
        assertEquals(bytes.subarray(begins[i], begins[i] + lengths[i]), wanted);
      }
    }
  }
});

testEntropy("every frequency divides exactly", async (backend, kernels) => {
  const next = generator(3);
  for (const bits of [11, 12] as const) {
    const streams = (1 << bits) - 1;
    const frequencies = new Uint16Array(256 * streams);
    const contexts: RansContexts[] = [];
    for (let i = 0; i < streams; i++) {
      frequencies.set([i + 1, (1 << bits) - i - 1], 256 * i);
      contexts.push({ variant: "plain", tableOf: new Uint16Array(8).fill(i) });
    }
    // Both symbols as often, whatever their frequencies, so that states of all sizes meet both.
    const symbols = Uint8Array.from({ length: streams * 8 * 33 }, () => next() * 2);
    const batch = { streams, rows: 8, tokens: 33, symbols, contexts, tables: { bits, frequencies } };
    const { bytes, begins, lengths } = await encodeBatch(backend, kernels, batch);
    for (const [i, wanted] of referenceStreams(batch).entries()) {
      assertEquals(bytes.subarray(begins[i], begins[i] + lengths[i]), wanted, `frequency ${i + 1} of 2^${bits}`);
    }
  }
});

testEntropy("thousands of streams, more than run at once", async (backend, kernels) => {
  for (const [tables, tokens] of [[1, 32], [2, 20]]) {
    const batch = randomBatch({
      ...{ streams: 9000, rows: 1, tokens, variant: "plain", bits: 11, tables, alphabet: 16, decay: 0.8, shared: true },
      ...{ seed: 7 },
    });
    const wanted = referenceStreams(batch);
    const { bytes, begins, lengths } = await encodeBatch(backend, kernels, batch);
    assertEquals(begins, layOut(wanted, 4).begins);
    for (const [i, stream] of wanted.entries()) {
      assertEquals(bytes.subarray(begins[i], begins[i] + lengths[i]), stream);
    }
    const through = await throughDevice(backend, kernels, batch);
    assertEquals(through, { symbols: batch.symbols, status: new Uint32Array(batch.streams) });
  }
});

testEntropy("few, many and very many tables, which kernels look up in different ways", async (backend, kernels) => {
  for (
    const [variant, tables] of [["plain", 1], ["plain", 30], ["plain", 400], ["trellis", 2], ["trellis", 128]] as const
  ) {
    for (const tokens of [70, 256, 300]) {
      const batch = randomBatch({
        ...{
          streams: 5,
          rows: 9,
          tokens,
          variant,
          bits: 12,
          tables,
          alphabet: 250,
          decay: 0.97,
          shared: false,
          seed: 6,
        },
      });
      const wanted = referenceStreams(batch);
      const { bytes, begins } = layOut(wanted, 2);
      const found = await decodeBatch(backend, kernels, batch, bytes, begins);
      assertEquals(found, { symbols: batch.symbols, status: new Uint32Array(5) }, `${variant} ${tables} ${tokens}`);
      const coded = await encodeBatch(backend, kernels, batch);
      for (const [i, stream] of wanted.entries()) {
        assertEquals(coded.bytes.subarray(coded.begins[i], coded.begins[i] + coded.lengths[i]), stream);
      }
    }
  }
});

testEntropy("batches in parts, as devices take that bind little, give the same bytes", async (backend, kernels) => {
  if (!(backend instanceof WebGpuBackend)) return;
  // Where a stream's buffers begin is then no multiple of what bindings begin at.
  Object.defineProperty(backend.device, "mostBytes", { value: 1 << 11 });
  for (const variant of ["plain", "trellis"] as const) {
    for (const [streams, tokens] of [[9, 36], [7, 300], [5, 70]]) {
      const batch = randomBatch({
        ...{ streams, rows: 3, tokens, variant, bits: 11, tables: 6, alphabet: 16, decay: 0.8, shared: false, seed: 8 },
      });
      const { bytes, begins, lengths } = await encodeBatch(backend, kernels, batch);
      for (const [i, wanted] of referenceStreams(batch).entries()) {
        assertEquals(bytes.subarray(begins[i], begins[i] + lengths[i]), wanted);
      }
      const through = await throughDevice(backend, kernels, batch);
      assertEquals(through, { symbols: batch.symbols, status: new Uint32Array(streams) });
    }
  }
});

testEntropy("contexts that lie on the device", async (backend, kernels) => {
  const batch = randomBatch({
    ...{ streams: 3, rows: 5, tokens: 70, variant: "trellis", bits: 11, tables: 6, alphabet: 16, decay: 0.8 },
    ...{ shared: false, seed: 4 },
  });
  const parts = batch.contexts.map((it) => it.variant === "trellis" ? it : null);
  const classes = upload(backend, Uint8Array.from(parts.flatMap((it) => [...it!.classes])));
  const kinds = upload(backend, Uint8Array.from(parts.flatMap((it) => [...it!.kinds])));
  const tables = kernels.uploadTables(batch.tables);
  const contexts = kernels.wrapContexts(classes, kinds, NEXT);
  const { bytes, begins } = layOut(referenceStreams(batch), 2);
  const [from, at] = [upload(backend, bytes), upload(backend, begins)];
  const [symbols, status] = [dirty(backend, batch.symbols.length), dirty(backend, 12)];
  kernels.decode(from, at, batch, tables, contexts, symbols, status);
  assertEquals(await words(backend, status, 3), new Uint32Array(3));
  assertEquals(await backend.read(symbols), batch.symbols);
  contexts.free();
  assertEquals((await backend.read(kinds)).length, 3 * 70);
});

testEntropy("what does not fit is refused", async (backend, kernels) => {
  const tables = kernels.uploadTables(normalizeTables([[1, 1], [1]], 11));
  assertThrows(() => kernels.uploadTables({ bits: 11, frequencies: new Uint16Array(256) }), RangeError, "sums to 0");
  const batch = { streams: 2, rows: 1, tokens: 8 };
  const plain = { variant: "plain" as const, tableOf: Uint16Array.of(1) };
  const trellis = { variant: "trellis" as const, classes: new Uint8Array(16), kinds: new Uint8Array(8), next: NEXT };
  const wrong: [RansContexts[], string][] = [
    [[], "there are 0"],
    [[plain, plain, plain], "there are 3"],
    [[plain, trellis], "trellis ones among plain ones"],
    [[{ ...plain, tableOf: Uint16Array.of(2) }], "tableOf[0] is 2"],
    [[trellis, { ...trellis, next: new Uint8Array(16) }], "successors"],
    [[{ ...trellis, kinds: new Uint8Array(7) }], "kinds has 7"],
  ];
  for (const [contexts, text] of wrong) {
    assertThrows(() => kernels.uploadContexts(contexts, batch, 2), RangeError, text);
  }
  const contexts = kernels.uploadContexts([plain], batch, 2);
  const [big, small] = [backend.alloc(1024), backend.alloc(4)];
  assertThrows(() => kernels.decode(big, small, batch, tables, contexts, big, big), RangeError, "begins");
  assertThrows(() => kernels.decode(big, big, batch, tables, contexts, small, big), RangeError, "symbols");
  assertThrows(() => kernels.decode(big, big, batch, tables, contexts, big, small), RangeError, "status");
  assertThrows(() => kernels.encode(small, batch, tables, contexts, big, big, big), RangeError, "symbols");
  assertThrows(() => kernels.encode(big, batch, tables, contexts, small, big, big), RangeError, "bytes");
  const huge = { streams: 2 ** 20, rows: 2 ** 10, tokens: 8 };
  assertThrows(() => kernels.encode(big, huge, tables, contexts, big, big, big), RangeError, "4 GiB");
  assertThrows(() => kernels.histogram(big, 2, 8, 257, big), RangeError, "257");
  assertThrows(() => kernels.histogram(big, 2, 513, 2, big), RangeError, "symbols");
  assertThrows(() => kernels.transpose(big, 3, 8, 4, 8, big), RangeError, "stride");
  assertThrows(() => kernels.transpose(big, 4, 8, 4, 0, big), RangeError, "chunk");
  tables.free();
  assertThrows(() => kernels.decode(big, big, batch, tables, contexts, big, big), KvzBackendError, "freed");
  contexts.free();
  const others = kernels.uploadTables(normalizeTables([[1, 1], [1]], 11));
  assertThrows(() => kernels.decode(big, big, batch, others, contexts, big, big), KvzBackendError, "freed");
  // Nothing of this was enqueued.
  assertEquals((await backend.read(small)).length, 4);
});

Deno.test("every coder decodes what every other coder encodes", async () => {
  await fc.assert(
    fc.asyncProperty(cases, async ({ rows, tokens, symbols, contexts, tables }) => {
      const coders = await Promise.all(CODERS.map(async ([name, open]) => ({ name, rans: await open(tables) })));
      const coded = await Promise.all(coders.map(({ rans }) => rans.encode(symbols, rows, tokens, contexts)));
      for (const [i, bytes] of coded.entries()) {
        assertEquals(bytes, coded[0], `${coders[i].name} encodes as ${coders[0].name}`);
        for (const { name, rans } of coders) {
          assertEquals(await rans.decode(bytes, rows, tokens, contexts), symbols, `${name} decodes ${coders[i].name}`);
        }
      }
    }),
    { numRuns: coderCases(GPU_BACKENDS[0]?.[0] ?? "reference") },
  );
});
