/**
 * The trellis coder's kernels on a GPU, ready to run.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { levelStride } from "../../src/backend/gpu/trellis.ts";
import { escapeValues } from "../../src/stages/entropy/escape_values.ts";
import { initialTables } from "../../src/stages/quantize/trellis/initial_tables.ts";
import { MODES, tableBits, tableLimits, trellisModel } from "../../src/stages/quantize/trellis/model.ts";
import type { Kernel } from "./kernel_cases.ts";

/** Components of recipe kvz on SmolLM2, and tokens of a chunk. */
const [COMPONENTS, CHUNK] = [1408, 256];
/** Most chunks that the codec codes at once. */
const MOST_CHUNKS = 64;
/** The step is 2^(−300/60). */
const S = 300;

/** Encoding and decoding of so many tokens, up to 64 chunks of them. */
export async function trellisKernels(backend: Backend, tokens: number): Promise<Kernel[]> {
  const trellis = backend.gpu?.trellis;
  if (!trellis) return [];
  const { encoder } = trellis;
  const [stride, length] = [levelStride(COMPONENTS), Math.min(CHUNK, tokens)];
  const fit = Math.max(1, Math.floor(encoder.mostBytes / (length * stride * 4)));
  const chunks = Math.min(MOST_CHUNKS, fit, Math.floor(tokens / length));
  const batch = { chunks, components: COMPONENTS, tokens: length };
  // Spreads fall from 25 steps to a fifth of one.
  const spread = (c: number) => 25 * (0.2 / 25) ** (c / COMPONENTS);
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
    { length: length * stride },
    (_, i) => Math.round(16 * spread(i % stride) * gaussian()),
  );
  const alloc = (byteLength: number) => backend.alloc(Math.max(16, byteLength));
  const filled = (data: ArrayBufferView, times: number) => {
    const buffer = alloc(times * data.byteLength);
    for (let i = 0; i < times; i++) backend.write(buffer, data, i * data.byteLength);
    return buffer;
  };
  const count = chunks * length * COMPONENTS;
  const models = trellis.uploadModels([model]);
  const weight = encoder.uploadWeight(model, 77);
  const rows = filled(drawn, chunks);
  const coded = { levels: alloc(chunks * length * stride * 2), reconstruction: alloc(chunks * length * stride * 2) };
  const side = {
    models: filled(new Uint32Array(chunks), 1),
    words: alloc(chunks * length * 4),
    offsets: alloc((chunks * COMPONENTS + 3) & ~3),
  };
  const encode = () => encoder.encode(models, weight, batch, 0, rows, coded, side);
  encode();
  const [symbols, quarters, status] = [count, chunks * length * stride * 2, chunks * 8].map(alloc);
  const escapes = await escapesOf();
  const decode = () => trellis.decode(models, batch, side, symbols, escapes, quarters, status);
  decode();
  await requireSame(backend, coded.reconstruction, quarters, length * stride * 2);
  return [
    { name: "trellis encode", bytes: 8 * count, run: encode },
    { name: "trellis decode", bytes: 3 * count, run: decode },
  ];

  /** Makes the symbols, and the values of what escapes them. */
  async function escapesOf() {
    const [places, lengths] = [alloc(chunks * COMPONENTS * Math.ceil(length / 32) * 4), alloc(chunks * 4)];
    encoder.symbols(models, batch, side, coded.levels, symbols, places, lengths);
    const [bytes] = new Uint32Array((await backend.read(lengths, 0, 4)).buffer);
    // All chunks are the same.
    const begins = filled(Uint32Array.from({ length: chunks }, (_, i) => i * bytes), 1);
    const written = alloc(chunks * bytes);
    encoder.escapes(models, batch, side, coded.levels, places, lengths, begins, written);
    const values = escapeValues(await backend.read(written, 0, bytes));
    return {
      values: filled(Uint32Array.from([...values]), chunks),
      begins: filled(Uint32Array.from({ length: chunks + 1 }, (_, i) => i * values.length), 1),
    };
  }
}

async function requireSame(backend: Backend, a: DeviceBuffer, b: DeviceBuffer, bytes: number): Promise<void> {
  const [x, y] = [await backend.read(a, 0, bytes), await backend.read(b, 0, bytes)];
  if (x.some((value, i) => value !== y[i])) {
    throw new Error(`The trellis coder of ${backend.name} does not give its levels back`);
  }
}
