/**
 * What errors in a cache cost a model, by forward passes alone: noise is put on one part of a prefilled cache, the model
 * reads on, and KL against the untouched cache is measured. Small noise costs in proportion to its energy, so that
 * KL ÷ energy is the mean of the part's diagonal in the Fisher matrix that tools/sensitivity.py gets by gradients.
 *
 * Parts are values of a layer, and bands of rotary frequencies of a layer's keys: what a query looks for differs much
 * more between frequencies than between layers. Noise of the same spread in both coordinates of a rotated pair is the
 * same before and after RoPE, but for the factor of YaRN.
 *
 * @module
 */
import { toFloat32 } from "../cache/elements.ts";
import type { HeadBytes } from "../cache/layout.ts";
import { KvCache } from "../cache/kv_cache.ts";
import { type Kind, KINDS, type ModelSpec } from "../cache/types.ts";
import { fillGaussian, mix32 } from "../profile/random.ts";
import { checkLength, continueWith, prefill, type StepOptions } from "./evaluate.ts";
import type { CurveText } from "./kl_curve.ts";
import type { LanguageModel } from "./language_model.ts";
import { KlMeter } from "./kl_meter.ts";

/** A part of a cache whose elements are taken to be equally sensitive. */
export interface SensitivityPart {
  /** Its layer. */
  readonly layer: number;
  /** Keys or values. */
  readonly kind: Kind;
  /** Its KV head; null for all of the layer together. */
  readonly head: number | null;
  /** Band of its elements within a head, from 0 on, from high rotary frequencies to low ones. */
  readonly band: number;
}

/** What noise on a part cost on one text. */
export interface PartMeasurement extends SensitivityPart {
  /** Name of the text. */
  readonly text: string;
  /** Standard deviation of the noise ÷ root mean square of the part. */
  readonly level: number;
  /** Mean KL of the next-token distributions, nats a token. */
  readonly kl: number;
  /** Twice the summed KL ÷ summed squared noise before RoPE: nats per unit² of one token's element. */
  readonly weight: number;
}

/** How a cache is divided into parts. */
export interface PartOptions {
  /** Bands that the rotated elements of keys are divided into. Default 8, fewer where there are fewer frequencies. */
  readonly bands?: number;
  /** Whether each KV head is a part of its own. Default: heads of a layer are measured together. */
  readonly heads?: boolean;
}

/** Options of {@linkcode measureSensitivity}. */
export interface SensitivityOptions extends StepOptions, PartOptions {
  /** Tokens of a cache. Default 512. */
  readonly context?: number;
  /** Tokens predicted after it. Default 64. */
  readonly continuation?: number;
  /** Leading tokens without noise: models attend to them whatever they are, and codecs keep them. Default 4. */
  readonly sinks?: number;
  /** Seed of the noise. Default 0. */
  readonly seed?: number;
  /** What an earlier run with the same options measured; it is not measured again. */
  readonly known?: readonly PartMeasurement[];
  /** Called after each measurement, so that it can be kept. */
  readonly onMeasured?: (measurement: PartMeasurement) => void | Promise<void>;
  /** Called as parts are done. */
  readonly onPart?: (done: number, total: number) => void;
}

/** Size of the noise, about that of a codec's errors: what larger noise costs says little about them. */
const LEVEL = 0.2;
/** KL up to which cost is taken to be in proportion to energy; parts that cost more are measured with less noise. */
const KL_MOST = 1e-2;
/** What the level is then set for. */
const KL_WANTED = 2e-3;
/** Passes until the level must do. */
const MAX_PASSES = 4;

/** Bands of a kind's elements: a number for each element of a head. Keys without RoPE and values are one band. */
export function bandsOf({ rope, keyDim, valueDim }: ModelSpec, kind: Kind, bands = 8): Int32Array {
  if (kind === "value" || rope === null) return new Int32Array(kind === "key" ? keyDim : valueDim);
  const pairs = rope.dim / 2;
  const count = Math.min(bands, pairs);
  // What is not rotated is a band of its own.
  return Int32Array.from({ length: keyDim }, (_, i) => i < rope.dim ? Math.floor((i % pairs) * count / pairs) : count);
}

