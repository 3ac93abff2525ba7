import { assert, assertEquals, assertThrows } from "deno-std/assert";
import * as fc from "fast-check";
import { WASM_BUILDS } from "../../../src/backend/wasm/exports.ts";
import { TrellisKernels } from "../../../src/backend/wasm/trellis_kernels.ts";
import { KvzFormatError } from "../../../src/errors.ts";
import { trellisContexts } from "../../../src/stages/quantize/trellis/model.ts";
import { escapeLevels, unescapeLevels } from "../../../src/stages/entropy/escapes.ts";
import { decodeTrellisReference, encodeTrellisReference } from "../../../src/stages/quantize/trellis/reference.ts";
import { decodeSide, encodeSide } from "../../../src/stages/quantize/trellis/side.ts";
import { reconstruct } from "../../../src/stages/quantize/trellis/states.ts";
import { decodeTrellis, encodeTrellis } from "../../../src/stages/quantize/trellis/trellis.ts";
import { coefficients, COSTS, fallingModel } from "./cases.ts";
import { casesFor } from "../../cases.ts";

const kernels = await Promise.all(WASM_BUILDS.map((build) => TrellisKernels.open(build)));

const chunk = fc.record({
  components: fc.integer({ min: 1, max: 90 }),
  tokens: fc.integer({ min: 1, max: 40 }),
  seed: fc.integer({ min: 0, max: 1e6 }),
  lambda: fc.constantFrom(0, 0.1, 0.3, 1, 16),
  sigma: fc.constantFrom(0.3, 4, 60, 900),
  split: fc.double({ min: 0, max: 1, noNaN: true }),
});

Deno.test("kernels of every build give the reference's integers, whole and after a prefix", () => {
  fc.assert(
    fc.property(chunk, ({ components, tokens, seed, lambda, sigma, split }) => {
      const model = fallingModel(components, { sigma });
      const y = coefficients(components, tokens, seed, { sigma }).map((v) => Math.max(-1e5, Math.min(1e5, v)));
      const whole = encodeTrellisReference(model, y, tokens, lambda);
      const decoded = decodeTrellisReference(model, whole.levels, whole, tokens);
      assertEquals(decoded, whole.reconstruction);
      const first = Math.floor(split * tokens);
      const part = (begin: number, end: number) =>
        Int32Array.from({ length: components * (end - begin) }, (_, i) => {
          const c = Math.floor(i / (end - begin));
          return y[c * tokens + begin + i % (end - begin)];
        });
      const prefix = encodeTrellisReference(model, part(0, first), first, lambda);
      const grown = encodeTrellisReference(model, part(first, tokens), tokens - first, lambda, prefix);
      assertEquals(grown.refs.subarray(0, first), prefix.refs);
      for (const k of kernels) {
        assertEquals(encodeTrellis(k, model, y, tokens, lambda), whole, k.build);
        assertEquals(encodeTrellis(k, model, part(first, tokens), tokens - first, lambda, prefix), grown, k.build);
        assertEquals(decodeTrellis(k, model, whole.levels, whole, tokens), decoded, k.build);
        assertEquals(k.bytesInUse, 0);
      }
      const { symbols, escapes } = escapeLevels(
        grown.levels,
        components,
        tokens,
        trellisContexts(model, grown),
        COSTS.limits,
      );
      const back = unescapeLevels(symbols, escapes, components, tokens, trellisContexts(model, grown), COSTS.limits);
      assertEquals(back, grown.levels);
    }),
    { numRuns: casesFor(60) },
  );
});

Deno.test("without a weight on bits no error exceeds two steps", () => {
  const [components, tokens] = [64, 50];
  const model = fallingModel(components);
  const y = coefficients(components, tokens, 5);
  const { reconstruction } = encodeTrellisReference(model, y, tokens, 0);
  // A quantizer's points are two steps apart, and a path may take the second nearest.
  const worst = y.reduce((most, value, i) => Math.max(most, Math.abs(value - 4 * reconstruction[i])), 0);
  assert(worst <= 32, `${worst} sixteenths`);
});

Deno.test("side information: round trip, truncation, impossible values", () => {
  const model = fallingModel(20);
  const code = encodeTrellisReference(model, coefficients(20, 30, 3), 30, 0.3);
  const bytes = encodeSide(code);
  const { s, refs, modes, energies, offsets } = code;
  assertEquals(decodeSide(bytes, 30, 20), { s, refs, modes, energies, offsets });
  for (let length = 0; length < bytes.length; length++) {
    assertThrows(() => decodeSide(bytes.subarray(0, length), 30, 20), KvzFormatError);
  }
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
      const changed = bytes.slice();
      changed[at] = value;
      try {
        const side = decodeSide(changed, 30, 20);
        assert(side.refs.every((ref, t) => ref < t && ref >= -1));
        assert(side.modes.every((mode) => mode < 5) && side.energies.every((energy) => energy < 3));
      } catch (error) {
        assert(error instanceof KvzFormatError);
      }
    }),
  );
});

Deno.test("levels that lead out of 16 bits are refused", () => {
  const model = fallingModel(1, { rho: 48 });
  const levels = new Int32Array(40).fill(4000);
  const side = { s: 300, refs: Int16Array.from({ length: 40 }, (_, t) => t - 1), modes: new Uint8Array(40).fill(4) };
  const whole = { ...side, energies: new Uint8Array(40), offsets: new Int8Array(1) };
  assertThrows(() => decodeTrellisReference(model, levels, whole, 40), KvzFormatError, "16 bits");
  for (const k of kernels) assertThrows(() => decodeTrellis(k, model, levels, side, 40), KvzFormatError, "16 bits");
});

Deno.test("bad input to the encoder is refused by name", () => {
  const model = fallingModel(4);
  const y = new Int32Array(8);
  for (const k of kernels) {
    assertThrows(() => encodeTrellis(k, model, y, 3, 0.3), RangeError, "4 × 3");
    assertThrows(() => encodeTrellis(k, model, y, 2, NaN), RangeError, "λ");
    assertThrows(() => encodeTrellis(k, model, new Int32Array(8).fill(100_001), 2, 0.3), RangeError, "100000");
  }
});

Deno.test("reconstruction points: together the integers, apart every second and 0", () => {
  const points = (quantizer: number) => Array.from({ length: 9 }, (_, i) => reconstruct(i - 4, quantizer));
  assertEquals(points(0), [-8, -6, -4, -2, 0, 2, 4, 6, 8]);
  assertEquals(points(1), [-7, -5, -3, -1, 0, 1, 3, 5, 7]);
});
