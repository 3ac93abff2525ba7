/**
 * Ways to code the coefficients of a chunk, from plain rounding to recipe kvz's own.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import { encodeStream } from "../../src/stages/entropy/deflate.ts";
import { openLevelCoder } from "../../src/stages/quantize/trellis/level_coder.ts";
import { MODES, type StepSet } from "../../src/stages/quantize/trellis/model.ts";
import { stepOf } from "../../src/stages/quantize/trellis/step.ts";
import { toSubsteps } from "../../src/stages/quantize/trellis/substeps.ts";

/** Coded chunks of one cache. */
export interface Coded {
  /** Reconstructed coefficients in quarters of the step, one array [components][tokens] a chunk. */
  readonly quarters: readonly Int16Array[];
  /** Bytes of all chunks. */
  readonly bytes: number;
}

/** A chunk: float32 [tokens][components]. */
export interface Chunk {
  readonly tokens: number;
  readonly coefficients: Float32Array;
}

/** Codes all chunks of a cache at step 2^(−s/60). */
export type Coder = (chunks: readonly Chunk[], s: number) => Promise<Coded>;

/** Levels told apart when they are counted; few leading components reach beyond. */
const LEVELS = 4096;

/**
 * Rounding to the nearest multiple of the step. Bytes are the entropy of every component under its own distribution in
 * this very cache, for which nothing is charged: less than any coder would make of it.
 */
export function roundingCoder(components: number): Coder {
  return (chunks, s) => {
    const step = stepOf(s);
    const quarters: Int16Array[] = [];
    const counts = new Uint32Array(components * LEVELS);
    let tokens = 0;
    for (const chunk of chunks) {
      const out = new Int16Array(components * chunk.tokens);
      for (let t = 0; t < chunk.tokens; t++) {
        for (let c = 0; c < components; c++) {
          const level = Math.round(chunk.coefficients[t * components + c] / step);
          out[c * chunk.tokens + t] = 4 * level;
          counts[c * LEVELS + Math.max(0, Math.min(LEVELS - 1, level + LEVELS / 2))]++;
        }
      }
      quarters.push(out);
      tokens += chunk.tokens;
    }
    let bits = 0;
    for (const n of counts) if (n > 0) bits -= n * Math.log2(n / tokens);
    return Promise.resolve({ quarters, bytes: bits / 8 });
  };
}

/** The recipe's coder; without prediction its factors are 0 and every mode has the spread of none. */
export async function trellisCoder(
  backend: Backend,
  { components, stepSets, tables }: KvzProfile,
  { lambda, prediction }: { lambda: number; prediction: boolean },
): Promise<Coder> {
  const coder = await openLevelCoder(
    backend,
    components,
    prediction ? stepSets : stepSets.map(withoutPrediction),
    tables,
  );
  return async (chunks, s) => {
    const quarters: Int16Array[] = [];
    let bytes = 0;
    for (const { tokens, coefficients } of chunks) {
      const substeps = toSubsteps(coefficients, components, tokens, s);
      if (substeps.s !== s) throw new RangeError(`Cannot code at step s ${s}: a coefficient is too large for it`);
      const streams = await coder.encode(substeps.y, s, components, tokens, lambda, null);
      quarters.push((await coder.decode(streams, tokens)).quarters);
      for (const stream of [streams.side, streams.escapes]) bytes += (await encodeStream(stream)).bytes.length;
      bytes += streams.symbols.length;
    }
    return { quarters, bytes };
  };
}

function withoutPrediction(set: StepSet): StepSet {
  const none = set.logSigma.subarray(0, set.logSigma.length / MODES);
  const logSigma = new Int16Array(set.logSigma.length);
  for (let mode = 0; mode < MODES; mode++) logSigma.set(none, mode * none.length);
  return { s: set.s, rho32: new Int8Array(set.rho32.length), logSigma };
}
