/**
 * Makes the golden files of recipe kvz, version 1: profiles (*.kvzp), caches (*.kvz), and the coefficients that chunks
 * were coded from (coefficients.json). Run it only when the recipe gets a new version, and keep the old
 * files beside the new ones; then run decode.py.
 *
 *     deno run -A tests/codec/kvz_golden/make.ts
 *
 * @module
 */
import { createBackend } from "../../../src/backend/select.ts";
import { mapHeads } from "../../../src/cache/cast.ts";
import { fromFloat32, toFloat32 } from "../../../src/cache/elements.ts";
import type { KvCache } from "../../../src/cache/kv_cache.ts";
import type { DType, ModelSpec } from "../../../src/cache/types.ts";
import { openCodec } from "../../../src/codec/open.ts";
import { calibrateKvz } from "../../../src/profile/kvz/calibrate.ts";
import { serializeProfile } from "../../../src/profile/profile.ts";
import { kvz } from "../../../src/recipes/kvz.ts";
import { planSetup } from "../../../src/recipes/kvz_setup.ts";
import { toSubsteps } from "../../../src/stages/quantize/trellis/substeps.ts";
import { openIntegerTransform } from "../../../src/stages/transform/integer.ts";
import { random, syntheticCache } from "../../synthetic.ts";

/** Keys are rotated in part; all counts are small and differ. */
const MODEL: ModelSpec = {
  id: "kvz-golden",
  layers: 2,
  kvHeads: 2,
  keyDim: 8,
  valueDim: 5,
  rope: { theta: 10000, dim: 6, pairing: "half-split" },
};

/**
 * A cache of another kind than calibration has seen, so that classes move; some tokens are so much larger that levels escape
 * from their tables.
 */
function foreign(cache: KvCache, dtype: DType): KvCache {
  return mapHeads(cache, {}, ({ key, value, positions }, layer, head) => {
    const next = random(2 * layer + head);
    const grow = (bytes: Uint8Array) => {
      const values = toFloat32(bytes, dtype).map((value) =>
        value * (layer === 0 ? 1 : 0.2) + (head === 0 ? 0 : 1.5 * next())
      );
      const dim = values.length / positions.length;
      for (let t = 40; t < positions.length; t += 40) {
        for (let i = 0; i < dim; i++) values[t * dim + i] *= t % 80 === 0 ? 40 : -9;
      }
      return fromFloat32(values, dtype);
    };
    return { key: grow(key), value: grow(value), positions };
  });
}

const here = (name: string) => new URL(name, import.meta.url);
const backend = { backend: "reference" } as const;
const caches = [1, 2, 3].map((seed) => syntheticCache(400, { seed, model: MODEL }));
const profile = await calibrateKvz(caches, { rank: 20, svd: "exact", ratio: 30, backend });
await Deno.writeFile(here("profile.kvzp"), await serializeProfile({ ...profile, shingles: new BigUint64Array(0) }));
const codec = await openCodec(profile, backend);
const coefficients: Record<string, unknown> = {};
for (
  const [name, tokens, dtype, options] of [
    ["two_chunks_f16.kvz", 540, "f16", { sinks: 3, window: 2, quality: "small", recent: 0 }],
    ["outliers_f32.kvz", 90, "f32", { sinks: 0, step: 0.2, lambda: 0.1, recent: 0 }],
    ["newest_bf16.kvz", 150, "bf16", { sinks: 1, window: 3, step: 0.4, recent: 16, recentStep: 0.25 }],
  ] as const
) {
  const cache = foreign(syntheticCache(tokens, { seed: 7, model: MODEL, dtype, firstPosition: 1000 }), dtype);
  const { bytes, report } = await codec.compress(cache, options);
  console.log(name, bytes.length, report.fileRatio);
  await Deno.writeFile(here(name), bytes);
  if (options.sinks > 0) continue;
  // The one chunk's coefficients in sixteenths of the step, as the recipe computes them.
  const facts = { model: MODEL, storedDType: dtype, dtype, openBackend: () => createBackend(backend) };
  const { basis, settings } = await planSetup(profile, facts, kvz.parseOptions(options));
  const { kvHeads: heads, ...geometry } = MODEL;
  using transform = await openIntegerTransform(await createBackend(backend), { ...geometry, heads, dtype }, basis);
  const { older } = settings.encoders!;
  const floats = await transform.encode(
    { key: cache.read("key", 0, tokens), value: cache.read("value", 0, tokens) },
    { tokens, positions: cache.positions, layerBegin: 0, layerEnd: MODEL.layers },
    older.components,
  );
  const { y, s } = toSubsteps(floats, older.components, tokens, older.s);
  coefficients[name] = { s, lambda: options.lambda, components: older.components, tokens, y: [...y] };
}
await codec.close();
// A profile of more components, of which the older tokens' chunk has fewer than the newest's.
const wide = await calibrateKvz(caches, { rank: 48, svd: "exact", ratio: 2, backend });
await Deno.writeFile(here("wide_profile.kvzp"), await serializeProfile({ ...wide, shingles: new BigUint64Array(0) }));
const wideCodec = await openCodec(wide, backend);
const cache = syntheticCache(150, { seed: 7, model: MODEL });
const { bytes } = await wideCodec.compress(cache, { step: 0.3, recent: 16, recentStep: 0.0625 });
await Deno.writeFile(here("fewer_components_f16.kvz"), bytes);
await wideCodec.close();
await Deno.writeTextFile(here("coefficients.json"), JSON.stringify(coefficients) + "\n");
