/**
 * KVTC's way there and back for caches that lie in device memory, ready to run at one number of components.
 *
 * Tables of the entropy coder are fitted on the first sequence's keys and values and serve all streams (one for two
 * quantizer groups): a file would choose them for each chunk on the host. Streams are those of a file otherwise: one for
 * each type of codes of a chunk, and of the low and high bytes of shifts and scales. Those of several sequences are coded together, since each keeps one warp busy.
 *
 * @module
 */
import {
  type Backend,
  type DeviceBasis,
  type DeviceBuffer,
  paddedLength,
  type QuantGroup,
} from "../../src/backend/backend.ts";
import type { DeviceStreams, GpuCodeStreams } from "../../src/backend/gpu/code_streams.ts";
import { type DeviceContexts, type DeviceTables, type GpuEntropy, mostBytes } from "../../src/backend/gpu/entropy.ts";
import { rotationTable } from "../../src/cache/rope.ts";
import { Scratch } from "../../src/stages/scratch.ts";
import { fillWith, halfNoise, type StepClock } from "./device_data.ts";
import { CHUNK, fitTables, type Form, formsOf, paramForms } from "./table5_coder.ts";
import { byType, keptComponents } from "./table5_plan.ts";
import type { BenchModel } from "./models.ts";

/** Components that products have are a multiple of this: rows of binary16 and of codes are copied 16 bytes at a time. */
const MULTIPLE = 16;

/** Caches of all sequences of both kinds, bfloat16 [layers · heads][tokens][dim]. */
export interface DeviceCaches {
  readonly model: BenchModel;
  readonly tokens: number;
  readonly kinds: readonly (readonly DeviceBuffer[])[];
}

/** Rows of symbols of the sequences that are coded together, and what codes them. */
interface Part extends Form {
  /** u8 [sequences][chunks][rows][CHUNK]. */
  readonly symbols: DeviceBuffer;
  readonly tables: DeviceTables;
  readonly contexts: DeviceContexts;
  /** Streams of each run of sequences, with where they begin; their length is known after a first pass. */
  readonly coded: { bytes: DeviceBuffer; begins: DeviceBuffer; length: number }[];
}

/** Everything of keys or of values. */
interface KindState {
  readonly sequences: readonly DeviceBuffer[];
  readonly basis: DeviceBasis;
  readonly plan: ReturnType<Backend["uploadPlan"]>;
  readonly groups: readonly QuantGroup[];
  readonly forms: readonly Form[];
  readonly rotations: readonly (DeviceBuffer | null)[];
  parts: Part[];
}

/** Both ways, over buffers that are freed together. */
export class Table5Point {
  /** Bytes of all streams. */
  fileBytes = 0;
  /** Sequences whose streams are coded together. */
  readonly together: number;
  readonly kinds: readonly KindState[];
  readonly #backend: Backend;
  readonly #entropy: GpuEntropy;
  readonly #codeStreams: GpuCodeStreams;
  readonly #caches: DeviceCaches;
  readonly #scratch: Scratch;
  readonly #mean: DeviceBuffer;
  readonly #restored: DeviceBuffer;
  // What one sequence of one kind needs on its way.
  readonly #coefficients: DeviceBuffer;
  readonly #symbols: DeviceBuffer;
  readonly #params: DeviceBuffer;
  /** Where streams go before their length is known. */
  readonly #workspace: DeviceBuffer;
  readonly #lengths: DeviceBuffer;

  private constructor(
    backend: Backend,
    { entropy, codeStreams }: { entropy: GpuEntropy; codeStreams: GpuCodeStreams },
    caches: DeviceCaches,
    plans: readonly QuantGroup[][],
    most: number,
  ) {
    this.#backend = backend;
    this.#entropy = entropy;
    this.#codeStreams = codeStreams;
    this.#caches = caches;
    const scratch = this.#scratch = new Scratch(backend);
    const { model, tokens } = caches;
    const features = model.layers * model.heads * model.dim;
    const positions = Int32Array.from({ length: tokens }, (_, t) => t);
    const rope = { theta: model.theta, dim: model.dim, pairing: "half-split" } as const;
    const turns = (["undo", "redo"] as const).map((way) => scratch.upload(rotationTable(rope, positions, way)));
    this.kinds = plans.map((given, kind): KindState => {
      const groups = byType(given, backend.name === "cuda" ? MULTIPLE : CHUNK);
      const last = groups[groups.length - 1];
      const components = Math.ceil((last.first + last.size) / MULTIPLE) * MULTIPLE;
      return {
        sequences: caches.kinds[kind],
        basis: backend.uploadBasis(halfNoise(components * features, features), components, features),
        plan: backend.uploadPlan(groups),
        groups,
        forms: formsOf(groups),
        rotations: kind === 0 ? turns : [null, null],
        parts: [],
      };
    });
    const widest = (of: (kind: KindState) => number) => Math.max(...this.kinds.map(of));
    const rows = widest(({ forms }) => Math.max(...forms.map((form) => form.rows)));
    const oneSequence = mostBytes({ streams: tokens / CHUNK, rows, tokens: CHUNK });
    this.together = Math.max(1, Math.min(most, caches.kinds[0].length, Math.floor(entropy.mostBytes / oneSequence)));
    this.#mean = scratch.upload(new Float32Array(features).fill(0.01));
    this.#restored = scratch.alloc(tokens * features * 2);
    this.#coefficients = scratch.alloc(tokens * widest(({ basis }) => paddedLength(basis.components)) * 4);
    this.#symbols = scratch.alloc(tokens * widest(({ plan }) => plan.components));
    this.#params = scratch.alloc(tokens * widest(({ groups }) => groups.length) * 4);
    this.#workspace = scratch.alloc(oneSequence * this.together);
    this.#lengths = scratch.alloc(this.together * tokens / CHUNK * 4);
  }

