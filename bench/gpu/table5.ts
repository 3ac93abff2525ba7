/**
 * KVTC's Table 5 point: a Mistral-NeMo-12B cache (40 layers × 8 heads × 128, keys and values p = 40,960 each, bf16), eight
 * sequences of 8K tokens, 10.74 GB in device memory, compressed to rANS streams there and restored. Contents are
 * synthetic (noise through a random basis: no dimension is easy), so that rates count, not quality.
 *
 * Tables of the entropy coder are fitted on the first tokens and serve all streams (one for two quantizer groups): a file
 * would choose them for each chunk on the host. One batch of tokens is in flight at a time, so that 80 GB suffice.
 *
 *     deno run -A bench/gpu/table5.ts [--backend cuda] [--components 9984] [--sequences 8] [--tokens 8192] [--layers 40]
 *         [--heads 8] [--dim 128] [--rounds 3]
 *
 * Prints one JSON line: milliseconds for all sequences and both kinds, best of the rounds, each way: all in one go, and
 * step by step with a wait after each.
 *
 * @module
 */
import { type DeviceBuffer, paddedLength, type QuantGroup } from "../../src/backend/backend.ts";
import { type DeviceContexts, type DeviceTables, mostBytes, type StreamBatch } from "../../src/backend/gpu/entropy.ts";
import { type BackendName, createBackend } from "../../src/backend/select.ts";
import { rotationTable } from "../../src/cache/rope.ts";
import { KINDS } from "../../src/cache/types.ts";
import { frequenciesOf } from "../../src/stages/entropy/packed_tables.ts";
import { option } from "../inputs.ts";
import { bf16Noise, fillWith, halfNoise, StepClock } from "./device_data.ts";
import { planOf } from "./table5_plan.ts";

/** Tokens of a chunk, and so of a stream. */
const CHUNK = 256;

const count = (name: string, standard: number) => Number(option(name, String(standard)));
const [sequences, tokens, layers, heads, dim] = [
  count("sequences", 8),
  count("tokens", 8192),
  count("layers", 40),
  count("heads", 8),
  count("dim", 128),
];
const features = layers * heads * dim;
const groups = planOf(features, count("components", 9984));
const components = groups.reduce((sum, { size }) => sum + size, 0);
const chunks = Math.ceil(tokens / CHUNK);

using backend = await createBackend({ backend: option("backend", "cuda") as BackendName });
const entropy = backend.gpu?.entropy;
if (!entropy) throw new Error(`Backend ${backend.name} has no entropy coder`);

/** Rows of one width, coded as one stream a chunk. */
interface Form {
  readonly first: number;
  readonly rows: number;
  readonly batch: StreamBatch;
  readonly tableOf: Uint16Array;
  readonly alphabet: number;
}

const forms = [3, 2, 1].map((type): Form => {
  const own = groups.filter((group) => group.type === type);
  const rows = own.reduce((sum, { size }) => sum + size, 0);
  const tableOf = Uint16Array.from(own.flatMap(({ size }, g) => new Array<number>(size).fill(g >> 1)));
  const batch = { streams: chunks, rows, tokens: CHUNK };
  return { first: own[0]?.first ?? 0, rows, batch, tableOf, alphabet: [0, 4, 16, 256][type] };
}).filter(({ rows }) => rows > 0);
const paramRows = groups.length * 4;
const paramBatch = { streams: chunks, rows: paramRows, tokens: CHUNK };

// Device memory: the caches, the bases, and what one sequence of one kind needs on its way.
const elements = features * tokens;
const shape = { dtype: "bf16", blocks: layers * heads, tokens, dim, rotaryDim: dim } as const;
const noise = backend.alloc(1 << 26);
backend.write(noise, bf16Noise(1 << 25));
const caches = KINDS.map(() =>
  Array.from({ length: sequences }, () => fillWith(backend, noise, backend.alloc(elements * 2)))
);
const bases = KINDS.map(() => backend.uploadBasis(halfNoise(components * features, features), components, features));
const mean = backend.alloc(features * 4);
backend.write(mean, new Float32Array(features).fill(0.01));
const positions = Int32Array.from({ length: tokens }, (_, t) => t);
const rope = { theta: 1e6, dim, pairing: "half-split" } as const;
const rotations = (["undo", "redo"] as const).map((direction) => upload(rotationTable(rope, positions, direction)));
const plan = backend.uploadPlan(groups);
const stride = paddedLength(components);
const coefficients = backend.alloc(tokens * stride * 4);
const symbols = backend.alloc(tokens * components);
const params = backend.alloc(tokens * groups.length * 4);
const rows = forms.map((form) => backend.alloc(tokens * form.rows));
const paramsByRow = backend.alloc(tokens * paramRows);
const [begins, lengths, status] = [1, 0, 0].map((more) => backend.alloc((chunks + more) * 4));
const restored = backend.alloc(elements * 2);

