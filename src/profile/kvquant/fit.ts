/**
 * From a sample of tokens to thresholds and codebooks of recipe kvquant.
 *
 * Thresholds of a key channel are quantiles of the sample (linear between elements) so that the share of outliers lies
 * beyond them, half on either side; without outliers the least and greatest of all tokens. Values are divided as the coder
 * divides them, token by token. Codebooks are k-means of what is no outlier, in units of its thresholds: the weight of an
 * element is the sensitivity of its channel. The points are means of 16384 cells of [−1, 1], a thousand times finer
 * than entries of 4 bits lie apart.
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import { type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import { codeBorders, nearestCode, outliersASide, TokenOutliers } from "../../stages/quantize/nuq.ts";
import { kindDim, type SensitivityBlocks } from "../kvz/sensitivity.ts";
import { lineMeans } from "./kmeans.ts";
import type { SampleReader } from "./reader.ts";
import {
  codebookAt,
  KVQUANT_BITS,
  KVQUANT_OUTLIERS,
  kvquantLengths,
  type KvquantProfile,
  thresholdsAt,
} from "./types.ts";

/** Cells of [−1, 1]. */
const CELLS = 1 << 14;
/** Least weight of a channel, as a share of the mean of its layer: no element is free. */
const LEAST_WEIGHT = 1e-4;

/** What a fit yields. */
export type KvquantFit = Pick<KvquantProfile, "thresholds" | "codebooks" | "norms">;

/**
 * Fits all layers.
 *
 * @param sample at least one row of each kind
 * @param blocks what errors cost; null: everywhere the same
 * @param onProgress hears the share that is done
 */
export function fitKvquant(
  model: ModelSpec,
  sample: Pick<SampleReader, "rows" | "least" | "greatest">,
  blocks: SensitivityBlocks | null,
  onProgress: (fraction: number) => void = () => {},
): KvquantFit {
  const lengths = kvquantLengths(model);
  const fit = {
    thresholds: new Float32Array(lengths.thresholds),
    codebooks: new Float32Array(lengths.codebooks),
    norms: new Float32Array(lengths.norms),
  };
  for (let layer = 0; layer < model.layers; layer++) {
    setThresholds(model, sample, layer, fit.thresholds);
    for (const kind of KINDS) {
      const weights = channelWeights(model, blocks, kind, layer);
      const rows = layerRows(model, sample.rows[kind], kind, layer);
      KVQUANT_OUTLIERS.forEach((percent, set) => {
        const cells = new Cells();
        if (kind === "key") {
          const at = thresholdsAt(model, set, layer);
          addKeys(cells, rows, fit.thresholds.subarray(at, at + 2 * weights.length), weights);
        } else addValues(cells, rows, percent, weights);
        setCodebooks(model, cells, set, kind, layer, fit);
      });
    }
    onProgress((layer + 1) / model.layers);
  }
  return fit;
}

