/**
 * Errors of a restored cache along the principal components of a profile: which components carry the loss.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { type BackendOptions, createBackend, hostOptions } from "../backend/select.ts";
import { toFloat32 } from "../cache/elements.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import { type Kind, KINDS } from "../cache/types.ts";
import type { KvtcProfile } from "../profile/types.ts";
import { PcaTransform } from "../stages/transform/pca.ts";
import type { PerKind, TensorErrors } from "./point.ts";

/** Tokens that are looked at, evenly spread over the coded ones. */
const SAMPLE = 128;
/** Bins per octave of components. */
const BINS_PER_OCTAVE = 4;

/** Errors of one kind by bins of components. */
export type ComponentErrors = NonNullable<TensorErrors["components"]>;

/** Projects caches on a profile's basis. */
export class ComponentMeter implements Disposable {
  readonly #backend: Backend;
  readonly #profile: KvtcProfile;
  readonly #transforms = new Map<string, PcaTransform>();

  private constructor(backend: Backend, profile: KvtcProfile) {
    this.#backend = backend;
    this.#profile = profile;
  }

  /**
   * Opens a meter on a backend of its own.
   *
   * @throws {KvzBackendError} The backend cannot be had.
   */
  static async open(profile: KvtcProfile, options: BackendOptions = {}): Promise<ComponentMeter> {
    return new ComponentMeter(await createBackend(hostOptions(options)), profile);
  }

  /**
   * Relative errors by component over tokens [begin, end) of two caches of one shape.
   *
   * @throws {RangeError} the range is not inside the caches
   */
  async measure(original: KvCache, restored: KvCache, begin: number, end: number): Promise<PerKind<ComponentErrors>> {
    const result: Partial<Record<Kind, ComponentErrors>> = {};
    for (const kind of KINDS) {
      const a = await this.#coefficients(kind, original, begin, end);
      const b = await this.#coefficients(kind, restored, begin, end);
      result[kind] = compareComponents(a, b, this.#profile.kinds[kind].components);
    }
    return result as PerKind<ComponentErrors>;
  }

  /** Frees the backend. */
  [Symbol.dispose](): void {
    for (const transform of this.#transforms.values()) transform[Symbol.dispose]();
    this.#backend[Symbol.dispose]();
  }

  /** Coefficients of up to {@linkcode SAMPLE} tokens, row after row with the components' padded stride. */
  async #coefficients(
    kind: Kind,
    cache: KvCache,
    begin: number,
    end: number,
  ): Promise<{ readonly values: Float32Array; readonly stride: number; readonly tokens: number }> {
    const count = Math.min(SAMPLE, end - begin);
    const chosen = Array.from({ length: count }, (_, i) => begin + Math.floor((i + 0.5) * (end - begin) / count));
    const { layers, kvHeads, keyDim, valueDim } = cache.model;
    const dim = kind === "key" ? keyDim : valueDim;
    const rows = new Float32Array(layers * kvHeads * count * dim);
    let at = 0;
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < kvHeads; head++) {
        const values = toFloat32(cache[kind](layer, head), cache.dtype);
        for (const t of chosen) {
          rows.set(values.subarray(t * dim, (t + 1) * dim), at);
          at += dim;
        }
      }
    }
    const ctx = {
      tokens: count,
      positions: Int32Array.from(chosen, (t) => cache.positions[t]),
      layerBegin: 0,
      layerEnd: layers,
    };
    const { buffer, stride } = this.#transform(kind, dim).encode(new Uint8Array(rows.buffer), ctx);
    const bytes = await this.#backend.read(buffer, 0, count * stride * 4);
    return { values: new Float32Array(bytes.buffer, bytes.byteOffset, count * stride), stride, tokens: count };
  }

  #transform(kind: Kind, dim: number): PcaTransform {
    let transform = this.#transforms.get(kind);
    if (transform === undefined) {
      const { model, kinds } = this.#profile;
      const { mean, basis, components } = kinds[kind];
      transform = new PcaTransform(this.#backend, {
        layers: model.layers,
        heads: model.kvHeads,
        dim,
        dtype: "f32",
        rope: kind === "key" ? model.rope : null,
        mean,
        basis,
        components,
      });
      this.#transforms.set(kind, transform);
    }
    return transform;
  }
}

interface Rows {
  readonly values: Float32Array;
  readonly stride: number;
  readonly tokens: number;
}

function compareComponents(a: Rows, b: Rows, components: number): ComponentErrors {
  const first = componentBins(components);
  const errors = first.map((from, bin) => {
    const to = first[bin + 1] ?? components;
    let error = 0;
    let norm = 0;
    for (let t = 0; t < a.tokens; t++) {
      for (let c = from; c < to; c++) {
        const x = a.values[t * a.stride + c];
        error += (b.values[t * b.stride + c] - x) ** 2;
        norm += x * x;
      }
    }
    return norm > 0 ? Math.sqrt(error / norm) : null;
  });
  return { first, errors };
}

/** First components of bins that grow with the component, four an octave: 0, 1, 2, 3, 4, 5, 6, 8, … */
export function componentBins(components: number): number[] {
  const bins: number[] = [];
  for (let i = 0;; i++) {
    const first = Math.ceil(2 ** (i / BINS_PER_OCTAVE)) - 1;
    if (first >= components) return bins;
    if (bins.at(-1) !== first) bins.push(first);
  }
}
