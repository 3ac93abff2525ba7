import { assert, assertEquals, assertThrows } from "deno-std/assert";
import * as fc from "fast-check";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";
import { createWasmBackend } from "../../src/backend/wasm/create.ts";
import { IntegerKernels } from "../../src/backend/wasm/integer_kernels.ts";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import { type DType, KINDS } from "../../src/cache/types.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { IntegerTransform, openIntegerTransform } from "../../src/stages/transform/integer.ts";
import type { IntegerBasis, IntegerGeometry } from "../../src/stages/transform/integer_basis.ts";
import { uniform } from "./trellis/cases.ts";
import { casesFor } from "../cases.ts";

const builds = await Promise.all(WASM_BUILDS.map((build) => createWasmBackend({ build })));
const backends = [new ReferenceBackend(), ...builds];

/** The transform on every backend, the relaxed build's product in both of its ways, whichever suits this machine. */
async function openAll(geometry: IntegerGeometry, basis: IntegerBasis): Promise<[name: string, IntegerTransform][]> {
  const transforms: [string, IntegerTransform][] = [];
  for (const backend of backends) {
    transforms.push([backend.build, await openIntegerTransform(backend, geometry, basis)]);
  }
  const relaxed = backends[backends.length - 1];
  for (const on of [false, true]) {
    const kernels = await IntegerKernels.open("relaxed");
    kernels.exports.setDots(on);
    assertEquals(kernels.exports.tokensAtOnce(), on ? 5 : 4);
    transforms.push([`relaxed, dots ${on}`, new IntegerTransform(relaxed, kernels, geometry, basis)]);
  }
  return transforms;
}

function makeBasis(geometry: IntegerGeometry, components: number, seed: number): IntegerBasis {
  const next = uniform(seed);
  const features = geometry.layers * geometry.heads * (geometry.keyDim + geometry.valueDim);
  return {
    components,
    features,
    basis: Int8Array.from({ length: components * features }, () => Math.round(126 * next()) - 63),
    scales: Float32Array.from({ length: features }, () => 0.001 + next() / 100),
    mean: Float32Array.from({ length: features }, () => next() - 0.5),
    forward: Uint16Array.from({ length: components * features }, () => numberToF16(next() - 0.5)),
  };
}

const shapes = fc.record({
  layers: fc.integer({ min: 1, max: 3 }),
  heads: fc.integer({ min: 1, max: 3 }),
  keyDim: fc.integer({ min: 1, max: 20 }),
  valueDim: fc.integer({ min: 1, max: 20 }),
  tokens: fc.integer({ min: 1, max: 9 }),
  components: fc.integer({ min: 1, max: 40 }),
  dtype: fc.constantFrom<DType>("f32", "f16", "bf16"),
  rotated: fc.boolean(),
  large: fc.boolean(),
  seed: fc.nat(1e6),
});

Deno.test("reconstruction is the same bits on every backend, whole and layer by layer", async () => {
  await fc.assert(
    fc.asyncProperty(shapes, async ({ tokens, components, rotated, large, seed, ...shape }) => {
      const { layers, heads, keyDim, valueDim, dtype } = shape;
      const rope = rotated && keyDim >= 2
        ? { dim: 2 * Math.floor(keyDim / 2), theta: 10000, pairing: "half-split" as const }
        : null;
      const geometry: IntegerGeometry = { layers, heads, keyDim, valueDim, rope, dtype };
      const basis = makeBasis(geometry, components, seed);
      const next = uniform(seed + 1);
      const levels = Int16Array.from(
        { length: components * tokens },
        (_, i) => Math.round((large && i < 5 * tokens ? 60000 : 300) * (next() - 0.5)),
      );
      const scales = Float32Array.from({ length: tokens }, () => 0.01 + next());
      const positions = Int32Array.from({ length: tokens }, (_, t) => 3 * t + 100);
      const named = await openAll(geometry, basis);
      const transforms = named.map(([, transform]) => transform);
      for (const kind of KINDS) {
        const dim = kind === "key" ? keyDim : valueDim;
        const [wanted, ...others] = transforms.map((transform) =>
          transform.decode({ levels, scales }, { tokens, positions, layerBegin: 0, layerEnd: layers }, kind)
        );
        assertEquals(wanted.length, layers * heads * tokens * dim * (dtype === "f32" ? 4 : 2));
        for (const [i, other] of others.entries()) assertEquals(other, wanted, named[i + 1][0]);
        const perLayer = wanted.length / layers;
        for (let layer = 0; layer < layers; layer++) {
          for (const transform of transforms) {
            const ctx = { tokens, positions, layerBegin: layer, layerEnd: layer + 1 };
            assertEquals(
              transform.decode({ levels, scales }, ctx, kind),
              wanted.slice(layer * perLayer, (layer + 1) * perLayer),
            );
          }
        }
      }
      // Of the leading components alone, as if the others' levels were 0.
      const fewer = 1 + seed % components;
      const leading = { levels: levels.slice(0, fewer * tokens), scales };
      const zeros = { levels: levels.map((level, i) => i < fewer * tokens ? level : 0), scales };
      const ctx = { tokens, positions, layerBegin: 0, layerEnd: layers };
      const wanted = transforms[0].decode(zeros, ctx, "value");
      for (const transform of transforms) {
        assertEquals(transform.decode(leading, ctx, "value"), wanted);
        transform[Symbol.dispose]();
      }
    }),
    { numRuns: casesFor(60) },
  );
});

