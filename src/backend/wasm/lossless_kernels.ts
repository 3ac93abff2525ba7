/**
 * The loops of the lossless coder (asm/lossless.ts): loading, and calling them on what lies in their memory.
 *
 * @module
 */
import type { DType } from "../../cache/types.ts";
import { encodingBytes } from "../../stages/entropy/rans.ts";
import { PHASE_COSINES, PHASE_SINES, phaseSums } from "../../stages/lossless/choose.ts";
import { CLASSES, type RowCodes, type RowModel } from "../../stages/lossless/codes.ts";
import {
  baseBelow,
  type ElementParts,
  type LosslessKernels,
  planeLengths,
  sampledTokens,
  sampleStep,
  wrongEscapes,
} from "../../stages/lossless/kernels.ts";
import { countedRanges, countStep } from "../../stages/lossless/counts.ts";
import { elementBytes, type LosslessShape, PHASES, phasesMet, type RowGroup } from "../../stages/lossless/shape.ts";
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule } from "./kernel_module.ts";
import type { LosslessExports } from "./lossless_exports.ts";
import { COUNTS, joinPlaces, OTHER_BYTES, type Places, placesOf, splitPlaces } from "./lossless_places.ts";

const DTYPES: Record<DType, number> = { f32: 0, f16: 1, bf16: 2 };

/**
 * The loops on one instance of the kernels. Calls are synchronous; coders of one thread share it. The rANS coder in the
 * same module takes symbols where the loops leave them.
 */
export class WasmLossless extends KernelModule<LosslessExports> implements LosslessKernels {
  /** The block of memory that chunks have their places in. */
  #base = 0;
  #size = 0;
  /** Base of the last chunk of each shape. */
  readonly #bases = new WeakMap<LosslessShape, number>();

  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it, or may not compile WebAssembly from bytes (edge runtimes)
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<WasmLossless> {
    const { build: chosen, exports } = await instantiate<LosslessExports>(
      async () => (await import("./bytes/lossless.ts")).lossless,
      build,
      "use recipe lossless",
    );
    return new WasmLossless(chosen, exports);
  }

  split(
    heads: readonly Uint8Array[],
    shape: LosslessShape,
    tokens: number,
    rows: Int32Array,
    room?: Uint8Array,
  ): ElementParts {
    const { blocks, dim, dtype } = shape;
    const n = tokens * dim;
    const perBlock = planeLengths({ ...shape, blocks: 1 }, tokens);
    const place = this.#placed((base) => splitPlaces(base, shape, tokens));
    // Memory to code the symbols with, free again: it must not grow under them.
    this.scoped((alloc) => alloc(encodingBytes(rows.length, tokens, 2 * CLASSES)));
    this.#ints(place.rows, rows.length).set(rows);
    // One block at a time is brought in and taken away: it stays in the core's own cache meanwhile.
    const elements = this.bytes(place.elements, elementBytes({ ...shape, blocks: 1 }, tokens));
    // One array of all planes: where they stay as they are, it is the stream.
    const joined = room ?? new Uint8Array(blocks * perBlock.reduce((sum, length) => sum + length, 0));
    let [at, first] = [place.planes, 0];
    const parts = perBlock.map((length) => joined.subarray(first, first += blocks * length));
    const placed = perBlock.map((length) => this.bytes((at += length) - length, length));
    const escapeCounts = new Uint32Array(blocks);
    const bring = (block: number) => elements.set(heads[block]);
    const { rebase, split, topExponent } = this.exports;
    const { elements: from, planes, work, symbols, escapes } = place;
    let [top, end] = [0, escapes];
    const splitBlocks = (base: number, wanted: (block: number) => boolean) => {
      end = escapes;
      for (let block = 0; block < blocks; block++) {
        if (!wanted(block)) continue;
        bring(block);
        if (dtype !== "f16") top = Math.max(top, topExponent(from, DTYPES[dtype], n));
        const list = place.rows + 4 * dim * block;
        escapeCounts[block] = split(from, DTYPES[dtype], base, tokens, dim, list, work, symbols, planes, end);
        end += escapeCounts[block];
        placed.forEach((part, i) => parts[i].set(part, block * part.length));
      }
    };
    let base = 0;
    const all = () => true;
    if (dtype === "f16" || blocks === 0) splitBlocks(base, all);
    else {
      // The greatest exponent of a chunk is seldom far from the last one's: where it is another, symbols are moved, and
      // blocks with escapes split again.
      bring(0);
      const guess = this.#bases.get(shape) ?? baseBelow(topExponent(from, DTYPES[dtype], n));
      splitBlocks(guess, all);
      base = baseBelow(top);
      if (base !== guess) {
        const moved = Math.abs(base - guess) < 32 &&
          rebase(symbols, rows.length * tokens, base - guess) !== 0;
        splitBlocks(base, moved ? (block) => escapeCounts[block] > 0 : all);
      }
      this.#bases.set(shape, base);
    }
    return {
      base,
      symbols: this.bytes(symbols, rows.length * tokens),
      planes: parts,
      escapes: this.bytes(escapes, end - escapes),
      escapeCounts,
    };
  }

