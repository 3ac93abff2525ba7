/** Streams that are begun at once go together on a GPU: each gets what it gets alone, and its own errors. */
import { assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import type { Backend } from "../../src/backend/backend.ts";
import type { GpuEntropy } from "../../src/backend/gpu/entropy.ts";
import { type BackendOptions, createBackend } from "../../src/backend/select.ts";
import { KvzBackendError, KvzFormatError } from "../../src/errors.ts";
import { allInOrder } from "../../src/stages/in_order.ts";
import {
  MOST_PLAIN_TABLES,
  MOST_TRELLIS_TABLES,
  planCalls,
  type StreamJob,
} from "../../src/stages/entropy/rans_calls.ts";
import { openRans, type RansFactory } from "../../src/stages/entropy/rans_factory.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import type { RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { cases, coderCases, GPU_BACKENDS, outcome, randomCase, type RansCase } from "./rans_cases.ts";

type Calls = Record<"encode" | "decode", number[]>;

/** A device's coders, and how many streams each call of its kernels has had. */
async function openCounted(options: BackendOptions): Promise<{ backend: Backend; rans: RansFactory; calls: Calls }> {
  const backend = await createBackend(options);
  const entropy = backend.gpu!.entropy!;
  const calls: Calls = { encode: [], decode: [] };
  const [encode, decode] = [entropy.encode.bind(entropy), entropy.decode.bind(entropy)];
  const counted: Pick<GpuEntropy, "encode" | "decode"> = {
    encode(symbols, batch, ...rest) {
      calls.encode.push(batch.streams);
      encode(symbols, batch, ...rest);
    },
    decode(bytes, begins, batch, ...rest) {
      calls.decode.push(batch.streams);
      decode(bytes, begins, batch, ...rest);
    },
  };
  Object.assign(entropy, counted);
  return { backend, rans: await openRans(backend), calls };
}

/** A case of one geometry, which goes with its like. */
function alike(seed: number, more: Partial<Parameters<typeof randomCase>[0]> = {}): RansCase {
  return randomCase({
    ...{ rows: 5, tokens: 70, variant: "plain", bits: 11, tables: 6, alphabet: 16, decay: 0.8, seed },
    ...more,
  });
}

function encodeAll(rans: RansFactory, list: readonly RansCase[]): Promise<Uint8Array>[] {
  return list.map(async ({ symbols, rows, tokens, contexts, tables }) =>
    await rans(tables).encode(symbols, rows, tokens, contexts)
  );
}

function decodeAll(
  rans: RansFactory,
  list: readonly RansCase[],
  streams: readonly Uint8Array[],
): Promise<Uint8Array>[] {
  return list.map(async ({ rows, tokens, contexts, tables }, i) =>
    await rans(tables).decode(streams[i], rows, tokens, contexts)
  );
}

function referenceStream({ symbols, rows, tokens, contexts, tables }: RansCase): Uint8Array {
  return new ReferenceRans(tables).encode(symbols, rows, tokens, contexts);
}

for (const [name, options] of GPU_BACKENDS) {
  Deno.test(`rans ${name}: streams begun at once have the bytes of each alone`, async () => {
    const { backend, rans } = await openCounted(options);
    using _ = backend;
    // Few geometries, so that some go together; empty ones among them.
    const few = fc.array(
      fc.oneof(cases, fc.nat().map((seed) => alike(seed, { variant: "trellis", tables: 2 + seed % 9 }))),
    );
    await fc.assert(
      fc.asyncProperty(few, async (list) => {
        const wanted = list.map(referenceStream);
        assertEquals(await allInOrder(encodeAll(rans, list)), wanted);
        assertEquals(await allInOrder(decodeAll(rans, list, wanted)), list.map(({ symbols }) => symbols));
      }),
      { numRuns: coderCases(name, 0.5) },
    );
  });

  Deno.test(`rans ${name}: streams of one geometry are one call, whatever their tables; others have their own`, async () => {
    const { backend, rans, calls } = await openCounted(options);
    using _ = backend;
    const list = [
      ...Array.from({ length: 7 }, (_, seed) => alike(seed, { tables: 1 + seed })),
      ...Array.from({ length: 5 }, (_, seed) => alike(seed, { variant: "trellis", tables: 3 + seed })),
      ...[alike(1, { rows: 6 }), alike(2, { bits: 12 }), alike(3, { tokens: 71 })],
    ];
    const wanted = list.map(referenceStream);
    assertEquals(await allInOrder(encodeAll(rans, list)), wanted);
    assertEquals(await allInOrder(decodeAll(rans, list, wanted)), list.map(({ symbols }) => symbols));
    assertEquals(calls, { encode: [7, 5, 1, 1, 1], decode: [7, 5, 1, 1, 1] });
  });

  Deno.test(`rans ${name}: a damaged stream and one that cannot be coded fail their own call alone`, async () => {
    const { backend, rans, calls } = await openCounted(options);
    using _ = backend;
    const list = Array.from({ length: 5 }, (_, seed) => alike(seed));
    const streams = list.map(referenceStream);
    streams[1] = streams[1].map((byte, i) => i < 4 ? 0 : byte);
    streams[3] = streams[3].subarray(0, streams[3].length - 2);
    const decoded = await Promise.allSettled(decodeAll(rans, list, streams));
    for (const [i, one] of decoded.entries()) {
      const { rows, tokens, contexts, tables, symbols } = list[i];
      const found = one.status === "fulfilled" ? one.value : `${one.reason.name}: ${one.reason.message}`;
      assertEquals(found, await outcome(() => new ReferenceRans(tables).decode(streams[i], rows, tokens, contexts)));
      assertEquals(one.status === "fulfilled" ? one.value : null, i === 1 || i === 3 ? null : symbols);
    }
    // 255 is in none of the tables.
    const wrong = list.map((one, i) =>
      i === 2 ? { ...one, symbols: one.symbols.map((s, at) => at === 9 ? 255 : s) } : one
    );
    const coded = encodeAll(rans, wrong);
    await assertRejects(() => coded[2], RangeError, "frequency 0");
    for (const i of [0, 1, 3, 4]) assertEquals(await coded[i], referenceStream(list[i]));
    assertEquals(calls, { encode: [5], decode: [5] });
  });

  Deno.test(`rans ${name}: more streams, and more tables, than a call takes go in several`, async () => {
    const { backend, rans, calls } = await openCounted(options);
    using _ = backend;
    const many = [
      ...Array.from({ length: 5 }, (_, seed) => alike(seed, { rows: 1, tables: 400 })),
      ...Array.from({ length: 3 }, (_, seed) => alike(seed, { rows: 1, variant: "trellis", tables: 50 })),
    ];
    const wanted = many.map(referenceStream);
    assertEquals(await allInOrder(encodeAll(rans, many)), wanted);
    assertEquals(await allInOrder(decodeAll(rans, many, wanted)), many.map(({ symbols }) => symbols));
    assertEquals(calls, { encode: [2, 2, 1, 2, 1], decode: [2, 2, 1, 2, 1] });
    // Streams of 350 symbols: 830 bytes to be coded into, and one that is larger than all a call takes.
    Object.defineProperty(backend.gpu!.entropy!, "mostBytes", { value: 2600 });
    calls.encode.length = calls.decode.length = 0;
    const list = [...Array.from({ length: 7 }, (_, seed) => alike(seed)), alike(9, { rows: 50 })];
    const streams = list.map(referenceStream);
    assertEquals(await allInOrder(encodeAll(rans, list)), streams);
    assertEquals(await allInOrder(decodeAll(rans, list, streams)), list.map(({ symbols }) => symbols));
    assertEquals(calls.encode, [3, 3, 1, 1]);
    assertEquals(calls.decode.reduce((sum, n) => sum + n), 8);
  });

  Deno.test(`rans ${name}: symbols may be overwritten when encode has returned; a call that fails is its streams'`, async () => {
    const { backend, rans } = await openCounted(options);
    using _ = backend;
    const [one, other] = [alike(1), alike(2, { rows: 6 })];
    const symbols = one.symbols.slice();
    const coded = Promise.resolve(rans(one.tables).encode(symbols, one.rows, one.tokens, one.contexts));
    symbols.fill(255);
    assertEquals(await coded, referenceStream(one));
    const entropy = backend.gpu!.entropy!;
    const encode = entropy.encode.bind(entropy);
    entropy.encode = (from, batch, ...rest) => {
      if (batch.rows === 6) throw new KvzBackendError("no six rows");
      encode(from, batch, ...rest);
    };
    const both = encodeAll(rans, [one, other]);
    await assertRejects(() => both[1], KvzBackendError, "no six rows");
    assertEquals(await both[0], referenceStream(one));
    // And the next turn goes on.
    assertEquals(await encodeAll(rans, [one])[0], referenceStream(one));
  });

  Deno.test(`rans ${name}: a chunk's streams leave no memory behind`, async () => {
    const { backend, rans } = await openCounted(options);
    using _ = backend;
    const { device } = backend as Backend & { readonly device: { readonly bytesInUse: number } };
    const list = Array.from({ length: 4 }, (_, seed) => alike(seed));
    const round = async () => {
      const streams = await allInOrder(encodeAll(rans, list));
      await allInOrder(decodeAll(rans, list, streams));
      await Promise.allSettled(decodeAll(rans, list, streams.map((stream) => stream.subarray(2))));
      return device.bytesInUse;
    };
    const before = await round();
    assertEquals(await round(), before);
  });
}

Deno.test("calls: tables of streams stand behind each other, one coder's once, and limits hold", () => {
  const job = (count: number, tables: RansTables | null = null, variant: "plain" | "trellis" = "plain"): StreamJob => {
    const own = alike(count, { tables: count, variant });
    return { ...own, data: own.symbols, tables: tables ?? own.tables };
  };
  const first = job(6);
  const jobs = [first, job(3), job(6, first.tables), job(5)];
  const [call, ...others] = planCalls(jobs, () => 1, 100);
  assertEquals([others.length, call.members, call.batch], [0, [0, 1, 2, 3], { streams: 4, rows: 5, tokens: 70 }]);
  assertEquals(call.tables.frequencies.length, (6 + 3 + 5) * 256);
  for (const [i, at] of [0, 6, 0, 9].entries()) {
    const [own, found] = [jobs[i].contexts, call.contexts[i]];
    if (own.variant !== "plain" || found.variant !== "plain") throw new Error("they are not plain");
    assertEquals(found.tableOf, own.tableOf.map((table) => table + at));
    const { frequencies } = jobs[i].tables;
    assertEquals(call.tables.frequencies.subarray(at * 256, at * 256 + frequencies.length), frequencies);
  }
  const members = (list: readonly StreamJob[], bytesOf: (job: StreamJob) => number, most: number) =>
    planCalls(list, bytesOf, most).map((one) => one.members);
  assertEquals(members(jobs, () => 50, 100), [[0, 1], [2, 3]]);
  // A stream that is too large goes alone, to the device's own refusal.
  assertEquals(members(jobs, (one) => one === first ? 200 : 40, 100), [[0], [1, 2], [3]]);
  // A trellis chooses among pairs: the last of an odd number is out of its reach, and left out.
  const [pairs] = planCalls([job(5, null, "trellis"), job(4, null, "trellis")], () => 1, 100);
  assertEquals(pairs.tables.frequencies.length, 8 * 256);
  for (const [variant, most] of [["plain", MOST_PLAIN_TABLES], ["trellis", MOST_TRELLIS_TABLES]] as const) {
    const half = most / 2;
    assertEquals(members([job(half, null, variant), job(half, null, variant), job(2, null, variant)], () => 1, 100), [
      [0, 1],
      [2],
    ]);
  }
});

Deno.test("the first failure in order is thrown when all are done", async () => {
  let done = false;
  const late = new Promise((_, reject) => setTimeout(() => (done = true, reject(new KvzFormatError("first"))), 5));
  const error = await assertRejects(() => allInOrder([1, late, Promise.reject(new RangeError("second"))]));
  assertEquals([(error as Error).message, done], ["first", true]);
  const [number, text] = await allInOrder([1, Promise.resolve("two")]);
  assertEquals([number + 1, text.length], [2, 3]);
});