  /** Makes bases and tables, and finds out how long the streams are. `together`: most sequences coded at once. */
  static async open(
    backend: Backend,
    caches: DeviceCaches,
    plans: readonly QuantGroup[][],
    together: number,
  ): Promise<Table5Point> {
    const { entropy = null, codeStreams = null } = backend.gpu ?? {};
    if (entropy === null || codeStreams === null) throw new Error(`Backend ${backend.name} has no entropy coder`);
    if (caches.tokens % CHUNK !== 0) throw new Error(`${caches.tokens} tokens are no whole chunks of ${CHUNK}`);
    const point = new Table5Point(backend, { entropy, codeStreams }, caches, plans, together);
    for (const kind of point.kinds) await point.#prepare(kind);
    return point;
  }

  /** Components in groups of keys and of values. */
  get kept(): number[] {
    return this.kinds.map(({ groups }) => keptComponents(groups));
  }

  /** gather, undo RoPE, subtract, project, quantize, transpose, code. What is on the way back one kernel is "dequantize". */
  async compress(clock: StepClock | null): Promise<void> {
    for (const kind of this.kinds) {
      for (const [run, sequences] of this.#runs()) {
        for (const [slot, sequence] of sequences.entries()) await this.#toRows(kind, sequence, slot, clock);
        for (const part of kind.parts) {
          const { bytes, begins, length } = part.coded[run];
          this.#encode(part, sequences.length, begins);
          this.#backend.copy(this.#workspace, 0, bytes, 0, length);
        }
        await clock?.step("rANS");
      }
    }
  }

  /** The same back. */
  async decompress(clock: StepClock | null): Promise<void> {
    for (const kind of this.kinds) {
      for (const [run, sequences] of this.#runs()) {
        for (const part of kind.parts) {
          const { bytes, begins } = part.coded[run];
          const batch = this.#batch(part, sequences.length);
          this.#entropy.decode(bytes, begins, batch, part.tables, part.contexts, part.symbols, this.#lengths);
        }
        await clock?.step("rANS");
        for (const slot of sequences.keys()) await this.#fromRows(kind, slot, clock);
      }
    }
  }

  /** Compares codes, shifts and scales of the last values with what the streams give back. */
  async requireSame(): Promise<void> {
    const kind = this.kinds[this.kinds.length - 1];
    const last = [...this.#runs()].at(-1)![1];
    await this.compress(null);
    const read = async () => {
      const bytes: Uint8Array[] = [];
      for (const { symbols, rows } of kind.parts) {
        const each = this.#caches.tokens * rows;
        bytes.push(await this.#backend.read(symbols, (last.length - 1) * each, Math.min(1 << 22, each)));
      }
      return bytes;
    };
    const wanted = await read();
    // Nothing of the encoder's is left where the decoder writes.
    for (const { symbols } of kind.parts) fillWith(this.#backend, this.#mean, symbols);
    await this.decompress(null);
    const found = await read();
    if (found.some((bytes, i) => bytes.some((x, j) => x !== wanted[i][j]))) throw new Error("Codes did not come back");
  }

  /** Gives everything back but the caches. */
  free(): void {
    for (const { basis, plan, parts } of this.kinds) {
      basis.free();
      plan.free();
      for (const { tables, contexts } of parts) tables.free(), contexts.free();
    }
    this.#scratch.free();
  }

  *#runs(): Generator<[number, number[]]> {
    const count = this.kinds[0].sequences.length;
    for (let first = 0, run = 0; first < count; first += this.together, run++) {
      yield [run, Array.from({ length: Math.min(this.together, count - first) }, (_, i) => first + i)];
    }
  }

  #batch({ rows }: Form, sequences: number) {
    return { streams: sequences * this.#caches.tokens / CHUNK, rows, tokens: CHUNK };
  }

  #encode(part: Part, sequences: number, begins: DeviceBuffer): void {
    const { symbols, tables, contexts } = part;
    const batch = this.#batch(part, sequences);
    this.#entropy.encode(symbols, batch, tables, contexts, this.#workspace, begins, this.#lengths);
  }

  #shape() {
    const { model, tokens } = this.#caches;
    const { layers, heads, dim } = model;
    return { dtype: "bf16", blocks: layers * heads, tokens, dim, rotaryDim: dim } as const;
  }

