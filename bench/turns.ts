/**
 * Recipe kvz when calls differ from the one before: restoring two files by turns, and compressing and restoring by turns,
 * beside the same call again. Milliseconds, medians; the first call of each kind, which loads, is left out.
 *
 *     deno run -A bench/turns.ts --cache C.safetensors --profile P.kvzp [--tokens 512] [--threads 1,2] [--rounds 9] [--json]
 *
 * @module
 */
import { readSafetensors } from "../src/adapters/safetensors.ts";
import { openCodec } from "../src/codec/open.ts";
import { parseProfile } from "../src/profile/profile.ts";
import { flag, option } from "./inputs.ts";

const whole = await readSafetensors(await Deno.readFile(option("cache", "samples/smollm2-256.safetensors")));
const cache = whole.slice(0, Math.min(whole.tokens, Number(option("tokens", "512"))));
const profile = await parseProfile(await Deno.readFile(option("profile", "samples/smollm2-kvz.kvzp")));
const rounds = Number(option("rounds", "9"));

/** Median milliseconds of `run`, each after `before`. */
async function median(before: () => Promise<unknown>, run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await before();
    const begin = performance.now();
    await run();
    times.push(performance.now() - begin);
  }
  return Math.round(10 * times.sort((a, b) => a - b)[rounds >> 1]) / 10;
}

const rows: Record<string, number>[] = [];
for (const threads of option("threads", "1,2").split(",").map(Number)) {
  const codec = await openCodec(profile, { backend: "wasm", threads });
  const compress = () => codec.compress(cache, { recipe: "kvz" });
  const { bytes } = await compress();
  const coarse = (await codec.compress(cache, { recipe: "kvz", quality: "small" })).bytes;
  const restore = () => codec.decompress(bytes);
  await restore();
  rows.push({
    threads,
    tokens: cache.tokens,
    restore: await median(restore, restore),
    "after another file": await median(() => codec.decompress(coarse), restore),
    "after compressing": await median(compress, restore),
    compress: await median(compress, compress),
    "after restoring": await median(restore, compress),
  });
  await codec.close();
}
if (flag("json")) console.log(JSON.stringify({ rounds, rows }));
else console.table(rows);