Deno.test("sums hold at their edges: largest basis, levels all of one sign", async () => {
  const geometry: IntegerGeometry = { layers: 1, heads: 1, keyDim: 20, valueDim: 12, rope: null, dtype: "f32" };
  const [components, tokens] = [203, 3];
  const basis = makeBasis(geometry, components, 5);
  basis.basis.fill(63);
  const scales = new Float32Array(tokens).fill(2 ** -10);
  const ctx = { tokens, positions: new Int32Array(tokens), layerBegin: 0, layerEnd: 1 };
  const named = await openAll(geometry, basis);
  const transforms = named.map(([, transform]) => transform);
  // 258 · 127 is 32,766: one more would wrap (6 · 43 of even places come to it, 7 · 37 to one more).
  for (const level of [1, 15, 16, 37, 43, 64, 65, 127, 128, 129, 255, 256, 384, 16512]) {
    for (const sign of [1, -1]) {
      const count = Math.min(components, Math.floor((2 ** 31 - 1) / 63 / level));
      // Even places alone as well, and some of the other sign: both sums of a run count for themselves, and both signs.
      for (const every of [1, 2]) {
        for (const turned of [Infinity, 3]) {
          const levels = Int16Array.from({ length: components * tokens }, (_, i) => {
            const component = Math.floor(i / tokens);
            if (component >= count || component % every !== 0) return 0;
            return component % turned === 2 ? -sign * level : sign * level;
          });
          const [wanted, ...others] = transforms.map((transform) => transform.decode({ levels, scales }, ctx, "value"));
          for (const [i, other] of others.entries()) assertEquals(other, wanted, `${level} ${named[i + 1][0]}`);
        }
      }
    }
  }
  for (const transform of transforms) transform[Symbol.dispose]();
});

Deno.test("reconstruction agrees with float64", async () => {
  const geometry: IntegerGeometry = { layers: 2, heads: 2, keyDim: 16, valueDim: 8, rope: null, dtype: "f32" };
  const [components, tokens] = [64, 5];
  const basis = makeBasis(geometry, components, 3);
  const next = uniform(4);
  const levels = Int16Array.from({ length: components * tokens }, () => Math.round(800 * (next() - 0.5)));
  const scales = Float32Array.from({ length: tokens }, () => 0.01 + next());
  const transform = await openIntegerTransform(builds[0], geometry, basis);
  const ctx = { tokens, positions: new Int32Array(tokens), layerBegin: 0, layerEnd: 2 };
  const values = toFloat32(transform.decode({ levels, scales }, ctx, "value"), "f32");
  for (let block = 0; block < 4; block++) {
    for (let t = 0; t < tokens; t++) {
      for (let i = 0; i < 8; i++) {
        const f = 2 * 2 * 16 + block * 8 + i;
        let exact = 0;
        for (let c = 0; c < components; c++) {
          exact += basis.basis[c * basis.features + f] * levels[c * tokens + t];
        }
        exact = exact * basis.scales[f] * scales[t] + basis.mean[f];
        const found = values[(block * tokens + t) * 8 + i];
        assert(Math.abs(found - exact) <= 4 * 2 ** -24 * Math.max(1, Math.abs(exact)), `${found} ${exact}`);
      }
    }
  }
});

