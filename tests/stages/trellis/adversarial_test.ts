/** The chunk coder with tables, step sets and coefficients that no training yields. */
import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { createBackend } from "../../../src/backend/select.ts";
import type { RansTables } from "../../../src/stages/entropy/rans_tables.ts";
import { type ChunkStreams, openLevelCoder } from "../../../src/stages/quantize/trellis/level_coder.ts";
import { MODES, type StepSet, TABLES } from "../../../src/stages/quantize/trellis/model.ts";
import { MAX_S } from "../../../src/stages/quantize/trellis/side.ts";
import { BACKENDS } from "../../backend/backends.ts";
import { uniform } from "./cases.ts";
import { casesFor } from "../../cases.ts";

/** A table with codes below `limit` and both escapes, one of which has all that is left; sums to 2048. */
function table(limit: number, heaviest: number): Uint16Array {
  const out = new Uint16Array(256).fill(1, 0, limit);
  out[254] = out[255] = 1;
  out[limit === 0 ? 254 + heaviest % 2 : [heaviest % limit, 254, 255][heaviest % 3]] += 2048 - limit - 2;
  return out;
}

function tablesOf(seed: number): RansTables {
  const next = uniform(seed);
  const frequencies = new Uint16Array(TABLES * 256);
  for (let i = 0; i < TABLES; i++) {
    const limit = [0, 1, 2, 3, 253, 254][Math.floor(6 * next())];
    frequencies.set(table(limit, Math.floor(1000 * next())), i * 256);
  }
  return { bits: 11, frequencies };
}

function setsOf(seed: number, components: number, steps: readonly number[]): StepSet[] {
  const next = uniform(seed + 1);
  const pick = (values: readonly number[]) => values[Math.floor(values.length * next())];
  return steps.map((s) => ({
    s,
    rho32: Int8Array.from({ length: MODES * components }, () => pick([0, 1, 16, 31, 32])),
    logSigma: Int16Array.from({ length: MODES * components }, () => pick([-32768, -3000, 0, 500, 32767])),
  }));
}

const cases = fc.record({
  components: fc.integer({ min: 1, max: 20 }),
  tokens: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 30, max: 70 })),
  first: fc.nat(69),
  seed: fc.nat(1e6),
  s: fc.constantFrom(-MAX_S, -1, 0, 60, MAX_S),
  lambda: fc.constantFrom(0, 0.3, 16),
  steps: fc.constantFrom([0], [-MAX_S, MAX_S], [-60, 0, 60]),
  largest: fc.constantFrom(0, 20, 3000, 100_000),
});

Deno.test("adversarial tables and step sets: every backend codes alike, and gives back what was coded", async () => {
  const backends = await Promise.all(BACKENDS.map(([, options]) => createBackend(options)));
  await fc.assert(
    fc.asyncProperty(cases, async ({ components, tokens, first, seed, s, lambda, steps, largest }) => {
      const next = uniform(seed);
      const y = Int32Array.from(
        { length: components * tokens },
        () => next() < 0.1 ? largest * Math.sign(next() - 0.5) : Math.round(largest * (2 * next() - 1)),
      );
      const begin = first % tokens;
      const part = (from: number, to: number) =>
        Int32Array.from({ length: components * (to - from) }, (_, i) => {
          const c = Math.floor(i / (to - from));
          return y[c * tokens + from + i % (to - from)];
        });
      const made: unknown[] = [];
      for (const backend of backends) {
        // GPUs are emulated here: a quarter of the cases.
        if (backend.gpu !== null && seed % 4 !== 0) continue;
        // Two chunks of three have fewer components than the file.
        const most = components + seed % 3 * 9;
        using coder = await openLevelCoder(backend, most, setsOf(seed, most, steps), tablesOf(seed));
        const streams = await coder.encode(y, s, components, tokens, lambda, null);
        const { quarters } = await coder.decode(streams, tokens);
        if (lambda === 0) {
          const worst = y.reduce((most, value, i) => Math.max(most, Math.abs(value - 4 * quarters[i])), 0);
          assert(worst <= 32, `off by ${worst} sixteenths`);
        }
        // The same tokens in two parts: the first keep what they had, in the file of both as well.
        let grown: ChunkStreams | null = null;
        if (begin > 0) {
          const head = await coder.decodeLevels(
            await coder.encode(part(0, begin), s, components, begin, lambda, null),
            begin,
          );
          grown = await coder.encode(part(begin, tokens), s, components, tokens - begin, lambda, head);
          const all = (await coder.decode(grown, tokens)).quarters;
          for (let c = 0; c < components; c++) {
            assertEquals(
              all.slice(c * tokens, c * tokens + begin),
              head.reconstruction.slice(c * begin, (c + 1) * begin),
            );
          }
        }
        made.push({ streams, quarters, grown });
      }
      for (const other of made.slice(1)) assertEquals(other, made[0]);
    }),
    { numRuns: casesFor(60) },
  );
  for (const backend of backends) backend[Symbol.dispose]();
});
