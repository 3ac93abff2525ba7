/**
 * The steps of recipe kvz on a GPU, ready to run: buffers of synthetic chunks and the calls between them, in the order of
 * encoding, then of decoding.
 *
 * @module
 */
import { type Backend, type BlockShape, type DeviceBuffer, paddedLength } from "../../src/backend/backend.ts";
import { type GpuEntropy, mostBytes } from "../../src/backend/gpu/entropy.ts";
import { type GpuTrellis, levelStride, type SideBuffers } from "../../src/backend/gpu/trellis.ts";
import {
  MODES,
  tableBits,
  tableLimits,
  type TrellisModel,
  trellisModel,
} from "../../src/stages/quantize/trellis/model.ts";
import { initialTables } from "../../src/stages/quantize/trellis/initial_tables.ts";
import { NEXT_STATE } from "../../src/stages/quantize/trellis/states.ts";
import { escapeValues } from "../../src/stages/entropy/escape_values.ts";
import { Scratch } from "../../src/stages/scratch.ts";

/** Elements of a head. */
const DIM = 128;
/** Features that are restored at once: their sums and elements are written again and again. */
const SLICE = 8192;
/** Chunks that differ; longer batches repeat them. */
const DRAWN = 4;
/** The step is 2^(−300/60). */
const S = 300;
const LAMBDA = 0.3;

/** What is measured. */
export interface Geometry {
  /** Of keys and values together. */
  readonly features: number;
  readonly components: number;
  readonly tokens: number;
  readonly chunk: number;
  /** Tokens that are projected and multiplied at once. */
  readonly batch: number;
  /** Whether projection and multiplication are measured. */
  readonly products: boolean;
}

/** A step. */
export interface Step {
  readonly name: string;
  readonly way: "encode" | "decode";
  /** Enqueues it for all tokens. */
  readonly run: () => void;
}

/** Steps over buffers that lie on the device until the backend is disposed. */
export class KvzSteps {
  readonly list: readonly Step[];
  /** What the data is like. */
  readonly facts: Record<string, number>;
  /** Compares what was decoded with what the encoder knew. */
  readonly requireSame: () => Promise<void>;

  private constructor(list: readonly Step[], facts: Record<string, number>, requireSame: () => Promise<void>) {
    this.list = list;
    this.facts = facts;
    this.requireSame = requireSame;
  }

  /** Makes data and buffers, and runs every step once. */
  static async open(backend: Backend, geometry: Geometry): Promise<KvzSteps> {
    const { trellis, entropy } = backend.gpu ?? {};
    if (!trellis || !entropy) throw new Error(`Cannot measure: backend ${backend.name} lacks kernels of the recipe`);
    const { components, tokens, chunk, products } = geometry;
    const scratch = new Scratch(backend);
    const coder = await Coder.open(backend, scratch, trellis, entropy, { components, tokens, chunk });
    const around = products ? productSteps(backend, scratch, geometry, coder) : { before: [], after: [] };
    return new KvzSteps(
      [...around.before, ...coder.encoding, ...coder.decoding, ...around.after],
      coder.facts,
      () => coder.requireSame(),
    );
  }
}

/** Residuals that fall from 25 steps to a fifth of one, like those of a large model. */
function fallingModel(components: number): TrellisModel {
  const logSigma = new Int16Array(MODES * components);
  const rho32 = new Int8Array(MODES * components);
  for (let mode = 0; mode < MODES; mode++) {
    for (let c = 0; c < components; c++) {
      logSigma[mode * components + c] = Math.round(60 * Math.log2(spreadOf(c, components) / (1 + mode / 4))) - S;
      rho32[mode * components + c] = 6 * mode;
    }
  }
  const tables = initialTables();
  return trellisModel([{ s: S, rho32, logSigma }], S, { bits: tableBits(tables), limits: tableLimits(tables) });
}

function spreadOf(c: number, components: number): number {
  return 25 * (0.2 / 25) ** (c / components);
}

