/**
 * The trellis coder's kernels on a GPU, ready to run.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { levelStride } from "../../src/backend/gpu/trellis.ts";
import { escapeValues } from "../../src/stages/entropy/escape_values.ts";
import { initialTables } from "../../src/stages/quantize/trellis/initial_tables.ts";
import { MODES, tableBits, tableLimits, trellisModel } from "../../src/stages/quantize/trellis/model.ts";
import { filled, type Kernel, random, requireSame } from "./operands.ts";

/** Components of recipe kvz on SmolLM2. */
export const TRELLIS_COMPONENTS = 1408;
const [COMPONENTS, CHUNK] = [TRELLIS_COMPONENTS, 256];
/** Most chunks that the codec codes at once. */
const MOST_CHUNKS = 64;
/** The step is 2^(−300/60). */
const S = 300;

/** Spreads fall from 25 steps to a fifth of one. */
const spread = (component: number) => 25 * (0.2 / 25) ** (component / COMPONENTS);

/** A model for chunks, and a chunk's coefficients in sixteenths of the step, so many a token. */
export function trellisOperands(stride: number, tokens: number) {
  const logSigma = Int16Array.from(
    { length: MODES * COMPONENTS },
    (_, i) => Math.round(60 * Math.log2(spread(i % COMPONENTS))) - S,
  );
  const rho32 = new Int8Array(MODES * COMPONENTS).map((_, i) => 6 * Math.floor(i / COMPONENTS));
  const tables = initialTables();
  const costs = { bits: tableBits(tables), limits: tableLimits(tables) };
  const model = trellisModel([{ s: S, rho32, logSigma }], S, costs);
  const gaussian = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const drawn = Int32Array.from(
    { length: tokens * stride },
    (_, i) => Math.round(16 * spread(i % stride) * gaussian()),
  );
  return { model, drawn };
}

/** Encoding and decoding of so many tokens, up to 64 chunks of them, with the steps before and after. */
export async function trellisKernels(backend: Backend, tokens: number): Promise<Kernel[]> {
  const trellis = backend.gpu?.trellis;
  if (!trellis) return [];
  const { encoder } = trellis;
  const [stride, length] = [levelStride(COMPONENTS), Math.min(CHUNK, tokens)];
  const fit = Math.max(1, Math.floor(encoder.mostBytes / (length * stride * 4)));
  const chunks = Math.min(MOST_CHUNKS, fit, Math.floor(tokens / length));
  const batch = { chunks, components: COMPONENTS, tokens: length };
  const { model, drawn } = trellisOperands(stride, length);
  const alloc = (byteLength: number) => backend.alloc(Math.max(16, byteLength));
  const count = chunks * length * COMPONENTS;
  const models = trellis.uploadModels([model]);
  const weight = encoder.uploadWeight(model, 77);
  const rows = filled(backend, drawn, chunks * drawn.byteLength);
  const coded = { levels: alloc(chunks * length * stride * 2), reconstruction: alloc(chunks * length * stride * 2) };
  const side = {
    models: filled(backend, new Uint32Array(chunks)),
    words: alloc(chunks * length * 4),
    offsets: alloc((chunks * COMPONENTS + 3) & ~3),
  };
  const encode = () => encoder.encode(models, weight, batch, 0, rows, coded, side);
  encode();
  const [symbols, quarters, status] = [count, chunks * length * stride * 2, chunks * 8].map(alloc);
  const places = alloc(chunks * COMPONENTS * Math.ceil(length / 32) * 4);
  const lengths = alloc(chunks * 4);
  const makeSymbols = () => encoder.symbols(models, batch, side, coded.levels, symbols, places, lengths);
  makeSymbols();
  const escaped = new Uint32Array((await backend.read(lengths, 0, 4)).buffer)[0];
  // All chunks are the same.
  const begins = filled(backend, Uint32Array.from({ length: chunks }, (_, i) => i * escaped));
  const written = alloc(chunks * escaped);
  const writeEscapes = () => encoder.escapes(models, batch, side, coded.levels, places, lengths, begins, written);
  writeEscapes();
  const values = escapeValues(await backend.read(written, 0, escaped));
  const escapes = {
    values: filled(backend, Uint32Array.from(values), chunks * values.length * 4),
    begins: filled(backend, Uint32Array.from({ length: chunks + 1 }, (_, i) => i * values.length)),
  };
  const decode = () => trellis.decode(models, batch, side, symbols, escapes, quarters, status);
  decode();
  await requireSame("The trellis coder", backend, coded.reconstruction, quarters, length * stride * 2);
  const floats = filled(backend, random(length * stride, 50), chunks * length * stride * 4);
  const coefficients = { first: floats, second: floats, gain: 1, stride };
  const largest = alloc(chunks * 16);
  const factors = filled(backend, new Float64Array(chunks).fill(16));
  const [classes, kinds] = [alloc(count / length * 16), alloc(chunks * length)];
  return [
    { name: "trellis encode", bytes: 8 * count, run: encode },
    { name: "trellis decode", bytes: 3 * count, run: decode },
    {
      name: "trellis magnitudes",
      bytes: 8 * count,
      run: () => encoder.magnitudes(coefficients, batch, largest),
    },
    {
      name: "trellis substeps",
      bytes: 12 * count,
      run: () => encoder.substeps(coefficients, batch, 0, factors, rows),
    },
    { name: "trellis symbols", bytes: 3 * count, run: makeSymbols },
    { name: "trellis escapes", bytes: 2 * count + chunks * escaped, run: writeEscapes },
    {
      name: "trellis contexts",
      bytes: count / length * 21 + chunks * length * 5,
      run: () => trellis.contexts(models, batch, side, classes, kinds),
    },
  ];
}