  async #toRows(kind: KindState, sequence: number, slot: number, clock: StepClock | null): Promise<void> {
    const { basis, plan, rotations } = kind;
    const { tokens } = this.#caches;
    const backend = this.#backend;
    const [from, mean, to] = [kind.sequences[sequence], this.#mean, this.#coefficients];
    backend.gatherProject(from, this.#shape(), rotations[0], mean, basis, to);
    await clock?.step("project");
    backend.quantize(to, paddedLength(basis.components), tokens, plan, this.#symbols, this.#params);
    await clock?.step("quantize");
    const rows = this.#rows(kind, slot);
    for (const { first, rows: count, of } of kind.forms) {
      this.#entropy.transpose(this.#symbols, plan.components, tokens, count, CHUNK, rows[of], {
        column: first,
        byte: 0,
      });
    }
    this.#codeStreams.splitParams(this.#params, kind.groups.length, this.#chunks, rows.low, rows.high);
    await clock?.step("transpose");
  }

  async #fromRows(kind: KindState, slot: number, clock: StepClock | null): Promise<void> {
    const { basis, plan, rotations } = kind;
    const backend = this.#backend;
    const [from, stride] = [this.#coefficients, paddedLength(basis.components)];
    this.#codeStreams.restore(this.#rows(kind, slot), "bytes", plan, this.#chunks, from, stride);
    await clock?.step("dequantize");
    backend.reconstructScatter(from, basis, 0, this.#shape(), rotations[1], this.#mean, this.#restored);
    await clock?.step("reconstruct");
  }

  get #chunks() {
    return { chunks: this.#caches.tokens / CHUNK, tokens: CHUNK };
  }

  /** The rows of a sequence; a type that there is none of has somebody else's, of which nothing is read. */
  #rows(kind: KindState, slot: number): DeviceStreams {
    const { tokens } = this.#caches;
    const rows = Object.fromEntries(
      kind.parts.map(({ of, rows, symbols }) => [of, this.#backend.view(symbols, slot * tokens * rows, tokens * rows)]),
    ) as Partial<DeviceStreams> & Pick<DeviceStreams, "low" | "high">;
    return { int2: rows.low, int4: rows.low, fp8: rows.low, ...rows };
  }

  /** Tables from the first sequence; then the length of every run of streams. */
  async #prepare(kind: KindState): Promise<void> {
    const { tokens } = this.#caches;
    const { low, high } = paramForms(kind.groups);
    // The kernels read no table before there is one.
    const parts = [...kind.forms, low, high].map((form) => ({
      ...form,
      symbols: this.#scratch.alloc(this.together * tokens * form.rows),
      coded: [],
    }));
    kind.parts = parts as unknown as Part[];
    await this.#toRows(kind, 0, 0, null);
    for (const [i, part] of parts.entries()) {
      const batch = this.#batch(part, this.together);
      kind.parts[i] = { ...part, ...await fitTables(this.#backend, this.#entropy, part.symbols, part, batch) };
    }
    for (const [, sequences] of this.#runs()) {
      for (const [slot, sequence] of sequences.entries()) await this.#toRows(kind, sequence, slot, null);
      const { streams } = this.#batch(low, sequences.length);
      for (const part of kind.parts) {
        const begins = this.#scratch.alloc((streams + 1) * 4);
        this.#encode(part, sequences.length, begins);
        const [length] = new Uint32Array((await this.#backend.read(begins, streams * 4, 4)).buffer);
        const lengths = new Uint32Array((await this.#backend.read(this.#lengths, 0, streams * 4)).buffer);
        if (lengths.includes(0xffffffff)) throw new Error("A stream has a symbol that its table lacks");
        part.coded.push({ bytes: this.#scratch.alloc(length + 16), begins, length });
        this.fileBytes += length;
      }
    }
  }
}