  join(
    parts: ElementParts,
    shape: LosslessShape,
    tokens: number,
    rows: Int32Array,
    begin: number,
    heads: readonly Uint8Array[],
  ): void {
    const { dim, dtype } = shape;
    const end = begin + heads.length;
    const [chosen, order] = this.#chosenRows(parts.symbols, tokens, rows, begin * dim, end * dim);
    const before = parts.escapeCounts.subarray(0, begin).reduce((sum, n) => sum + n, 0);
    const escapeCounts = parts.escapeCounts.subarray(begin, end);
    const escapeCount = escapeCounts.reduce((sum, n) => sum + n, 0);
    // Of symbols that lie here already no view is needed, which may end where the block is made longer.
    const [lie, count] = [this.#lies(chosen, this.#base), chosen.length];
    const place = this.#placed((base) => joinPlaces(base, { ...shape, blocks: heads.length }, tokens, escapeCount));
    if (!lie) this.bytes(place.symbols, count).set(chosen);
    this.bytes(place.escapes, escapeCount).set(parts.escapes.subarray(before, before + escapeCount));
    this.#ints(place.rows, order.length).set(order);
    // One block at a time is brought in and taken away, as in split.
    let at = place.planes;
    const planes = planeLengths({ ...shape, blocks: 1 }, tokens)
      .map((length) => this.bytes((at += length) - length, length));
    const elements = this.bytes(place.out, elementBytes({ ...shape, blocks: 1 }, tokens));
    const { join } = this.exports;
    let escapes = place.escapes;
    for (const [i, head] of heads.entries()) {
      const block = begin + i;
      planes.forEach((plane, k) =>
        plane.set(parts.planes[k].subarray(block * plane.length, (block + 1) * plane.length))
      );
      const right = join(
        place.symbols,
        place.planes,
        escapes,
        escapeCounts[i],
        DTYPES[dtype],
        parts.base,
        tokens,
        dim,
        place.rows + 4 * dim * i,
        place.work,
        place.out,
      );
      if (!right) throw wrongEscapes(block);
      head.set(elements);
      escapes += escapeCounts[i];
    }
  }

  measure(symbols: Uint8Array, tokens: number, groups: readonly RowGroup[], sums: Float32Array): void {
    const place = this.#places(symbols.length / tokens, tokens);
    const sampled = sampledTokens(tokens);
    this.#place(symbols, place.symbols);
    const cosines = this.#floats(place.cosines, sampled.length);
    const sines = this.#floats(place.sines, sampled.length);
    for (const { begin, end, phases } of groups) {
      if (phases !== null) {
        for (let i = 0; i < sampled.length; i++) {
          cosines[i] = PHASE_COSINES[phases[sampled[i]]];
          sines[i] = PHASE_SINES[phases[sampled[i]]];
        }
      }
      this.exports.measure(
        place.symbols,
        tokens,
        begin,
        end,
        sampled[0],
        sampleStep(tokens),
        sampled.length >> 2,
        phases === null ? 0 : place.cosines,
        phases === null ? 0 : place.sines,
        place.sums,
      );
      sums.set(this.#floats(place.sums + 12 * begin, 3 * (end - begin)), 3 * begin);
    }
  }

  choose(sums: Float32Array, tokens: number, groups: readonly RowGroup[], { scales, means }: RowCodes): void {
    const rows = scales.length;
    const place = this.#places(rows, tokens);
    const sampled = sampledTokens(tokens);
    this.#floats(place.sums, sums.length).set(sums);
    for (const { begin, end, phases } of groups) {
      const [cc, cs, ss] = phases === null ? [0, 0, 0] : phaseSums(phases, sampled);
      const turning = phases === null ? 0 : 1;
      const { choose } = this.exports;
      choose(place.sums, begin, end, sampled.length, turning, cc, cs, ss, place.scales, place.means);
    }
    scales.set(this.bytes(place.scales, rows));
    means.set(this.bytes(place.means, rows));
  }

  model({ scales, means }: RowCodes, tokens: number, groups: readonly RowGroup[]): RowModel {
    const rows = scales.length;
    const place = this.#places(rows, tokens);
    this.bytes(place.scales, rows).set(scales);
    this.bytes(place.means, rows).set(means);
    for (const { begin, end, phases } of groups) {
      const met = this.#placePhases(place, phases === null ? null : phasesMet(phases));
      const { classes, flips, octaves } = place;
      this.exports.model(place.scales, place.means, begin, end, met, classes, flips, octaves);
    }
    return {
      classes: this.bytes(place.classes, rows * PHASES),
      flips: this.bytes(place.flips, rows * PHASES),
      octaves: this.bytes(place.octaves, rows),
    };
  }

  normalize(
    symbols: Uint8Array,
    tokens: number,
    groups: readonly RowGroup[],
    model: RowModel,
    counts: Uint32Array,
  ): void {
    const place = this.#places(symbols.length / tokens, tokens);
    const foreign = this.#place(symbols, place.symbols);
    this.#placeModel(place, model);
    const { classes, flips, octaves, ranges, seen } = place;
    const step = countStep(symbols.length);
    const placed = this.#ints(place.counts, COUNTS);
    const others = this.#ints(place.counts + OTHER_BYTES, COUNTS);
    placed.set(counts);
    others.fill(0);
    for (const { begin, end, phases } of groups) {
      const at = this.#placePhases(place, phases);
      this.exports.count(place.symbols, tokens, begin, end, at, classes, flips, octaves, place.counts, step);
    }
    for (let i = 0; i < COUNTS; i++) counts[i] = placed[i] + others[i];
    const marks = this.bytes(seen, COUNTS);
    marks.fill(0);
    if (step > 1) this.bytes(ranges, 4 * CLASSES).set(countedRanges(counts));
    for (const { begin, end, phases } of groups) {
      const at = this.#placePhases(place, phases);
      const { normalize } = this.exports;
      normalize(place.symbols, tokens, begin, end, at, classes, flips, octaves, step > 1 ? ranges : 0, seen);
    }
    for (let i = 0; i < COUNTS; i++) counts[i] ||= marks[i];
    if (foreign) symbols.set(this.bytes(place.symbols, symbols.length));
  }

  denormalize(symbols: Uint8Array, tokens: number, groups: readonly RowGroup[], model: RowModel): Uint8Array {
    const { length } = symbols;
    const place = this.#places(length / tokens, tokens);
    this.#place(symbols, place.symbols);
    this.#placeModel(place, model);
    for (const { begin, end, phases } of groups) {
      const at = this.#placePhases(place, phases);
      this.exports.denormalize(place.symbols, tokens, begin, end, at, place.flips, place.octaves);
    }
    // Where they lie join finds them.
    return this.bytes(place.symbols, length);
  }

  /** Symbols of features [begin, end) and their rows: all as they are, or those rows alone. */
  #chosenRows(
    symbols: Uint8Array,
    tokens: number,
    rows: Int32Array,
    begin: number,
    end: number,
  ): [symbols: Uint8Array, rows: Int32Array] {
    if (end - begin === rows.length) return [symbols, rows];
    const chosen = new Uint8Array((end - begin) * tokens);
    for (let i = begin; i < end; i++) {
      chosen.set(symbols.subarray(rows[i] * tokens, (rows[i] + 1) * tokens), (i - begin) * tokens);
    }
    return [chosen, Int32Array.from({ length: end - begin }, (_, i) => i)];
  }

  #placeModel(place: Places, { classes, flips, octaves }: RowModel): void {
    this.#place(classes, place.classes);
    this.#place(flips, place.flips);
    this.#place(octaves, place.octaves);
  }

