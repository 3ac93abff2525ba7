/**
 * SmolLM2's sample compressed and restored by recipes kvz and kvtc on every backend of this machine, in tokens/s: into the
 * host's memory, and on a GPU into its own. The sample is repeated to `--tokens`, since 256 tokens do not fill a GPU. Runs
 * are interleaved; the best of N counts.
 *
 *     deno run -A bench/gpu/restore.ts [--backends wasm,webgpu,cuda] [--tokens 4096] [--rounds 5] [--profiles A.kvzp,B.kvzp]
 *
 * Prints JSON lines. How far what a GPU restores is from what wasm restores stands beside it, in units of the last place of
 * binary16.
 *
 * @module
 */
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import type { BackendName } from "../../src/backend/select.ts";
import { KvCacheBuilder } from "../../src/cache/builder.ts";
import { asUint16 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { KINDS } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { openCodec } from "../../src/codec/open.ts";
import { parseProfile } from "../../src/profile/profile.ts";
import { option } from "../inputs.ts";

const rounds = Number(option("rounds", "5"));
const backends = option("backends", "wasm,webgpu,cuda").split(",") as BackendName[];
const profiles = option("profiles", "samples/smollm2-kvz.kvzp,samples/smollm2-demo.kvzp").split(",");
const sample = await readSafetensors(await Deno.readFile(option("cache", "samples/smollm2-256.safetensors")));
const cache = repeated(sample, Number(option("tokens", "4096")));

/** The sample again and again, with positions that rise: its keys stay as they are. */
function repeated(source: KvCache, tokens: number): KvCache {
  const { model, dtype } = source;
  const positions = Int32Array.from({ length: tokens }, (_, t) => t);
  const builder = new KvCacheBuilder({ model, dtype, positions });
  for (let begin = 0; begin < tokens; begin += source.tokens) {
    const n = Math.min(source.tokens, tokens - begin);
    for (const kind of KINDS) builder.write(kind, 0, begin, n, source.read(kind, 0, n));
  }
  return builder.build();
}

/** Largest distance of two caches of binary16 in units of the last place. */
function ulps(a: KvCache, b: KvCache): number {
  let most = 0;
  for (const kind of KINDS) {
    const [x, y] = [a, b].map((each) => asUint16(each.read(kind, 0, each.tokens)));
    // Sign and magnitude to a number that counts places.
    const place = (bits: number) => bits & 0x8000 ? 0x8000 - bits : bits;
    for (let i = 0; i < x.length; i++) most = Math.max(most, Math.abs(place(x[i]) - place(y[i])));
  }
  return most;
}

interface Row {
  readonly backend: string;
  readonly codec: Codec;
  compress: number;
  restore: number;
  restoreThere: number;
  ulps: number;
}

for (const path of profiles) {
  const profile = await parseProfile(await Deno.readFile(path));
  const options = profile.method === "kvz" ? {} : { recipe: "kvtc", ratio: 32, entropy: "rans" as const };
  const rows: Row[] = [];
  for (const backend of backends) {
    try {
      const codec = await openCodec(profile, { backend, threads: 1 });
      const { backend: name, build } = codec.info;
      rows.push({
        backend: `${name} ${build}`,
        codec,
        compress: Infinity,
        restore: Infinity,
        restoreThere: Infinity,
        ulps: 0,
      });
    } catch (error) {
      console.error(`${backend} is left out: ${(error as Error).message}`);
    }
  }
  const { bytes, report: { fileRatio } } = await rows[0].codec.compress(cache, options);
  const { cache: wanted } = await rows[0].codec.decompress(bytes);
  for (let round = 0; round <= rounds; round++) {
    for (const row of rows) {
      const there = await row.codec.compress(cache, options);
      const back = await row.codec.decompress(bytes);
      if (round === 0) {
        row.ulps = ulps(wanted, back.cache);
        continue;
      }
      row.compress = Math.min(row.compress, there.report.seconds);
      row.restore = Math.min(row.restore, back.report.seconds);
      if (row.backend.startsWith("wasm")) continue;
      const { report, free } = await row.codec.decompressOnDevice(bytes);
      free();
      row.restoreThere = Math.min(row.restoreThere, report.seconds);
    }
  }
  for (const row of rows) {
    const rate = (seconds: number) => seconds === Infinity ? null : Math.round(cache.tokens / seconds);
    console.log(JSON.stringify({
      benchmark: "restore",
      recipe: profile.method,
      backend: row.backend,
      tokens: cache.tokens,
      fileRatio,
      compressTokensPerSecond: rate(row.compress),
      restoreTokensPerSecond: rate(row.restore),
      restoreOnDeviceTokensPerSecond: rate(row.restoreThere),
      ulpsFromFirst: row.ulps,
    }));
    await row.codec.close();
  }
}
