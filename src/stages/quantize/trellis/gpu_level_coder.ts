/**
 * A chunk's coefficients ↔ its streams on a GPU: trellis, escapes and rANS there, only coded bytes and side information cross.
 * The streams are those of {@linkcode LevelCoder}.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../../backend/backend.ts";
import { type CoefficientBuffers, type GpuTrellis, levelStride } from "../../../backend/gpu/trellis.ts";
import { Batches } from "../../batches.ts";
import type { RansTables } from "../../entropy/rans_tables.ts";
import { Scratch, withScratch } from "../../scratch.ts";
import { MAX_LEVEL, MAX_TOKEN_SUM, requireLevels } from "../../transform/integer_basis.ts";
import type { ChunkStreams } from "./engine.ts";
import { type DecodedChunk, GpuChunkDecoder, MOST_CHUNKS } from "./gpu_decoder.ts";
import { GpuChunkEncoder } from "./gpu_encoder.ts";
import { componentMajor, tokenMajor } from "./gpu_side.ts";
import { GpuSymbols } from "./gpu_symbols.ts";
import type { ChunkCoder } from "./level_coder.ts";
import { type StepSet, tableBits, tableLimits, type TrellisModel, trellisModel } from "./model.ts";
import { checkEncoderInput, type TrellisCode, weightOf } from "./reference.ts";
import { stepOf } from "./step.ts";

/** A chunk to be coded. */
interface EncodeJob {
  readonly coefficients: CoefficientBuffers;
  readonly wanted: number;
  readonly components: number;
  readonly tokens: number;
  readonly weight: number;
}

/** Codes the chunks of one lane, each of the leading components or all. */
export class GpuLevelCoder implements ChunkCoder {
  readonly #backend: Backend;
  readonly #trellis: GpuTrellis;
  readonly #stepSets: readonly StepSet[];
  readonly #costs: { readonly bits: Uint16Array; readonly limits: Uint8Array };
  readonly #symbols: GpuSymbols;
  readonly #openHost: () => Promise<ChunkCoder>;
  #host: Promise<ChunkCoder> | null = null;
  readonly #decoder: GpuChunkDecoder;
  readonly #encoder: GpuChunkEncoder;
  readonly #batches: Batches<EncodeJob, ChunkStreams | Error | null>;

  /**
   * @param components the most that a chunk has, those of the step sets
   * @param openHost makes the coder of what the device has no kernels for
   */
  constructor(
    backend: Backend,
    trellis: GpuTrellis,
    components: number,
    stepSets: readonly StepSet[],
    tables: RansTables,
    openHost: () => Promise<ChunkCoder>,
  ) {
    this.#backend = backend;
    this.#trellis = trellis;
    this.#stepSets = stepSets;
    this.#costs = { bits: tableBits(tables), limits: tableLimits(tables) };
    this.#symbols = new GpuSymbols(backend, tables);
    this.#openHost = openHost;
    this.#decoder = new GpuChunkDecoder(backend, trellis, components, this.#symbols, this.#modelAt);
    this.#encoder = new GpuChunkEncoder(backend, trellis, this.#symbols, this.#modelAt);
    const alike = (a: EncodeJob, b: EncodeJob) =>
      a.components === b.components && a.tokens === b.tokens && a.weight === b.weight;
    this.#batches = new Batches(MOST_CHUNKS, alike, (jobs) => this.#encodeBatch(jobs));
  }

  async encode(
    y: Int32Array,
    s: number,
    components: number,
    tokens: number,
    lambda: number,
    before: TrellisCode | null,
  ): Promise<ChunkStreams> {
    const weight = checkEncoderInput(this.#modelAt(s, components), y, tokens, lambda);
    const [first, stride] = [before?.refs.length ?? 0, levelStride(components)];
    const rows = new Int32Array((first + tokens) * stride);
    tokenMajor(y, components, tokens, rows.subarray(first * stride));
    return await withScratch(this.#backend, async (scratch) => {
      const chunk = { components, tokens, weight };
      const [streams] = await this.#encoder.encodeRows(scratch, scratch.upload(rows), [s], chunk, before);
      return streams;
    });
  }

