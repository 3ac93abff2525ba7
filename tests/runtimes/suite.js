/**
 * What every runtime does with the packed package: compress and restore a synthetic cache, open what Deno compressed,
 * refuse a damaged file. Plain JavaScript on web APIs, so that Node, Bun, Deno and workerd run the same file.
 *
 * @module
 */

/** Options of all compressions; the window leaves several chunks of coded tokens. */
const OPTIONS = { ratio: 4, sinks: 4, window: 32, tokenIds: true };

/**
 * Runs the suite.
 *
 * @param {Record<string, any>} kvz the package: main or edge entry
 * @param {{ profile: Uint8Array, cache: Uint8Array, reference: Uint8Array, model: object }} fixtures profile and cache
 * (safetensors), and the .kvz file that Deno's simd build made of them
 * @param {{ name: string, options: object }[]} codecs codecs to open; the first is compared with the others
 * @returns {Promise<{ checks: { name: string, error?: string }[], files: Record<string, Uint8Array> }>} files: the .kvz
 * of each codec, and `restored`, the key and value bytes of the reference file
 */
export async function runSuite(kvz, fixtures, codecs) {
  const checks = [];
  const files = {};
  const check = async (name, body) => {
    try {
      await body();
      checks.push({ name });
    } catch (error) {
      checks.push({ name, error: error instanceof Error ? error.stack ?? error.message : String(error) });
    }
  };

  const profile = await kvz.loadProfile(fixtures.profile);
  const cache = await kvz.readSafetensors(fixtures.cache);
  for (const { name, options } of codecs) {
    await check(`${name}: compress and restore`, async () => {
      const codec = await kvz.openCodec(profile, options);
      try {
        const { bytes, report } = await codec.compress(cache, OPTIONS);
        files[name] = bytes;
        equal(report.tokens, cache.tokens, "tokens");
        const { cache: restored } = await codec.decompress(bytes);
        compareCaches(cache, restored, OPTIONS.window);
      } finally {
        await codec.close();
      }
    });
    await check(`${name}: restore what Deno compressed`, async () => {
      const { cache: restored } = await kvz.decompress(fixtures.reference, { profile, ...options });
      compareCaches(cache, restored, OPTIONS.window);
      const bytes = await cacheBytes(restored);
      if (files.restored === undefined) files.restored = bytes;
      else if (options.build === codecs[0].options.build) sameBytes(files.restored, bytes, "restored cache");
    });
  }
  const [first] = codecs;
  for (const { name, options } of codecs.slice(1)) {
    if (options.build !== first.options.build) continue;
    await check(`${name}: the same bytes as ${first.name}`, () => sameBytes(files[first.name], files[name], "file"));
  }
  await check("streams in and out", async () => {
    const codec = await kvz.openCodec(profile, first.options);
    try {
      const { cache: restored } = await codec.decompress(codec.compressStream(cache, OPTIONS));
      compareCaches(cache, restored, OPTIONS.window);
    } finally {
      await codec.close();
    }
  });
  await check("inspect", async () => {
    const facts = await kvz.inspect(fixtures.reference, { verify: true });
    equal(facts.tokens, cache.tokens, "tokens");
    equal(facts.regions.window, OPTIONS.window, "window");
  });
  await check("a damaged file is refused with KvzFormatError", async () => {
    const damaged = fixtures.reference.slice();
    damaged[damaged.length >> 1] ^= 4;
    const error = await kvz.decompress(damaged, { profile, ...first.options }).then(() => null, (e) => e);
    if (!(error instanceof kvz.KvzFormatError)) throw new Error(`Expected KvzFormatError, got ${error}`);
  });
  return { checks, files };
}

function equal(found, wanted, what) {
  if (found !== wanted) throw new Error(`${what}: found ${found}, expected ${wanted}`);
}

function sameBytes(a, b, what) {
  equal(b.length, a.length, `${what}: length`);
  const at = a.findIndex((byte, i) => byte !== b[i]);
  if (at !== -1) throw new Error(`${what}: byte ${at} differs`);
}

async function cacheBytes(cache) {
  const parts = [await cache.read("key", 0, cache.tokens), await cache.read("value", 0, cache.tokens)];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Ids, positions and window as they were; keys and values within 20 % (‖error‖ ÷ ‖x‖), a fifth of what zeros give. */
function compareCaches(cache, restored, window) {
  equal(restored.tokens, cache.tokens, "tokens");
  sameBytes(bytesOf(cache.positions), bytesOf(restored.positions), "positions");
  sameBytes(bytesOf(cache.inputIds), bytesOf(restored.inputIds), "token ids");
  for (const kind of ["key", "value"]) {
    let energy = 0;
    let error = 0;
    for (let layer = 0; layer < cache.model.layers; layer++) {
      for (let head = 0; head < cache.model.kvHeads; head++) {
        const wanted = cache[kind](layer, head);
        const found = restored[kind](layer, head);
        const begin = wanted.length / cache.tokens * (cache.tokens - window);
        sameBytes(wanted.subarray(begin), found.subarray(begin), `window, ${kind} of layer ${layer}, head ${head}`);
        const a = float16(wanted);
        float16(found).forEach((x, i) => {
          energy += a[i] ** 2;
          error += (x - a[i]) ** 2;
        });
      }
    }
    const relative = Math.sqrt(error / energy);
    if (!(relative < 0.2)) throw new Error(`relative error of the ${kind}s: ${relative}`);
  }
}

function bytesOf(array) {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** The numbers of little-endian binary16 bytes. */
function float16(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) => {
    const bits = view.getUint16(2 * i, true);
    const exponent = bits >> 10 & 31;
    const fraction = bits & 1023;
    const sign = bits >> 15 ? -1 : 1;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return exponent === 31 ? NaN : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}
