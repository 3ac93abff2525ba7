/**
 * Which tokens are transform-coded: all but the oldest `sinks` and the most recent `window` (KVTC §2, B.7, B.15).
 *
 * @module
 */

/** Token ranges of a cache: sinks = [0, codedBegin), coded = [codedBegin, codedEnd), window = [codedEnd, tokens). */
export interface TokenSplit {
  readonly codedBegin: number;
  readonly codedEnd: number;
  readonly tokens: number;
}

/**
 * Splits `tokens` tokens. A cache of no more than `sinks + window` tokens is all window: nothing is coded, everything
 * stays bit-exact. (All or nothing for the sinks, so that a growing cache never recodes a token: see append.)
 */
export function splitTokens(tokens: number, sinks: number, window: number): TokenSplit {
  if (tokens <= sinks + window) return { codedBegin: 0, codedEnd: 0, tokens };
  return { codedBegin: sinks, codedEnd: tokens - window, tokens };
}
