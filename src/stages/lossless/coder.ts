/**
 * The lossless coder: a chunk of keys or values as they are, every bit of them, NaN payloads included.
 *
 *     elements → symbols (sign, exponent, two fraction bits), planes (the other fraction bits)
 *     symbols  → classes by the row's scale and mean and the token's phase of rotation → rANS
 *
 * Fractions are close to random and stay raw unless a sample says otherwise.
 *
 * @module
 */
import { naturalLog } from "../../cache/power.ts";
import type { RansContexts } from "../entropy/rans_contexts.ts";
import { RANS_SYMBOLS } from "../entropy/rans_tables.ts";
import { type RansFactory, withRans } from "../entropy/rans_factory.ts";
import { blockScale } from "./choose.ts";
import { CLASSES, type RowCodes } from "./codes.ts";
import { type ElementParts, type LosslessKernels, planeLengths, sampledTokens } from "./kernels.ts";
import { type LosslessShape, PHASES, type RowGroup, rowGroups, rowOrder } from "./shape.ts";
import {
  blockCodes,
  classNumbers,
  type CodedPlane,
  concat,
  contextsLimit,
  damaged,
  doubled,
  type LosslessStreams,
  NO_TABLE,
  packContexts,
  packEscapes,
  type SymbolContexts,
  TABLE_BITS,
  unpackContexts,
  unpackEscapes,
  whole,
} from "./streams.ts";
import { frequenciesOf } from "../entropy/packed_tables.ts";
import type { ArrayPool } from "../array_pool.ts";
import { allInOrder } from "../in_order.ts";

/** Chunks with fewer tokens are coded in both modes, since codes of rows may cost more than they save. */
const SURE_TOKENS = 64;
/** Bytes of a plane that are looked at before it is coded, in runs of so many. */
const PLANE_SAMPLE = 16384;
const PLANE_RUN = 256;
/** Bits a byte below which a plane is coded: what saves less is not worth its time. */
const PLANE_BITS = 7.5;

/** Encodes and decodes chunks of one shape. */
export class LosslessCoder {
  readonly shape: LosslessShape;
  readonly #kernels: LosslessKernels;
  readonly #rans: RansFactory;
  readonly #rows: Int32Array;
  /** Symbols of a chunk that was decoded, for those of the next one. */
  #scratch: Uint8Array | null = null;

  constructor(kernels: LosslessKernels, rans: RansFactory, shape: LosslessShape) {
    this.#kernels = kernels;
    this.#rans = rans;
    this.shape = shape;
    this.#rows = rowOrder(shape);
  }

  /** Most bytes of each stream of a chunk. */
  limits(tokens: number): { readonly [name in keyof LosslessStreams]: number } {
    const { blocks, dim, turns, dtype } = this.shape;
    const count = blocks * dim * tokens;
    const planes = planeLengths(this.shape, tokens);
    const flush = 128;
    return {
      contexts: contextsLimit(this.shape, turns.length + 1, planes.length),
      symbols: 2 * count + flush * (turns.length + 1),
      planes: planes.reduce((sum, length) => sum + 2 * length + flush, 0),
      escapes: dtype === "f16" ? 0 : 4 * blocks + count,
    };
  }

