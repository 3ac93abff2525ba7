/**
 * Byte order of the shifts and scales. Neighbouring tokens have shifts and scales of like size in the same group, and
 * the high bytes of binary16 (sign, exponent) are far more regular than the low ones: so two streams, low bytes and
 * high bytes, each [shift | scale][group][token]. Measured against other orders in docs/results.md.
 *
 * @module
 */

/** The two streams. */
export interface ParamStreams {
  readonly low: Uint8Array;
  readonly high: Uint8Array;
}

/** params u16 [tokens][groups][2] (shift, scale) → two streams of 2 · groups · tokens bytes. */
export function splitParams(params: Uint16Array, tokens: number, groups: number): ParamStreams {
  const plane = tokens * groups;
  const low = new Uint8Array(plane * 2);
  const high = new Uint8Array(plane * 2);
  for (let t = 0; t < tokens; t++) {
    for (let g = 0; g < groups; g++) {
      const from = (t * groups + g) * 2;
      const to = g * tokens + t;
      low[to] = params[from];
      high[to] = params[from] >>> 8;
      low[plane + to] = params[from + 1];
      high[plane + to] = params[from + 1] >>> 8;
    }
  }
  return { low, high };
}

/** Inverse of {@linkcode splitParams}. */
export function joinParams({ low, high }: ParamStreams, tokens: number, groups: number): Uint16Array {
  const plane = tokens * groups;
  const params = new Uint16Array(plane * 2);
  for (let t = 0; t < tokens; t++) {
    for (let g = 0; g < groups; g++) {
      const to = (t * groups + g) * 2;
      const from = g * tokens + t;
      params[to] = low[from] | (high[from] << 8);
      params[to + 1] = low[plane + from] | (high[plane + from] << 8);
    }
  }
  return params;
}
