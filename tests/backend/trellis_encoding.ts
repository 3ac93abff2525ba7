/**
 * Encoding of chunks by the trellis kernels of a GPU, and what differs from the reference. Without the test runner.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { type GpuTrellisEncoder, levelStride } from "../../src/backend/gpu/trellis.ts";
import { escapeLevels } from "../../src/stages/entropy/escapes.ts";
import {
  componentMajor,
  prefixRows,
  sideOf,
  tokenMajor,
  uploadSide,
} from "../../src/stages/quantize/trellis/gpu_side.ts";
import { trellisContexts, type TrellisModel } from "../../src/stages/quantize/trellis/model.ts";
import type { CodedPrefix, TrellisCode } from "../../src/stages/quantize/trellis/reference.ts";
import { withScratch } from "../../src/stages/scratch.ts";

/** A chunk as a GPU has coded it. */
export type EncodedChunk = Awaited<ReturnType<typeof encodeBatch>>[number];

/** Codes chunks y [components][tokens] of a batch after prefixes; the codes, symbols and escapes of each. */
export async function encodeBatch(
  backend: Backend,
  models: readonly TrellisModel[],
  ys: readonly Int32Array[],
  tokens: number,
  lambda: number,
  prefix: CodedPrefix | null,
  encoder: GpuTrellisEncoder = backend.gpu!.trellis!.encoder,
) {
  return await withScratch(backend, async (scratch) => {
    const [{ components }] = models;
    const stride = levelStride(components);
    const first = prefix?.refs.length ?? 0;
    const total = first + tokens;
    const batch = { chunks: ys.length, components, tokens: total };
    const rows = new Int32Array(ys.length * total * stride);
    const [levels, reconstruction] = [0, 1].map(() => new Int16Array(ys.length * total * stride).fill(0x7777));
    for (const [i, y] of ys.entries()) {
      tokenMajor(y, components, tokens, rows.subarray((i * total + first) * stride));
      if (prefix !== null) {
        const before = prefixRows(prefix, total);
        levels.set(before.levels, i * total * stride);
        reconstruction.set(before.reconstruction, i * total * stride);
      }
    }
    const nothing = {
      refs: new Int16Array(0),
      modes: new Uint8Array(0),
      energies: new Uint8Array(0),
      offsets: new Int8Array(components).fill(99),
    };
    const side = uploadSide(scratch, batch, ys.map(() => prefix ?? nothing), models.map((_, i) => i));
    const coded = { levels: scratch.upload(levels), reconstruction: scratch.upload(reconstruction) };
    const uploaded = backend.gpu!.trellis!.uploadModels(models);
    const weight = encoder.uploadWeight(models[0], Math.round(lambda * 256));
    encoder.encode(uploaded, weight, batch, first, scratch.upload(rows), coded, side);
    const symbols = scratch.alloc(ys.length * components * total);
    const places = scratch.alloc(ys.length * components * Math.ceil(total / 32) * 4);
    const lengths = scratch.alloc(ys.length * 4);
    encoder.symbols(uploaded, batch, side, coded.levels, symbols, places, lengths);
    const bytes = new Uint32Array((await backend.read(lengths, 0, ys.length * 4)).buffer);
    const begins: number[] = [];
    let end = 0;
    for (const length of bytes) {
      begins.push(end);
      end += length;
    }
    const escapes = scratch.upload(new Uint8Array(end + 16).fill(0xaa));
    encoder.escapes(
      uploaded,
      batch,
      side,
      coded.levels,
      places,
      lengths,
      scratch.upload(Uint32Array.from(begins)),
      escapes,
    );
    const read = async (buffer: typeof symbols) => (await backend.read(buffer)).buffer as ArrayBuffer;
    const escaped = new Uint8Array(await read(escapes));
    if (escaped.subarray(end).some((byte) => byte !== 0xaa)) throw new Error("bytes behind the escapes were written");
    const [words, offsets] = [new Uint32Array(await read(side.words)), new Int8Array(await read(side.offsets))];
    const L = new Int16Array(await read(coded.reconstruction));
    const all = new Uint8Array(await read(symbols));
    uploaded.free();
    weight.free();
    return ys.map((_, i) => {
      const part = <T extends { slice(begin: number, end: number): T }>(array: T, each: number) =>
        array.slice(i * each, (i + 1) * each);
      return {
        side: sideOf(part(words, total), part(offsets, components)),
        reconstruction: componentMajor(part(L, total * stride), components, total),
        symbols: part(all, components * total),
        escapes: escaped.slice(begins[i], begins[i] + bytes[i]),
      };
    });
  });
}

/** What differs from the reference's code, or "". */
export function codeDifference(found: EncodedChunk, model: TrellisModel, code: TrellisCode): string {
  const { components, limits } = model;
  const coded = escapeLevels(code.levels, components, code.refs.length, trellisContexts(model, code), limits);
  const { refs, modes, energies, offsets, reconstruction } = code;
  const wanted = { refs, modes, energies, offsets, reconstruction, ...coded };
  const { side, ...rest } = found;
  const all: Readonly<Record<string, ArrayLike<number>>> = { ...side, ...rest };
  for (const [name, values] of Object.entries(wanted)) {
    const own = all[name];
    if (own.length !== values.length) return `${name} has ${own.length} elements, expected ${values.length}`;
    const at = values.findIndex((value, i) => own[i] !== value);
    if (at >= 0) return `${name}[${at}] is ${own[at]}, expected ${values[at]}`;
  }
  return "";
}
