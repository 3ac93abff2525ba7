/**
 * How many tokens each layer keeps.
 *
 * @module
 */

/** What PyramidKV's budgets follow from. */
export interface PyramidShape {
  readonly layers: number;
  /** Tokens of the cache. */
  readonly tokens: number;
  /** Observation window, always kept. */
  readonly window: number;
  /** Steepness: the last layer's share of the mean budget is 1/β (PyramidKV §4.2). */
  readonly beta: number;
}

/**
 * PyramidKV's budgets as the authors' code has them (KVCache-Factory, pyramidkv_utils.py, PyramidKVCluster): tokens that
 * each layer keeps, window included. Their sum is layers · capacity, and at most layers · (layers − 1) / 2 more since the
 * step from layer to layer is rounded down.
 *
 * @param capacity mean tokens a layer keeps, window included; above `window`
 */
export function authorsBudgets({ layers, tokens, window, beta }: PyramidShape, capacity: number): number[] {
  if (tokens <= capacity) return Array(layers).fill(tokens);
  if (tokens < 2 * (capacity - window)) return Array(layers).fill(capacity);
  let least = Math.floor((capacity - window) / beta);
  let most = 2 * (capacity - window) - least;
  if (most >= tokens - window) {
    most = tokens - window;
    least = 2 * (capacity - window) - most;
  }
  const step = layers === 1 ? 0 : Math.floor((most - least) / (layers - 1));
  // A single layer has the mean.
  const first = layers === 1 ? capacity - window : most;
  return Array.from({ length: layers }, (_, layer) => first - layer * step + window);
}

/**
 * PyramidKV's budgets as kvpress has them (PyramidKVPress.get_layer_budget): the window counts inside, steps are not
 * rounded, and where the pyramid would leave a layer less than the window all layers keep the same.
 *
 * @param kept share of the tokens that are kept, kvpress's 1 − compression_ratio
 */
export function kvpressBudgets({ layers, tokens, window, beta }: PyramidShape, kept: number): number[] {
  // The same operations in the same order as there: what they round differs otherwise.
  const capacity = window + tokens * kept;
  let least = (capacity - window) / beta;
  let most = (capacity - window) * 2 - least;
  if (most >= tokens - window) {
    most = tokens - window;
    least = (capacity - window) * 2 - most;
  }
  if (!(tokens >= most && most >= least && least >= window)) {
    return Array(layers).fill(Math.max(1, roundHalfEven(tokens * kept)));
  }
  const step = layers === 1 ? 0 : (most - least) / (layers - 1);
  return Array.from({ length: layers }, (_, layer) => roundHalfEven(most - layer * step));
}

/** Python's round. */
function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}