/** Streams of a form of a kind of a sequence. */
interface Coded {
  readonly bytes: DeviceBuffer;
  readonly begins: DeviceBuffer;
}

/** Where streams go before their length is known. */
const workspace = backend.alloc(Math.max(...forms.map(({ batch }) => mostBytes(batch)), mostBytes(paramBatch)));

function upload(data: ArrayBufferView): DeviceBuffer {
  const buffer = backend.alloc(data.byteLength);
  backend.write(buffer, data);
  return buffer;
}

/** gather, undo RoPE, subtract, project, quantize, transpose. */
async function toRows(kind: number, sequence: number, clock: StepClock): Promise<void> {
  backend.gatherProject(
    caches[kind][sequence],
    shape,
    kind === 0 ? rotations[0] : null,
    mean,
    bases[kind],
    coefficients,
  );
  await clock.step("project");
  backend.quantize(coefficients, stride, tokens, plan, symbols, params);
  await clock.step("quantize");
  forms.forEach((form, i) => {
    // Forms begin at multiples of 256 components.
    const part = backend.view(symbols, form.first, tokens * components - form.first);
    entropy!.transpose(part, components, tokens, form.rows, CHUNK, rows[i]);
  });
  entropy!.transpose(params, paramRows, tokens, paramRows, CHUNK, paramsByRow);
  await clock.step("transpose");
}

// Tables of the forms, from the first sequence's keys.
await toRows(0, 0, new StepClock(backend, false));
const coders: { tables: DeviceTables; contexts: DeviceContexts }[] = [];
for (const [i, form] of forms.entries()) coders.push(await fitTables(rows[i], form));
const paramCoder = await fitTables(paramsByRow, {
  first: 0,
  rows: paramRows,
  batch: paramBatch,
  tableOf: Uint16Array.from({ length: paramRows }, (_, row) => row & 3),
  alphabet: 256,
});

async function fitTables(from: DeviceBuffer, { rows: n, batch, tableOf, alphabet }: Form) {
  const counts = backend.alloc(n * alphabet * 4);
  entropy!.histogram(from, n, CHUNK, alphabet, counts);
  const found = new Uint32Array((await backend.read(counts, 0, n * alphabet * 4)).buffer);
  counts.free();
  const tables = Math.max(...tableOf) + 1;
  const frequencies = new Uint16Array(tables * 256);
  for (let table = 0; table < tables; table++) {
    // Every symbol of the alphabet can be coded, whatever later chunks hold.
    const sums = new Uint32Array(256).fill(1, 0, alphabet);
    for (let row = 0; row < n; row++) {
      if (tableOf[row] === table) { for (let s = 0; s < alphabet; s++) sums[s] += 16 * found[row * alphabet + s]; }
    }
    frequencies.set(frequenciesOf(sums, 11), table * 256);
  }
  const uploaded = entropy!.uploadTables({ bits: 11, frequencies });
  return { tables: uploaded, contexts: entropy!.uploadContexts([{ variant: "plain", tableOf }], batch, tables) };
}

const parts = [
  ...forms.map((form, i) => ({ rows: rows[i], batch: form.batch, ...coders[i] })),
  { rows: paramsByRow, batch: paramBatch, ...paramCoder },
];