/** Coefficients in steps of tokens that resemble earlier ones of their chunk, [tokens][stride]. */
function drawCoefficients(components: number, tokens: number, stride: number): Float32Array {
  const out = new Float32Array(tokens * stride);
  const gaussian = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  for (let t = 0; t < tokens; t++) {
    const ref = Math.floor(Math.random() * (t + 1)) - 1;
    const energy = 2 ** (1.5 * Math.random() - 0.75);
    for (let c = 0; c < components; c++) {
      const old = ref < 0 ? 0 : out[ref * stride + c];
      // One in a thousand lies far out, as escapes do.
      const outlier = Math.random() < 1e-3 ? 20 : 1;
      out[t * stride + c] = 0.6 * old + spreadOf(c, components) * energy * outlier * gaussian();
    }
  }
  return out;
}

/** Fills a buffer with another's bytes, again and again. */
function fill(backend: Backend, from: DeviceBuffer, to: DeviceBuffer): void {
  for (let at = 0; at < to.byteLength; at += from.byteLength) {
    backend.copy(from, 0, to, at, Math.min(from.byteLength, to.byteLength - at));
  }
}

/** Prediction, trellis and entropy coding of all chunks. */
class Coder {
  readonly facts: Record<string, number> = {};
  readonly encoding: Step[] = [];
  readonly decoding: Step[] = [];
  /** f32 [tokens][stride], two halves of the coefficients. */
  readonly first: DeviceBuffer;
  readonly second: DeviceBuffer;
  /** i16 [tokens][levelStride]. */
  readonly quarters: DeviceBuffer;
  readonly #backend: Backend;
  #compared!: readonly [DeviceBuffer, DeviceBuffer];

  private constructor(backend: Backend, first: DeviceBuffer, second: DeviceBuffer, quarters: DeviceBuffer) {
    this.#backend = backend;
    this.first = first;
    this.second = second;
    this.quarters = quarters;
  }

  static async open(
    backend: Backend,
    scratch: Scratch,
    trellis: GpuTrellis,
    entropy: GpuEntropy,
    { components, tokens, chunk }: { components: number; tokens: number; chunk: number },
  ): Promise<Coder> {
    const chunks = tokens / chunk;
    if (!Number.isInteger(chunks)) throw new Error(`Cannot measure: ${tokens} tokens are no whole chunks of ${chunk}`);
    const batch = { chunks, components, tokens: chunk };
    const streams = { streams: chunks, rows: components, tokens: chunk };
    const stride = paddedLength(components);
    const rowStride = levelStride(components);
    const model = fallingModel(components);
    const models = trellis.uploadModels([model]);
    const tables = entropy.uploadTables(initialTables());
    const count = tokens * components;
    const [first, second] = [0, 0].map(() => scratch.alloc(tokens * stride * 4));
    const coder = new Coder(backend, first, second, scratch.alloc(tokens * rowStride * 2));
    const [symbols, restored] = [0, 0].map(() => scratch.alloc(count));
    const status = scratch.alloc(chunks * 8);
    const [classes, kinds] = [scratch.alloc(chunks * components * 16), scratch.alloc(tokens)];
    const contexts = entropy.wrapContexts(classes, kinds, NEXT_STATE);
    const bytes = scratch.alloc(mostBytes(streams));
    const [begins, lengths] = [scratch.alloc(chunks * 4 + 4), scratch.alloc(chunks * 4)];
    const drawn = drawCoefficients(components, Math.min(DRAWN, chunks) * chunk, stride);
    const side = await coder.#encode(scratch, trellis, batch, drawn, models, model, symbols);
    const encode = () => entropy.encode(symbols, streams, tables, contexts, bytes, begins, lengths);
    trellis.contexts(models, batch, side.buffers, classes, kinds);
    coder.encoding.push({
      name: "contexts",
      way: "encode",
      run: () => trellis.contexts(models, batch, side.buffers, classes, kinds),
    });
    coder.encoding.push({ name: "rANS encode", way: "encode", run: encode });
    encode();
    const coded = new Uint32Array((await backend.read(lengths, 0, chunks * 4)).buffer);
    coder.facts.bitsPerCoefficient = Number((8 * coded.reduce((sum, n) => sum + n, 0) / count).toPrecision(3));
    coder.facts.escapes = side.escapes;
    const decode = () => entropy.decode(bytes, begins, streams, tables, contexts, restored, status);
    coder.decoding.push({ name: "rANS decode", way: "decode", run: decode });
    coder.decoding.push({
      name: "trellis decode",
      way: "decode",
      run: () => trellis.decode(models, batch, side.buffers, restored, side.values, coder.quarters, status),
    });
    for (const { run } of coder.decoding) run();
    return coder;
  }