  /**
   * Codes coefficients on the device; null when they do not fit the step of `before`. They may be overwritten when the call
   * has returned its promise: chunks that come at once are coded together.
   *
   * @param wanted s of the step, which is coarser where a coefficient is too large for it
   * @throws what `toSubsteps` throws
   */
  async encodeCoefficients(
    coefficients: CoefficientBuffers,
    wanted: number,
    components: number,
    tokens: number,
    lambda: number,
    before: TrellisCode | null,
  ): Promise<ChunkStreams | null> {
    const weight = weightOf(lambda);
    const scratch = new Scratch(this.#backend);
    try {
      const own = copyOf(this.#backend, scratch, coefficients, tokens);
      const result = before === null
        ? await this.#batches.add({ coefficients: own, wanted, components, tokens, weight })
        : (await this.#encoder.encodeCoefficients(scratch, own, [before.s], { components, tokens, weight }, before))[0];
      if (result instanceof Error) throw result;
      return result;
    } finally {
      scratch.free();
    }
  }

  async decode(streams: ChunkStreams, tokens: number): Promise<{ readonly s: number; readonly quarters: Int16Array }> {
    return await withScratch(this.#backend, async (scratch) => {
      const { s, components, quarters } = await this.#decoder.decode(scratch, streams, tokens);
      const rows = await this.#readRows(quarters, components, tokens);
      return { s, quarters: componentMajor(rows, components, tokens) };
    });
  }

  /**
   * The same on the device, in buffers of the scratch. Levels that a product with them could leave 32 bits for are refused as
   * well.
   *
   * @throws {KvzFormatError} when the streams are not what an encoder makes
   */
  async decodeOnDevice(scratch: Scratch, streams: ChunkStreams, tokens: number): Promise<DecodedChunk> {
    const chunk = await this.#decoder.decode(scratch, streams, tokens);
    await this.#requireProduct(chunk, tokens);
    return chunk;
  }

  async decodeLevels(streams: ChunkStreams, tokens: number): Promise<TrellisCode> {
    return await (await this.#hostCoder()).decodeLevels(streams, tokens);
  }

  scales(s: number, tokens: number): Float32Array {
    return new Float32Array(tokens).fill(stepOf(s) / 4);
  }

  [Symbol.dispose](): void {
    this.#decoder[Symbol.dispose]();
    this.#encoder[Symbol.dispose]();
    this.#symbols[Symbol.dispose]();
    this.#host?.then((host) => host[Symbol.dispose](), () => {});
    this.#host = null;
  }

  /** Reads quarters back only where they are so large that a sum could leave 32 bits. */
  async #requireProduct({ quarters, components, largest }: DecodedChunk, tokens: number): Promise<void> {
    if (largest <= MAX_LEVEL && largest * components <= MAX_TOKEN_SUM) return;
    const levels = componentMajor(await this.#readRows(quarters, components, tokens), components, tokens);
    requireLevels({ levels, scales: new Float32Array(tokens) }, components, tokens);
  }

  /** Codes chunks that came at once, as many together as the device can bind. */
  async #encodeBatch(jobs: readonly EncodeJob[]): Promise<(ChunkStreams | Error | null)[]> {
    const [{ coefficients: { stride }, components, tokens }] = jobs;
    const bytes = tokens * Math.max(stride, levelStride(components)) * 4;
    const most = Math.max(1, Math.floor(this.#trellis.encoder.mostBytes / bytes));
    const results: (ChunkStreams | Error | null)[] = [];
    for (let i = 0; i < jobs.length; i += most) results.push(...await this.#encodeTogether(jobs.slice(i, i + most)));
    return results;
  }

  async #encodeTogether(jobs: readonly EncodeJob[]): Promise<(ChunkStreams | Error | null)[]> {
    const [{ coefficients: { stride, gain }, components, tokens, weight }] = jobs;
    return await withScratch(this.#backend, async (scratch) => {
      const bytes = tokens * stride * 4;
      const joined = (part: "first" | "second") => {
        if (jobs.length === 1) return jobs[0].coefficients[part];
        const buffer = scratch.alloc(jobs.length * bytes);
        jobs.forEach((job, i) => this.#backend.copy(job.coefficients[part], 0, buffer, i * bytes, bytes));
        return buffer;
      };
      const all = { first: joined("first"), second: joined("second"), stride, gain };
      return await this.#encoder.encodeCoefficients(
        scratch,
        all,
        jobs.map(({ wanted }) => wanted),
        { components, tokens, weight },
        null,
      );
    });
  }

  async #readRows(quarters: DeviceBuffer, components: number, tokens: number): Promise<Int16Array> {
    const bytes = await this.#backend.read(quarters, 0, tokens * levelStride(components) * 2);
    return new Int16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  }

  readonly #modelAt = (s: number, components: number): TrellisModel =>
    trellisModel(this.#stepSets, s, this.#costs, components);

  #hostCoder(): Promise<ChunkCoder> {
    return this.#host ??= this.#openHost();
  }
}

/** Coefficients in buffers of the scratch. */
function copyOf(
  backend: Backend,
  scratch: Scratch,
  { first, second, stride, gain }: CoefficientBuffers,
  tokens: number,
): CoefficientBuffers {
  const copied = (from: DeviceBuffer) => {
    const to = scratch.alloc(tokens * stride * 4);
    backend.copy(from, 0, to, 0, tokens * stride * 4);
    return to;
  };
  return { first: copied(first), second: copied(second), stride, gain };
}
