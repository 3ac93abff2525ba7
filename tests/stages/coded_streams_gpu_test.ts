/** KVTC's streams with rANS, their codes on a GPU: the bytes, rows and errors of the host's. */
import { assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import type { Backend } from "../../src/backend/backend.ts";
import { createBackend } from "../../src/backend/select.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { type CodedStream, rawStream } from "../../src/stages/entropy/deflate.ts";
import { openGpuRans, openRans } from "../../src/stages/entropy/rans_factory.ts";
import { encodeRows } from "../../src/stages/entropy/row_classes.ts";
import { decodeForm, encodeForm, packRows, unpackRows } from "../../src/stages/quantize/coded_streams.ts";
import { GpuForms } from "../../src/stages/quantize/coded_streams_gpu.ts";
import { faultOf, type RowForm } from "../../src/stages/quantize/row_forms.ts";
import { dirty, generator, upload } from "../backend/backends.ts";
import { GPU_BACKENDS, outcome } from "./rans_cases.ts";
import { casesFor } from "../cases.ts";

const host = await openRans(await createBackend({ backend: "wasm" }));

const forms: fc.Arbitrary<RowForm> = fc.tuple(
  fc.nat(20),
  fc.constantFrom<Omit<RowForm, "rows">>(
    ...[{ bits: 2 }, { bits: 4 }, { bits: 8 }, { bits: 8, of: "fp8" }, { bits: 8, of: "high bytes" }] as const,
  ),
).map(([rows, form]) => ({ rows, ...form }));

/** Symbols of a form, of which low ones are frequent. */
function symbolsOf(form: RowForm, tokens: number, decay: number, seed: number): Uint8Array {
  const next = generator(seed);
  return Uint8Array.from({ length: form.rows * tokens }, () => {
    const symbol = Math.floor(next() ** decay * 2 ** form.bits);
    return faultOf(form, symbol) === null ? symbol : 0;
  });
}

const cases = fc.record({
  form: forms,
  tokens: fc.oneof(fc.integer({ min: 1, max: 70 }), fc.constantFrom(128, 256)),
  decay: fc.constantFrom(1, 4, 30),
  seed: fc.nat(),
});

for (const [name, options] of GPU_BACKENDS) {
  const open = async (): Promise<{ backend: Backend; gpu: GpuForms }> => {
    const backend = await createBackend(options);
    return { backend, gpu: new GpuForms(backend, backend.gpu!.entropy!, (await openGpuRans(backend))!) };
  };

  Deno.test(`${name}: rows on the device become the host's streams and come back, several at once`, async () => {
    const { backend, gpu } = await open();
    using _ = backend;
    await fc.assert(
      fc.asyncProperty(fc.array(cases, { maxLength: 4 }), async (list) => {
        await Promise.all(list.map(async ({ form, tokens, decay, seed }) => {
          const symbols = symbolsOf(form, tokens, decay, seed);
          const rows = upload(backend, symbols);
          const found = await gpu.encode(form, tokens, rows);
          assertEquals(found, await encodeForm(host, form, tokens, packRows(symbols, form.rows, tokens, form.bits)));
          const back = dirty(backend, Math.max(1, symbols.length));
          await gpu.decodeTo(form, tokens, found, "it", back);
          assertEquals(await backend.read(back, 0, symbols.length), symbols);
          rows.free(), back.free();
        }));
      }),
      { numRuns: casesFor(25) },
    );
  });

  Deno.test(`${name}: damaged streams give the host's rows, or its error`, async () => {
    const { backend, gpu } = await open();
    using _ = backend;
    const damage = fc.record({ at: fc.nat(), bit: fc.nat(7), cut: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(cases, damage, async ({ form, tokens, decay, seed }, { at, bit, cut }) => {
        const symbols = symbolsOf(form, tokens, decay, seed);
        const coded = await encodeForm(host, form, tokens, packRows(symbols, form.rows, tokens, form.bits));
        const bytes = coded.bytes.slice(0, cut ? at % (coded.bytes.length + 1) : undefined);
        if (!cut) bytes[at % bytes.length] ^= 1 << bit;
        const changed: CodedStream = coded.codec === "raw" ? rawStream(bytes) : { ...coded, bytes };
        const back = dirty(backend, Math.max(1, symbols.length));
        const found = await outcome(async () => {
          await gpu.decodeTo(form, tokens, changed, "it", back);
          return await backend.read(back, 0, symbols.length);
        });
        const wanted = await outcome(async () =>
          unpackRows(await decodeForm(host, form, tokens, changed, "it"), form.rows, tokens, form.bits)
        );
        assertEquals(found, wanted);
        back.free();
      }),
      { numRuns: casesFor(40) },
    );
  });

  Deno.test(`${name}: tables with symbols that no encoder writes are refused before a stream is decoded`, async () => {
    const { backend, gpu } = await open();
    using _ = backend;
    const bad: [RowForm, number, string][] = [
      [{ rows: 3, bits: 2 }, 4, "a symbol has more than 2 bits"],
      [{ rows: 3, bits: 4 }, 16, "a symbol has more than 4 bits"],
      [{ rows: 3, bits: 8, of: "fp8" }, 0xff, "a fp8 code is NaN"],
      [{ rows: 3, bits: 8, of: "high bytes" }, 0xfc, "a shift or scale is not finite"],
    ];
    for (const [form, symbol, message] of bad) {
      const symbols = new Uint8Array(3 * 400);
      symbols[7] = symbol;
      const stream = rawStream(Uint8Array.of(1, ...await encodeRows(host, symbols, 3, 400)));
      const to = backend.alloc(symbols.length);
      await assertRejects(() => gpu.decodeTo(form, 400, stream, "it", to), KvzFormatError, message);
      await assertRejects(() => decodeForm(host, form, 400, stream, "it"), KvzFormatError, message);
    }
  });
}
