/**
 * KVTC's streams with rANS where the codes lie on a GPU as rows, a byte each: the bytes of coded_streams.ts. Codes of 2 and
 * 4 bits stay there: only how often each row has each comes to the host, which chooses the tables.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../backend/backend.ts";
import type { GpuEntropy } from "../../backend/gpu/entropy.ts";
import { type CodedStream, encodeStream } from "../entropy/deflate.ts";
import type { GpuRansFactory } from "../entropy/rans_factory.ts";
import { chooseTables, countRows, joinRows, type RowCounts } from "../entropy/row_classes.ts";
import { withScratch } from "../scratch.ts";
import { openForm, packRows, shorter, unpackRows } from "./coded_streams.ts";
import type { RowForm } from "./row_forms.ts";

/** Codes rows on one device. */
export class GpuForms {
  readonly #backend: Backend;
  readonly #kernels: GpuEntropy;
  readonly #rans: GpuRansFactory;

  constructor(backend: Backend, kernels: GpuEntropy, rans: GpuRansFactory) {
    this.#backend = backend;
    this.#kernels = kernels;
    this.#rans = rans;
  }

  /**
   * The stream of rows u8 [form.rows][tokens].
   *
   * @param check throws when rows of 8 bits, which come to the host, are not to be coded
   */
  async encode(
    form: RowForm,
    tokens: number,
    rows: DeviceBuffer,
    check?: (bytes: Uint8Array) => void,
  ): Promise<CodedStream> {
    const count = form.rows * tokens;
    if (count === 0) return await encodeStream(new Uint8Array(1));
    const read = () => this.#backend.read(rows, 0, count);
    if (form.bits === 8) {
      const bytes = await read();
      check?.(bytes);
      return await shorter(form, tokens, this.#code(form, tokens, rows, countRows(bytes, form.rows, tokens)), bytes);
    }
    const coding = this.#code(form, tokens, rows, await this.#count(form, tokens, rows));
    return await shorter(form, tokens, coding, async () => packRows(await read(), form.rows, tokens, form.bits));
  }

  /**
   * The rows of a stream, a byte a symbol.
   *
   * @throws {KvzFormatError} as `decodeForm`
   */
  async decodeTo(form: RowForm, tokens: number, stream: CodedStream, what: string, rows: DeviceBuffer): Promise<void> {
    const body = await openForm(form, tokens, stream, what);
    if (body instanceof Uint8Array) {
      this.#backend.write(rows, unpackRows(body, form.rows, tokens, form.bits));
    } else {
      const { tables, contexts, coded } = body;
      await this.#rans(tables).decodeTo(coded, form.rows, tokens, contexts, rows);
    }
  }

  async #code(form: RowForm, tokens: number, rows: DeviceBuffer, counts: RowCounts): Promise<Uint8Array> {
    const chosen = chooseTables(counts);
    const { tables, contexts } = chosen;
    return joinRows(chosen, await this.#rans(tables).encodeOnDevice(rows, form.rows, tokens, contexts));
  }

  async #count({ rows, bits }: RowForm, tokens: number, symbols: DeviceBuffer): Promise<RowCounts> {
    const alphabet = 1 << bits;
    return await withScratch(this.#backend, async (scratch) => {
      const bytes = rows * alphabet * 4;
      const counts = scratch.alloc(bytes);
      this.#kernels.histogram(symbols, rows, tokens, alphabet, counts);
      const words = (await this.#backend.read(counts, 0, bytes)).slice();
      return { rows, alphabet, counts: new Uint32Array(words.buffer) };
    });
  }
}