/** All parts of a model's cache, by layer, kind, head and band. */
export function sensitivityParts(model: ModelSpec, { bands, heads = false }: PartOptions = {}): SensitivityPart[] {
  return Array.from({ length: model.layers }, (_, layer) =>
    KINDS.flatMap((kind) => {
      const count = Math.max(...bandsOf(model, kind, bands)) + 1;
      const list = heads ? Array.from({ length: model.kvHeads }, (_, head) => head) : [null];
      return list.flatMap((head) => Array.from({ length: count }, (_, band) => ({ layer, kind, head, band })));
    })).flat();
}

/**
 * Measures what noise on each part of a cache costs.
 *
 * @returns a measurement of every part on every text, by text and then by part
 * @throws {RangeError} no text, equal names, an option out of range, too short a text, or more tokens than positions
 */
export async function measureSensitivity(
  model: LanguageModel,
  texts: readonly CurveText[],
  options: SensitivityOptions = {},
): Promise<PartMeasurement[]> {
  const { context = 512, continuation = 64, sinks = 4, bands = 8, known = [] } = options;
  if (texts.length === 0 || new Set(texts.map(({ name }) => name)).size < texts.length) {
    throw new RangeError(
      `Cannot measure sensitivity: found ${texts.length} texts, expected at least one, with different names`,
    );
  }
  if (!(continuation >= 1 && sinks >= 0 && context > sinks && Number.isInteger(bands) && bands >= 1)) {
    throw new RangeError(
      `Cannot measure sensitivity: context ${context}, continuation ${continuation}, sinks ${sinks} and ${bands} bands, ` +
        "expected a context beyond the sinks, and at least 1 token and 1 band",
    );
  }
  for (const { name, ids } of texts) checkLength(model, name, ids, context, continuation);
  const parts = sensitivityParts(model.spec, options);
  const out: PartMeasurement[] = [];
  const levels = new Map<string, number>();
  for (const [n, { name, ids }] of texts.entries()) {
    const own = new Map(known.filter(({ text }) => text === name).map((one) => [partName(one), one]));
    let probe: Probe | null = null;
    for (const part of parts) {
      const key = partName(part);
      let measured = own.get(key);
      if (measured === undefined) {
        probe ??= await Probe.open(model, ids.subarray(0, context + continuation), {
          ...options,
          context,
          sinks,
          bands,
        });
        // A part costs about what it did on the text before.
        const start = levels.get(key) ?? LEVEL;
        const seed = mix32((options.seed ?? 0) + 0x9e3779b1 * (n + 1)) ^ mix32(out.length + 1);
        measured = { text: name, ...part, ...await probe.measure(part, start, seed) };
        await options.onMeasured?.(measured);
      }
      levels.set(key, measured.level);
      out.push(measured);
      options.onPart?.(out.length, texts.length * parts.length);
    }
  }
  return out;
}

function partName({ layer, kind, head, band }: SensitivityPart): string {
  return `${layer} ${kind} ${head} ${band}`;
}

/** One prefilled text, read on from again and again. */
class Probe {
  readonly #model: LanguageModel;
  readonly #blocks: readonly (readonly HeadBytes[])[];
  readonly #given: Int32Array;
  readonly #meter: KlMeter;
  readonly #sinks: number;
  readonly #bands: Readonly<Record<Kind, Int32Array>>;
  readonly #options: StepOptions;