/** Bytes of each part of each kind and sequence, found in a first pass, so that later ones keep what they write. */
const sizes: number[][][] = [];
for (const kind of [0, 1]) {
  sizes.push([]);
  for (let sequence = 0; sequence < sequences; sequence++) {
    await toRows(kind, sequence, new StepClock(backend, false));
    const own: number[] = [];
    for (const part of parts) {
      entropy.encode(part.rows, part.batch, part.tables, part.contexts, workspace, begins, lengths);
      const ends = new Uint32Array((await backend.read(begins, chunks * 4, 4)).buffer);
      const failed = new Uint32Array((await backend.read(lengths, 0, chunks * 4)).buffer).includes(0xffffffff);
      if (failed) throw new Error("A stream has a symbol that its table lacks");
      own.push(ends[0]);
    }
    sizes[kind].push(own);
  }
}
const coded: Coded[][][] = sizes.map((kind) =>
  kind.map((own) => own.map((bytes) => ({ bytes: backend.alloc(bytes + 16), begins: backend.alloc((chunks + 1) * 4) })))
);

async function compress(clock: StepClock): Promise<void> {
  for (const kind of [0, 1]) {
    for (let sequence = 0; sequence < sequences; sequence++) {
      await toRows(kind, sequence, clock);
      parts.forEach((part, i) => {
        const to = coded[kind][sequence][i];
        entropy!.encode(part.rows, part.batch, part.tables, part.contexts, workspace, to.begins, lengths);
        backend.copy(workspace, 0, to.bytes, 0, sizes[kind][sequence][i]);
      });
      await clock.step("rANS");
    }
  }
}

async function decompress(clock: StepClock): Promise<void> {
  for (const kind of [0, 1]) {
    for (let sequence = 0; sequence < sequences; sequence++) {
      parts.forEach((part, i) => {
        const { bytes, begins: from } = coded[kind][sequence][i];
        entropy!.decode(bytes, from, part.batch, part.tables, part.contexts, part.rows, status);
      });
      await clock.step("rANS");
      forms.forEach((form, i) => {
        const part = backend.view(symbols, form.first, tokens * components - form.first);
        entropy!.untranspose(rows[i], components, tokens, form.rows, CHUNK, part);
      });
      entropy!.untranspose(paramsByRow, paramRows, tokens, paramRows, CHUNK, params);
      await clock.step("transpose");
      backend.dequantize(symbols, params, plan, tokens, coefficients, stride);
      await clock.step("dequantize");
      const turns = kind === 0 ? rotations[1] : null;
      backend.reconstructScatter(coefficients, bases[kind], 0, shape, turns, mean, restored);
      await clock.step("reconstruct");
    }
  }
}

/** The last sequence's values again, to compare what the coder gave back. */
async function check(): Promise<void> {
  await toRows(1, sequences - 1, new StepClock(backend, false));
  const wanted = await backend.read(symbols, 0, Math.min(1 << 22, tokens * components));
  const whole = await backend.read(params, 0, Math.min(1 << 22, tokens * groups.length * 4));
  await decompress(new StepClock(backend, false));
  const found = await backend.read(symbols, 0, wanted.length);
  const foundParams = await backend.read(params, 0, whole.length);
  if (found.some((x, i) => x !== wanted[i]) || foundParams.some((x, i) => x !== whole[i])) {
    throw new Error("Codes did not come back");
  }
}

async function best(
  run: (clock: StepClock) => Promise<void>,
): Promise<{ total: number; steps: Record<string, number> }> {
  let total = Infinity;
  for (let round = 0; round < count("rounds", 3); round++) {
    const clock = new StepClock(backend, false);
    await run(clock);
    total = Math.min(total, await clock.total());
  }
  const clock = new StepClock(backend, true);
  await run(clock);
  return { total, steps: clock.steps };
}

const there = await best(compress);
await check();
const back = await best(decompress);
const fileBytes = sizes.flat(2).reduce((sum, bytes) => sum + bytes, 0);
const cacheBytes = 2 * sequences * elements * 2;
console.log(JSON.stringify({
  backend: `${backend.name} ${backend.build}`,
  tokens: sequences * tokens,
  features,
  components,
  cacheBytes,
  ratioBeforeEntropy: 16 * features / bitsOf(groups),
  ratio: cacheBytes / fileBytes,
  compressMilliseconds: there.total,
  compressSteps: there.steps,
  decompressMilliseconds: back.total,
  decompressSteps: back.steps,
}));

function bitsOf(plan: readonly QuantGroup[]): number {
  return plan.reduce((sum, { size, type }) => sum + size * [0, 2, 4, 8][type] + 32, 0);
}