/** Quantile of rising numbers, linear between them, as numpy.percentile has it. */
export function quantile(sorted: Float32Array, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

function setThresholds(
  model: ModelSpec,
  { rows, least, greatest }: Pick<SampleReader, "rows" | "least" | "greatest">,
  layer: number,
  thresholds: Float32Array,
): void {
  const channels = model.kvHeads * model.keyDim;
  const column = new Float32Array(rows.key.length);
  for (let c = 0; c < channels; c++) {
    const feature = layer * channels + c;
    for (let r = 0; r < column.length; r++) column[r] = rows.key[r][feature];
    column.sort();
    KVQUANT_OUTLIERS.forEach((percent, set) => {
      const at = thresholdsAt(model, set, layer) + 2 * c;
      const beyond = percent / 200;
      thresholds[at] = percent === 0 ? least[feature] : quantile(column, beyond);
      thresholds[at + 1] = percent === 0 ? greatest[feature] : quantile(column, 1 - beyond);
    });
  }
}

/** Diagonal of the sensitivity, [heads · dim]. */
function channelWeights(
  model: ModelSpec,
  blocks: SensitivityBlocks | null,
  kind: Kind,
  layer: number,
): Float64Array {
  const dim = kindDim(model, kind);
  const channels = model.kvHeads * dim;
  const weights = new Float64Array(channels).fill(1);
  if (blocks === null) return weights;
  for (let c = 0; c < channels; c++) weights[c] = blocks[kind][(layer * channels + c) * dim + c % dim];
  const mean = weights.reduce((sum, weight) => sum + Math.max(0, weight), 0) / channels;
  // A layer that the loss does not depend on weighs all its channels alike.
  return weights.map((weight) => mean > 0 ? Math.max(weight, LEAST_WEIGHT * mean) : 1);
}

/** A layer's part of rows. */
function layerRows(model: ModelSpec, rows: readonly Float32Array[], kind: Kind, layer: number): Float32Array[] {
  const channels = model.kvHeads * kindDim(model, kind);
  return rows.map((row) => row.subarray(layer * channels, (layer + 1) * channels));
}

function addKeys(
  cells: Cells,
  rows: readonly Float32Array[],
  thresholds: Float32Array,
  weights: Float64Array,
): void {
  for (let c = 0; c < weights.length; c++) {
    const [low, high] = [thresholds[2 * c], thresholds[2 * c + 1]];
    // A channel that does not vary is restored without a codebook.
    if (!(high > low)) continue;
    for (const row of rows) {
      if (row[c] >= low && row[c] <= high) cells.add((2 * row[c] - low - high) / (high - low), weights[c]);
    }
  }
}

function addValues(cells: Cells, rows: readonly Float32Array[], percent: number, weights: Float64Array): void {
  const channels = weights.length;
  const found = new TokenOutliers(channels, outliersASide(channels, percent));
  for (const row of rows) {
    found.find(row);
    const [low, high] = [f16ToNumber(numberToF16(found.low)), f16ToNumber(numberToF16(found.high))];
    if (!(high > low && high - low < Infinity)) continue;
    for (let c = 0; c < channels; c++) {
      if (found.marks[c] === 0) cells.add((2 * row[c] - low - high) / (high - low), weights[c]);
    }
  }
}

function setCodebooks(
  model: ModelSpec,
  cells: Cells,
  set: number,
  kind: Kind,
  layer: number,
  { codebooks, norms }: KvquantFit,
): void {
  const points = cells.points();
  for (const bits of KVQUANT_BITS) {
    const at = codebookAt(model, set, kind, layer, bits);
    const codebook = codebooks.subarray(at.entries, at.entries + (1 << bits));
    // Nothing varies: any codebook will do.
    if (points.values.length === 0) {
      codebook.forEach((_, i) => codebook[i] = (2 * i + 1) / codebook.length - 1);
      norms.set([1, 0], at.norm);
      continue;
    }
    codebook.set(lineMeans(points, codebook.length));
    norms.set(cells.norm(codebook), at.norm);
  }
}

/** Normalized elements by cells: weights for k-means, plain counts for Q-Norm. */
class Cells {
  readonly #weights = new Float64Array(CELLS);
  /** Σ weight · y. */
  readonly #weighted = new Float64Array(CELLS);
  readonly #counts = new Float64Array(CELLS);
  /** Σ y. */
  readonly #sums = new Float64Array(CELLS);
  #squares = 0;

  add(y: number, weight: number): void {
    const cell = Math.min(CELLS - 1, Math.max(0, Math.floor((y + 1) * (CELLS / 2))));
    this.#weights[cell] += weight;
    this.#weighted[cell] += weight * y;
    this.#counts[cell]++;
    this.#sums[cell] += y;
    this.#squares += y * y;
  }

  /** Means of the cells, by rising value. */
  points(): { readonly values: Float64Array; readonly weights: Float64Array } {
    const used = Array.from(this.#counts.keys()).filter((cell) => this.#counts[cell] > 0);
    return {
      values: Float64Array.from(used, (cell) => this.#weighted[cell] / this.#weights[cell]),
      weights: Float64Array.from(used, (cell) => this.#weights[cell]),
    };
  }

  /**
   * Scale and offset by which entries get the mean and the standard deviation of the elements:
   * entry · σ ÷ σ' + µ − µ' · σ ÷ σ'. All elements count alike, as in the authors' code.
   */
  norm(codebook: Float32Array): [scale: number, offset: number] {
    const borders = codeBorders(codebook);
    let [count, sum, coded, codedSquares] = [0, 0, 0, 0];
    for (let cell = 0; cell < CELLS; cell++) {
      const n = this.#counts[cell];
      if (n === 0) continue;
      const entry = codebook[nearestCode(this.#sums[cell] / n, borders)];
      count += n;
      sum += this.#sums[cell];
      coded += n * entry;
      codedSquares += n * entry * entry;
    }
    const [mean, codedMean] = [sum / count, coded / count];
    const variance = this.#squares / count - mean * mean;
    const codedVariance = codedSquares / count - codedMean * codedMean;
    const scale = codedVariance > 0 && variance > 0 ? Math.sqrt(variance / codedVariance) : 1;
    return [scale, mean - codedMean * scale];
  }
}