Deno.test("the way there is the product with the forward matrix, keys before RoPE", async () => {
  const geometry: IntegerGeometry = { layers: 1, heads: 2, keyDim: 3, valueDim: 4, rope: null, dtype: "f32" };
  const basis = makeBasis(geometry, 5, 8);
  const forward = toFloat32(new Uint8Array(basis.forward!.slice().buffer), "f16");
  const next = uniform(9);
  const tokens = 3;
  const key = Float32Array.from({ length: 2 * tokens * 3 }, next);
  const value = Float32Array.from({ length: 2 * tokens * 4 }, next);
  const sources = { key: new Uint8Array(key.buffer), value: new Uint8Array(value.buffer) };
  for (const backend of backends) {
    const transform = await openIntegerTransform(backend, geometry, basis);
    const ctx = { tokens, positions: new Int32Array(tokens), layerBegin: 0, layerEnd: 1 };
    const found = await transform.encode(sources, ctx);
    for (let t = 0; t < tokens; t++) {
      for (let c = 0; c < 5; c++) {
        let exact = 0;
        for (let h = 0; h < 2; h++) {
          for (let i = 0; i < 3; i++) {
            exact += (key[(h * tokens + t) * 3 + i] - basis.mean[h * 3 + i]) * forward[c * 14 + h * 3 + i];
          }
          for (let i = 0; i < 4; i++) {
            const f = 6 + h * 4 + i;
            exact += (value[(h * tokens + t) * 4 + i] - basis.mean[f]) * forward[c * 14 + f];
          }
        }
        assert(Math.abs(found[t * 5 + c] - exact) < 1e-5);
      }
    }
  }
});

Deno.test("the way there on any number of leading components gives what all give", async () => {
  const geometry: IntegerGeometry = { layers: 1, heads: 2, keyDim: 6, valueDim: 5, rope: null, dtype: "f32" };
  const basis = makeBasis(geometry, 21, 11);
  const next = uniform(12);
  const tokens = 4;
  const sources = {
    key: new Uint8Array(Float32Array.from({ length: 2 * tokens * 6 }, next).buffer),
    value: new Uint8Array(Float32Array.from({ length: 2 * tokens * 5 }, next).buffer),
  };
  const ctx = { tokens, positions: new Int32Array(tokens), layerBegin: 0, layerEnd: 1 };
  for (const backend of backends) {
    using transform = await openIntegerTransform(backend, geometry, basis);
    const all = await transform.encode(sources, ctx);
    for (const components of [1, 5, 8, 13, 16, 20, 21]) {
      const wanted = all.filter((_, i) => i % 21 < components);
      assertEquals(await transform.encode(sources, ctx, components), wanted, `${components}, ${backend.build}`);
    }
  }
});

Deno.test("levels that could leave 32 bits are refused", async () => {
  const geometry: IntegerGeometry = { layers: 1, heads: 1, keyDim: 2, valueDim: 2, rope: null, dtype: "f16" };
  const basis = makeBasis(geometry, 2000, 1);
  const ctx = { tokens: 1, positions: new Int32Array(1), layerBegin: 0, layerEnd: 1 };
  const scales = Float32Array.of(1);
  for (const backend of backends) {
    const transform = await openIntegerTransform(backend, geometry, basis);
    const decode = (levels: Int16Array) => transform.decode({ levels, scales }, ctx, "key");
    assertThrows(() => decode(new Int16Array(2000).fill(32000)), KvzFormatError, "32 bits");
    assertThrows(() => decode(new Int16Array(2000).fill(-32700, 0, 1)), KvzFormatError, "32639");
    assertThrows(() => decode(new Int16Array(2001)), RangeError, "up to 2000 × 1");
    decode(new Int16Array(2000).fill(17000));
  }
  await assertRejectsFit(geometry);
});

async function assertRejectsFit(geometry: IntegerGeometry): Promise<void> {
  const basis = makeBasis(geometry, 3, 1);
  let error: unknown;
  try {
    await openIntegerTransform(builds[0], { ...geometry, layers: 2 }, basis);
  } catch (caught) {
    error = caught;
  }
  assert(error instanceof RangeError);
}