  /**
   * Elements [tokens][dim] of each block → streams. The bytes are read before anything is awaited. Symbols and planes may
   * be lent from `pool`.
   */
  async encode(
    heads: readonly Uint8Array[],
    tokens: number,
    positions: Int32Array,
    pool?: ArrayPool,
  ): Promise<LosslessStreams> {
    const groups = rowGroups(this.shape, positions);
    const planeBytes = planeLengths(this.shape, tokens).reduce((sum, length) => sum + length, 0);
    const parts = this.#kernels.split(heads, this.shape, tokens, this.#rows, pool?.take(planeBytes));
    const escapes = packEscapes(parts);
    // Symbols end with the next call of a kernel by another coder: what reads them begins now, before anything is awaited.
    // Planes come after them, since coding those may make the symbols' memory grow, and at once, that all streams go to
    // the coder together.
    const [symbols, planes] = await allInOrder([
      this.#encodeSymbols(parts.symbols, tokens, groups, pool?.take(parts.symbols.length)),
      allInOrder(parts.planes.map((plane) => this.#encodePlane(plane))),
    ]);
    const contexts = { base: parts.base, symbols: symbols.contexts, planes: planes.map(({ coded }) => coded) };
    return {
      contexts: packContexts(contexts, symbols.scales),
      symbols: symbols.bytes,
      planes: whole(planes.map(({ bytes }) => bytes)),
      escapes,
    };
  }

  /**
   * Streams → elements [tokens][dim] of as many blocks from `begin` on as there are `heads`, into these.
   *
   * @throws {KvzFormatError} when the streams are not what {@linkcode encode} makes for this geometry; heads may be written
   */
  async decode(
    streams: LosslessStreams,
    tokens: number,
    positions: Int32Array,
    begin: number,
    heads: readonly Uint8Array[],
  ): Promise<void> {
    const coded = await this.#coded(streams, tokens, positions);
    // Nothing is awaited between these two: what loops leave in their memory ends with the next call of another coder.
    const symbols = this.#denormalized(coded, tokens);
    this.#kernels.join({ ...coded, symbols }, this.shape, tokens, this.#rows, begin, heads);
    if (coded.contexts !== null) this.#scratch = coded.symbols;
  }

  /** The same chunk in mode plain and with plain planes: quick to decode for one range of blocks after another. */
  async expand(streams: LosslessStreams, tokens: number, positions: Int32Array): Promise<LosslessStreams> {
    const coded = await this.#coded(streams, tokens, positions);
    const plain = { base: coded.base, symbols: null, planes: coded.planes.map(() => null) };
    return {
      contexts: packContexts(plain, []),
      symbols: this.#denormalized(coded, tokens).slice(),
      planes: concat(coded.planes),
      escapes: streams.escapes,
    };
  }

  async #coded(streams: LosslessStreams, tokens: number, positions: Int32Array): Promise<ElementParts & CodedSymbols> {
    const groups = rowGroups(this.shape, positions);
    const lengths = planeLengths(this.shape, tokens);
    const contexts = unpackContexts(streams.contexts, this.shape, groups, this.#rows, lengths.length);
    const [planes, symbols] = await allInOrder([
      this.#decodePlanes(streams.planes, contexts.planes, lengths),
      this.#decodeSymbols(streams.symbols, contexts.symbols, tokens, groups),
    ]);
    const escapes = unpackEscapes(streams.escapes, this.shape);
    return { base: contexts.base, symbols, planes, ...escapes, contexts: contexts.symbols, groups };
  }

  /** Symbols as elements have them, perhaps a view that ends with the loops' next call. */
  #denormalized({ symbols, contexts, groups }: CodedSymbols, tokens: number): Uint8Array {
    if (contexts === null || symbols.length === 0) return symbols;
    const model = this.#kernels.model(contexts.codes, tokens, groups);
    return this.#kernels.denormalize(symbols, tokens, groups, model);
  }

  async #encodeSymbols(
    symbols: Uint8Array,
    tokens: number,
    groups: readonly RowGroup[],
    room?: Uint8Array,
  ): Promise<EncodedSymbols> {
    const plain: EncodedSymbols = { contexts: null, scales: [], bytes: symbols };
    if (symbols.length === 0) return plain;
    const rows = symbols.length / tokens;
    const sampled = sampledTokens(tokens);
    const sums = new Float32Array(3 * rows);
    const codes: RowCodes = { scales: new Uint8Array(rows), means: new Uint8Array(rows) };
    this.#kernels.measure(symbols, tokens, groups, sums);
    this.#kernels.choose(sums, tokens, groups, codes);
    if (tokens >= SURE_TOKENS) {
      const coded = await this.#codeSymbols(symbols, tokens, groups, "rows", codes, [], room);
      // Not the view's own length: it has none any more where another coder's call made the memory grow.
      const less = rows * tokens - coded.bytes.length;
      const smaller = less > this.limits(tokens).contexts || size(coded) < rows * tokens;
      return smaller ? coded : { ...plain, bytes: await this.#restored(coded, tokens, groups) };
    }
    const { blocks, dim } = this.shape;
    const original = symbols.slice();
    const scales = Array.from(
      { length: blocks },
      (_, block) => blockScale(sums, Array.from(this.#rows.subarray(block * dim, (block + 1) * dim)), sampled.length),
    );
    const byBlock = blockCodes(scales, this.shape, this.#rows);
    const coded = await allInOrder([
      this.#codeSymbols(original.slice(), tokens, groups, "rows", codes, []),
      this.#codeSymbols(original.slice(), tokens, groups, "blocks", byBlock, scales),
    ]);
    return [{ ...plain, bytes: original }, ...coded].reduce((best, other) => size(other) < size(best) ? other : best);
  }

  /** Normalizes `symbols` in place and codes them, into `room` where there is some. */
  async #codeSymbols(
    symbols: Uint8Array,
    tokens: number,
    groups: readonly RowGroup[],
    mode: "blocks" | "rows",
    codes: RowCodes,
    scales: readonly number[],
    room?: Uint8Array,
  ): Promise<EncodedSymbols> {
    const model = this.#kernels.model(codes, tokens, groups);
    const counts = new Uint32Array(CLASSES * RANS_SYMBOLS);
    this.#kernels.normalize(symbols, tokens, groups, model, counts);
    const used: number[] = [];
    const frequencies: Uint16Array[] = [];
    for (let c = 0; c < CLASSES; c++) {
      const part = counts.subarray(c * RANS_SYMBOLS, (c + 1) * RANS_SYMBOLS);
      if (isEmpty(part)) continue;
      used.push(c);
      frequencies.push(frequenciesOf(part, TABLE_BITS));
    }
    const tables = { bits: TABLE_BITS, frequencies: flat(frequencies) };
    // A table for every class, of which those without symbols are never looked into: classes need no other numbers.
    const byClass = Array.from({ length: CLASSES }, () => frequencies[0]);
    used.forEach((c, i) => byClass[c] = frequencies[i]);
    const choices = groupContexts(groups, model.classes.slice());
    let at = 0;
    const streams = await withRans(
      this.#rans,
      doubled({ bits: TABLE_BITS, frequencies: flat(byClass) }),
      (rans) =>
        allInOrder(groups.map(async (group, i) => {
          const part = symbols.subarray(group.begin * tokens, group.end * tokens);
          const stream = rans.encode(part, group.end - group.begin, tokens, choices[i], room?.subarray(at));
          // A coder that answers at once has the room beyond its stream for the next one.
          if (stream instanceof Uint8Array) at += stream.length;
          return await stream;
        })),
    );
    const lengths = streams.map(({ length }) => length);
    return { contexts: { mode, codes, used, tables, lengths }, scales, bytes: whole(streams) };
  }

  /** Symbols as they were coded. */
  async #decodeSymbols(
    bytes: Uint8Array,
    contexts: SymbolContexts | null,
    tokens: number,
    groups: readonly RowGroup[],
  ): Promise<Uint8Array> {
    const count = this.#rows.length * tokens;
    if (contexts === null) {
      if (bytes.length !== count) throw damaged(`it has ${bytes.length} symbols, expected ${count}`);
      return bytes;
    }
    const total = contexts.lengths.reduce((sum, length) => sum + length, 0);
    if (bytes.length !== total) throw damaged(`its symbols have ${bytes.length} bytes, expected ${total}`);
    if (contexts.used.length === 0 && count > 0) throw damaged("it has no tables");
    const symbols = this.#scratch?.length === count ? this.#scratch : new Uint8Array(count);
    this.#scratch = null;
    if (count === 0) return symbols;
    const model = this.#kernels.model(contexts.codes, tokens, groups);
    const choices = groupContexts(groups, numbered(model.classes, contexts));
    let at = 0;
    await withRans(this.#rans, doubled(contexts.tables), (rans) =>
      allInOrder(groups.map(async (group, i) => {
        const part = bytes.subarray(at, at += contexts.lengths[i]);
        const out = symbols.subarray(group.begin * tokens, group.end * tokens);
        await rans.decode(part, group.end - group.begin, tokens, choices[i], out);
      })));
    return symbols;
  }

  /** The symbols back from what was just coded: coding them in place took them away. */
  async #restored(coded: EncodedSymbols, tokens: number, groups: readonly RowGroup[]): Promise<Uint8Array> {
    const symbols = await this.#decodeSymbols(coded.bytes, coded.contexts, tokens, groups);
    return this.#denormalized({ symbols, contexts: coded.contexts, groups }, tokens).slice();
  }

  async #encodePlane(plane: Uint8Array): Promise<EncodedPlane> {
    if (plane.length === 0 || sampledBits(plane) > PLANE_BITS) return { coded: null, bytes: plane };
    const counts = new Uint32Array(RANS_SYMBOLS);
    for (let i = 0; i < plane.length; i++) counts[plane[i]]++;
    const tables = { bits: TABLE_BITS, frequencies: frequenciesOf(counts, TABLE_BITS) };
    const bytes = await withRans(this.#rans, tables, (rans) => rans.encode(plane, 1, plane.length, ONE_TABLE));
    if (bytes.length >= plane.length) return { coded: null, bytes: plane };
    return { coded: { tables, length: bytes.length }, bytes };
  }

  async #decodePlanes(
    bytes: Uint8Array,
    coded: readonly (CodedPlane | null)[],
    lengths: readonly number[],
  ): Promise<Uint8Array[]> {
    const stored = lengths.map((length, i) => coded[i]?.length ?? length);
    const total = stored.reduce((sum, length) => sum + length, 0);
    if (bytes.length !== total) throw damaged(`its planes have ${bytes.length} bytes, expected ${total}`);
    let at = 0;
    return await allInOrder(lengths.map(async (length, i) => {
      const part = bytes.subarray(at, at += stored[i]);
      const plane = coded[i];
      if (plane === null) return part;
      return await withRans(this.#rans, plane.tables, (rans) => rans.decode(part, 1, length, ONE_TABLE));
    }));
  }
}

/** Symbols that are still mapped, unless `contexts` is null. */
interface CodedSymbols {
  readonly symbols: Uint8Array;
  readonly contexts: SymbolContexts | null;
  readonly groups: readonly RowGroup[];
}

interface EncodedPlane {
  readonly coded: CodedPlane | null;
  readonly bytes: Uint8Array;
}

interface EncodedSymbols {
  readonly contexts: SymbolContexts | null;
  /** σ of each block in mode blocks. */
  readonly scales: readonly number[];
  readonly bytes: Uint8Array;
}

/** A plane is one row with one table. */
const ONE_TABLE: RansContexts = { variant: "plain", tableOf: new Uint16Array(1) };
/** Trellis states that never leave 0: tables follow from row and phase alone. */
const NO_TRELLIS = new Uint8Array(16);

/** Contexts of each group's rows from the numbers of their tables, [rows][16]. Tables stand in pairs. */
function groupContexts(groups: readonly RowGroup[], tables: Uint8Array): RansContexts[] {
  return groups.map(({ begin, end, phases }) => {
    if (phases !== null) {
      const classes = tables.subarray(begin * PHASES, end * PHASES);
      return { variant: "trellis", classes, kinds: phases, next: NO_TRELLIS };
    }
    // Rows that do not turn have one class.
    const tableOf = new Uint16Array(end - begin);
    for (let row = begin; row < end; row++) tableOf[row - begin] = 2 * tables[row * PHASES];
    return { variant: "plain", tableOf };
  });
}

/** Numbers of the tables of classes, where there are only those in use; classes without a table are refused. */
function numbered(classes: Uint8Array, contexts: SymbolContexts): Uint8Array {
  const numbers = classNumbers(contexts);
  // A plain loop over all rows at once: it takes a tenth of the time of map.
  const own = new Uint8Array(classes.length);
  for (let i = 0; i < own.length; i++) own[i] = numbers[classes[i]];
  const bad = own.indexOf(NO_TABLE);
  if (bad >= 0) throw damaged(`it has no table of class ${classes[bad]}`);
  return own;
}

/** Bytes of coded symbols and of what their decoder needs. */
function size({ contexts, scales, bytes }: EncodedSymbols): number {
  return bytes.length + packContexts({ base: 0, symbols: contexts, planes: [] }, scales).length;
}

/** Order-0 entropy of a sample of a plane, in bits a byte. */
function sampledBits(plane: Uint8Array): number {
  // Runs, not single bytes: a line of memory costs as much as a byte of it.
  const step = Math.max(PLANE_RUN, Math.floor(plane.length / PLANE_SAMPLE) * PLANE_RUN);
  const counts = new Uint32Array(RANS_SYMBOLS);
  let n = 0;
  for (let begin = 0; begin < plane.length; begin += step) {
    const end = Math.min(begin + PLANE_RUN, plane.length);
    for (let i = begin; i < end; i++, n++) counts[plane[i]]++;
  }
  let bits = 0;
  for (const count of counts) if (count > 0) bits += count * naturalLog(n / count);
  return bits / (n * Math.LN2);
}

function isEmpty(counts: Uint32Array): boolean {
  for (let s = 0; s < counts.length; s++) if (counts[s] > 0) return false;
  return true;
}

function flat(tables: readonly Uint16Array[]): Uint16Array {
  const out = new Uint16Array(tables.length * RANS_SYMBOLS);
  tables.forEach((table, i) => out.set(table, i * RANS_SYMBOLS));
  return out;
}