  /** Address of the phases, 0 without any. */
  #placePhases(place: Places, phases: Uint8Array | null): number {
    if (phases === null) return 0;
    this.bytes(place.phases, phases.length).set(phases);
    return place.phases;
  }

  #lies(array: Uint8Array, address: number): boolean {
    return array.buffer === this.exports.memory.buffer && array.byteOffset === address;
  }

  /** Copies an array to its place unless it is there. Returns whether it was elsewhere. */
  #place(array: Uint8Array, address: number): boolean {
    if (this.#lies(array, address)) return false;
    this.bytes(address, array.length).set(array);
    return true;
  }

  /** Places for so many rows and tokens. */
  #places(rows: number, tokens: number): Places {
    return this.#placed((base) => placesOf(base, rows, tokens));
  }

  /** Places in the block of memory, which is made longer here alone, never under views in use; its contents stay. */
  #placed<T extends { readonly end: number }>(places: (base: number) => T): T {
    const wanted = places(0).end;
    if (wanted > this.#size) {
      const longer = this.alloc(wanted);
      this.bytes(longer, this.#size).set(this.bytes(this.#base, this.#size));
      if (this.#size > 0) this.free(this.#base);
      [this.#base, this.#size] = [longer, wanted];
    }
    return places(this.#base);
  }

  #ints(address: number, length: number): Uint32Array {
    return new Uint32Array(this.exports.memory.buffer, address, length);
  }

  #floats(address: number, length: number): Float32Array {
    return new Float32Array(this.exports.memory.buffer, address, length);
  }
}