  /** Compares an eighth of the quarters, or all where they are few. */
  async requireSame(): Promise<void> {
    const [a, b] = this.#compared;
    const part = Math.min(a.byteLength, 1 << 24);
    for (let at = 0; at + part <= a.byteLength; at += Math.max(part, a.byteLength >> 3 & ~15)) {
      const [x, y] = [await this.#backend.read(a, at, part), await this.#backend.read(b, at, part)];
      if (x.some((value, i) => value !== y[i])) throw new Error("What was decoded is not what was encoded");
    }
  }

  async #encode(
    scratch: Scratch,
    trellis: GpuTrellis,
    batch: { chunks: number; components: number; tokens: number },
    drawn: Float32Array,
    models: ReturnType<GpuTrellis["uploadModels"]>,
    model: TrellisModel,
    symbols: DeviceBuffer,
  ) {
    const encoder = trellis.encoder;
    const backend = this.#backend;
    const { chunks, components, tokens } = batch;
    const count = chunks * tokens;
    const [stride, rowStride] = [paddedLength(components), levelStride(components)];
    // In units of the step; the second half is nothing.
    fill(backend, scratch.upload(drawn), this.first);
    fill(backend, scratch.upload(new Float32Array(1 << 16)), this.second);
    const coefficients = { first: this.first, second: this.second, stride, gain: 1 };
    const rows = scratch.alloc(count * rowStride * 4);
    const largest = scratch.alloc(chunks * 16);
    const factors = scratch.upload(new Float64Array(chunks).fill(16));
    const coded = {
      levels: scratch.alloc(count * rowStride * 2),
      reconstruction: scratch.alloc(count * rowStride * 2),
    };
    const side: SideBuffers = {
      models: scratch.upload(new Uint32Array(chunks)),
      words: scratch.alloc(count * 4),
      offsets: scratch.alloc(chunks * components + 3),
    };
    const weight = encoder.uploadWeight(model, Math.round(LAMBDA * 256));
    const places = scratch.alloc(chunks * components * Math.ceil(tokens / 32) * 4);
    const lengths = scratch.alloc(chunks * 4);
    // Room for one byte in eight.
    const most = Math.ceil(tokens * components / 8);
    const begins = scratch.upload(Uint32Array.from({ length: chunks }, (_, i) => i * most));
    const escapes = scratch.alloc(chunks * most + 4 * tokens * components);
    const steps: [string, () => void][] = [
      ["magnitudes", () => encoder.magnitudes(coefficients, batch, largest)],
      ["substeps", () => encoder.substeps(coefficients, batch, 0, factors, rows)],
      ["trellis encode", () => encoder.encode(models, weight, batch, 0, rows, coded, side)],
      ["symbols", () => encoder.symbols(models, batch, side, coded.levels, symbols, places, lengths)],
      ["escapes", () => encoder.escapes(models, batch, side, coded.levels, places, lengths, begins, escapes)],
    ];
    for (const [name, run] of steps) {
      this.encoding.push({ name, way: "encode", run });
      run();
    }
    this.#compared = [coded.reconstruction, this.quarters];
    const found = new Uint32Array((await backend.read(lengths, 0, chunks * 4)).buffer);
    const values: Uint32Array[] = [];
    for (const [i, length] of found.entries()) {
      if (length > most) {
        throw new Error(`Cannot measure: a chunk has ${length} bytes of escapes, expected up to ${most}`);
      }
      values.push(escapeValues(await backend.read(escapes, i * most, length)));
    }
    return { buffers: side, ...this.#values(scratch, values) };
  }

  #values(scratch: Scratch, values: readonly Uint32Array[]) {
    const begins = Uint32Array.of(0, ...values.map(({ length }) => length));
    for (let i = 1; i < begins.length; i++) begins[i] += begins[i - 1];
    const escapes = begins[begins.length - 1];
    const all = new Uint32Array(Math.max(4, escapes));
    values.forEach((part, i) => all.set(part, begins[i]));
    return { escapes, values: { values: scratch.upload(all), begins: scratch.upload(begins) } };
  }
}