  private constructor(
    model: LanguageModel,
    cache: KvCache,
    given: Int32Array,
    meter: KlMeter,
    sinks: number,
    bands: number,
    options: StepOptions,
  ) {
    this.#model = model;
    this.#given = given;
    this.#meter = meter;
    this.#sinks = sinks;
    this.#bands = { key: bandsOf(model.spec, "key", bands), value: bandsOf(model.spec, "value", bands) };
    this.#options = options;
    const { layers, kvHeads } = model.spec;
    this.#blocks = Array.from(
      { length: layers },
      (_, layer) =>
        Array.from({ length: kvHeads }, (_, head): HeadBytes => ({
          key: asF32(cache.key(layer, head), cache),
          value: asF32(cache.value(layer, head), cache),
          positions: cache.positions,
        })),
    );
  }

  static async open(
    model: LanguageModel,
    ids: Int32Array,
    { context, sinks, bands, ...options }:
      & StepOptions
      & Required<Pick<SensitivityOptions, "context" | "sinks" | "bands">>,
  ): Promise<Probe> {
    const steps = stepOptions(options);
    const prompt = ids.subarray(0, context);
    const past = await prefill(model, prompt, steps);
    const given = ids.subarray(context);
    const meter = new KlMeter(await continueWith(model, past, given, steps), model.vocabulary);
    return new Probe(model, await model.unload(past, prompt), given, meter, sinks, bands, steps);
  }

  /** Measures with noise that is made smaller until KL is small. */
  async measure(
    part: SensitivityPart,
    start: number,
    seed: number,
  ): Promise<Pick<PartMeasurement, "level" | "kl" | "weight">> {
    const size = this.#rms(part);
    // Nothing to spoil: a part that is zero everywhere costs nothing that a codec could add.
    if (size === 0) return { level: start, kl: 0, weight: 0 };
    let level = start;
    for (let pass = 1;; pass++) {
      const { blocks, energy } = this.#disturb(part, level * size, seed);
      const cache = new KvCache({ model: this.#model.spec, dtype: "f32", blocks });
      const after = await continueWith(this.#model, await this.#model.load(cache), this.#given, this.#options);
      const kl = Math.max(0, this.#meter.kl(after));
      if (kl <= KL_MOST || pass === MAX_PASSES) {
        return { level, kl, weight: 2 * kl * this.#given.length / (energy / this.#rotationGain(part.kind)) };
      }
      level *= Math.sqrt(KL_WANTED / kl);
    }
  }

  /** YaRN's attention factor makes cached keys, and so their noise, larger than before RoPE. */
  #rotationGain(kind: Kind): number {
    const scaling = kind === "key" ? this.#model.spec.rope?.scaling : undefined;
    return scaling?.type === "yarn" ? scaling.attentionFactor ** 2 : 1;
  }

  #heads({ head }: SensitivityPart): number[] {
    return head === null ? Array.from({ length: this.#model.spec.kvHeads }, (_, i) => i) : [head];
  }

  /** Root mean square of a part's elements behind the sinks. */
  #rms(part: SensitivityPart): number {
    const bands = this.#bands[part.kind];
    let sum = 0;
    let count = 0;
    for (const head of this.#heads(part)) {
      const data = floats(this.#blocks[part.layer][head][part.kind]);
      for (let i = this.#sinks * bands.length; i < data.length; i++) {
        if (bands[i % bands.length] !== part.band) continue;
        sum += data[i] ** 2;
        count++;
      }
    }
    return Math.sqrt(sum / count);
  }

  /** The cache with noise on a part; `energy` is the sum of what was added, squared. */
  #disturb(part: SensitivityPart, sigma: number, seed: number): { blocks: HeadBytes[][]; energy: number } {
    const { kind } = part;
    const bands = this.#bands[kind];
    const blocks = this.#blocks.map((heads) => [...heads]);
    let energy = 0;
    for (const head of this.#heads(part)) {
      const data = floats(blocks[part.layer][head][kind]).slice();
      const noise = new Float64Array(data.length);
      fillGaussian(noise, seed ^ mix32(head + 1));
      for (let i = this.#sinks * bands.length; i < data.length; i++) {
        if (bands[i % bands.length] !== part.band) continue;
        const before = data[i];
        data[i] += sigma * noise[i];
        energy += (data[i] - before) ** 2;
      }
      blocks[part.layer][head] = { ...blocks[part.layer][head], [kind]: new Uint8Array(data.buffer) };
    }
    return { blocks, energy };
  }
}

function asF32(bytes: Uint8Array, { dtype }: KvCache): Uint8Array {
  const values = toFloat32(bytes, dtype);
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function stepOptions({ onTokens, signal }: StepOptions): StepOptions {
  return { ...(onTokens ? { onTokens } : {}), ...(signal ? { signal } : {}) };
}
