/**
 * PCA truncation, KVTC without its quantizer (paper, Tables 15 and 16): p / ratio components are kept as binary16, the
 * rest are dropped, so that a token takes the same bits as with the quantizer at that ratio. Sinks and window are
 * treated as the codec treats them.
 *
 * @module
 */
import { paddedLength } from "../../src/backend/backend.ts";
import { createBackend } from "../../src/backend/select.ts";
import { KvCacheBuilder } from "../../src/cache/builder.ts";
import { f16ToNumber, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { type Kind, KINDS } from "../../src/cache/types.ts";
import type { Method } from "../../src/eval/method.ts";
import { SinkStage } from "../../src/stages/tokens/sinks.ts";
import { splitTokens } from "../../src/stages/tokens/split.ts";
import { PcaTransform } from "../../src/stages/transform/pca.ts";
import type { TruncationBasis } from "./layer_groups.ts";

/** Options of {@linkcode truncate}. */
export interface TruncationOptions {
  /** Features ÷ components kept. Infinity keeps none: every coded token becomes the mean of the calibration. */
  readonly ratio: number;
  /** Oldest tokens kept in FP8. */
  readonly sinks: number;
  /** Newest tokens kept bit-exact. */
  readonly window: number;
}

/** Tokens transformed at a time. */
const CHUNK_TOKENS = 256;

/**
 * The cache after its coded tokens were projected on the leading components and restored from them.
 *
 * @throws {RangeError} the ratio does not leave the same whole number of components to every group of layers, or the
 * basis has fewer
 */
export async function truncate(
  cache: KvCache,
  bases: Readonly<Record<Kind, TruncationBasis>>,
  { ratio, sinks, window }: TruncationOptions,
): Promise<KvCache> {
  const { model, dtype, positions, inputIds, tokens } = cache;
  const { codedBegin, codedEnd } = splitTokens(tokens, sinks, window);
  const builder = new KvCacheBuilder({ model, dtype, positions, ...(inputIds ? { inputIds } : {}) });
  const backend = await createBackend();
  try {
    for (const kind of KINDS) {
      const { layers, kvHeads: heads } = model;
      const { layersPerGroup, features, mean, basis, ...fit } = bases[kind];
      const components = keptComponents(features, ratio, layers / layersPerGroup, fit.components);
      const geometry = {
        layers,
        heads,
        dim: kind === "key" ? model.keyDim : model.valueDim,
        dtype,
        rope: kind === "key" ? model.rope : null,
      };
      const context = (begin: number, end: number) => ({
        tokens: end - begin,
        positions: positions.slice(begin, end),
        layerBegin: 0,
        layerEnd: layers,
      });
      if (codedBegin > 0) {
        const [stage, ctx] = [new SinkStage(backend, geometry), context(0, codedBegin)];
        const restored = await stage.decode(await stage.encode(cache.read(kind, 0, codedBegin), ctx), ctx);
        builder.write(kind, 0, 0, codedBegin, restored);
      }
      const kept = basis.subarray(0, components * features);
      const pca = new PcaTransform(backend, { ...geometry, mean, basis: kept, components });
      for (let begin = codedBegin; begin < codedEnd; begin += CHUNK_TOKENS) {
        const end = Math.min(begin + CHUNK_TOKENS, codedEnd);
        const ctx = context(begin, end);
        const coefficients = pca.encode(cache.read(kind, begin, end), ctx);
        const bytes = (end - begin) * paddedLength(components) * 4;
        const rounded = toFloat32(await backend.read(coefficients.buffer, 0, bytes), "f32");
        if (ratio === Infinity) rounded.fill(0);
        else for (let i = 0; i < rounded.length; i++) rounded[i] = f16ToNumber(numberToF16(rounded[i]));
        backend.write(coefficients.buffer, rounded);
        builder.write(kind, 0, begin, end - begin, await pca.decode(coefficients, ctx));
      }
      pca[Symbol.dispose]();
      builder.write(kind, 0, codedEnd, tokens - codedEnd, cache.read(kind, codedEnd, tokens));
    }
    return builder.build();
  } finally {
    backend[Symbol.dispose]();
  }
}

function keptComponents(features: number, ratio: number, groups: number, available: number): number {
  // The transform takes no empty basis; the one component is set to zero.
  if (ratio === Infinity) return 1;
  const components = features / ratio;
  if (!Number.isInteger(components / groups)) {
    throw new RangeError(
      `Cannot truncate: ratio ${ratio} leaves ${components} components to ${groups} groups of layers, expected the ` +
        "same whole number to each",
    );
  }
  if (components > available) {
    throw new RangeError(`Cannot truncate: ratio ${ratio} keeps ${components} components, the basis has ${available}`);
  }
  return components;
}

/** Truncation as a method of evaluation. It has no file, so only the target ratio is known. */
export function truncationMethod(
  bases: Readonly<Record<Kind, TruncationBasis>>,
  options: TruncationOptions,
): Method {
  const { layersPerGroup } = bases.key;
  return {
    name: "truncation",
    setting: options.ratio === Infinity
      ? "to the mean"
      : `PCA of ${layersPerGroup === 1 ? "1 layer" : `${layersPerGroup} layers`}, ${options.ratio}×`,
    options: { layersPerGroup, ...options },
    usesProfile: false,
    async run(cache) {
      const { codedBegin, codedEnd, tokens } = splitTokens(cache.tokens, options.sinks, options.window);
      return {
        cache: await truncate(cache, bases, options),
        ratios: { target: options.ratio === Infinity ? null : options.ratio, paper: null, file: null },
        bytes: null,
        regions: { sinks: codedBegin, coded: codedEnd - codedBegin, window: tokens - codedEnd },
        seconds: { compress: null, restore: null },
      };
    },
  };
}