/** Projection before the coder, products of integers after it. */
function productSteps(backend: Backend, scratch: Scratch, geometry: Geometry, coder: Coder) {
  const { features, components, tokens, batch } = geometry;
  const integer = backend.gpu?.integer;
  if (!integer) throw new Error(`Cannot measure: backend ${backend.name} has no products of integers`);
  const half = features / 2;
  const noise = new Int8Array(1 << 20).map(() => Math.round(126 * Math.random() - 63));
  const repeated = <T extends Int8Array | Uint16Array>(to: T, from: ArrayLike<number>): T => {
    to.set(Array.from(from).slice(0, to.length));
    for (let filled = Math.min(from.length, to.length); filled < to.length; filled *= 2) {
      to.copyWithin(filled, 0, filled);
    }
    return to;
  };
  const basis = integer.uploadBasis(repeated(new Int8Array(components * features), noise), components, features);
  // Binary16 numbers of ±2^-9 … ±2^-8.
  const halves = Uint16Array.from(noise, (value) => 0x1800 | value << 8 & 0x8000 | (value & 0x3f) << 4);
  const forward = backend.uploadBasis(repeated(new Uint16Array(components * half), halves), components, half);
  const shape = (blocks: number, count: number): BlockShape => ({
    dtype: "f16",
    blocks,
    tokens: count,
    dim: DIM,
    rotaryDim: DIM,
  });
  const source = scratch.alloc(batch * half * 2);
  fill(backend, scratch.upload(halves), source);
  const rotation = scratch.upload(new Float32Array(tokens * DIM).fill(Math.SQRT1_2));
  const [mean, scales] = [0, 0.01].map((value) => scratch.upload(new Float32Array(half).fill(value)));
  const tokenScales = scratch.upload(new Float32Array(tokens).fill(0.01));
  const stride = paddedLength(components);
  const slice = Math.min(SLICE, half);
  const sums = scratch.alloc(batch * slice * 4);
  const out = scratch.alloc(batch * slice * 2);
  const rowBytes = levelStride(components) * 2;
  const parts = Array.from({ length: Math.ceil(tokens / batch) }, (_, i) => {
    const begin = i * batch;
    const count = Math.min(batch, tokens - begin);
    return {
      count,
      coefficients: [coder.first, coder.second].map((buffer) =>
        backend.view(buffer, begin * stride * 4, count * stride * 4)
      ),
      quarters: backend.view(coder.quarters, begin * rowBytes, count * rowBytes),
    };
  });
  // Into a buffer of their own: what the coder measures is not noise.
  const projected = scratch.alloc(batch * stride * 4);
  const multiply = (run: (quarters: DeviceBuffer, count: number, begin: number, end: number) => void) => () => {
    for (const { quarters, count } of parts) {
      for (let begin = 0; begin < features; begin += slice) {
        run(quarters, count, begin, Math.min(begin + slice, features));
      }
    }
  };
  const product = (quarters: DeviceBuffer, count: number, begin: number, end: number) =>
    integer.multiply(basis, quarters, levelStride(components), count, begin, end, sums);
  const scatter = (_: DeviceBuffer, count: number, begin: number, end: number) =>
    integer.scatterSums(
      sums,
      { ...shape((end - begin) / DIM, count), rotaryDim: begin < half ? DIM : 0 },
      scales,
      tokenScales,
      begin < half ? rotation : null,
      mean,
      out,
    );
  const project = (rotated: boolean) => () => {
    for (const { count } of parts) {
      const of = { ...shape(half / DIM, count), rotaryDim: rotated ? DIM : 0 };
      backend.gatherProject(source, of, rotated ? rotation : null, mean, forward, projected);
    }
  };
  return {
    before: [
      { name: "gather and project keys", way: "encode", run: project(true) },
      { name: "gather and project values", way: "encode", run: project(false) },
    ] satisfies Step[],
    after: [
      { name: "integer product", way: "decode", run: multiply(product) },
      { name: "scatter of sums", way: "decode", run: multiply(scatter) },
    ] satisfies Step[],
  };
}
