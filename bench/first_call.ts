/**
 * What the first calls of a process take with recipe kvz: loading the profile, compressing (which makes the forward
 * matrix), restoring; and the same again. One process is one measurement; the best of several is what the machine can.
 *
 *     deno run -A bench/first_call.ts [CACHE.safetensors] [--profile samples/smollm2-kvz.kvzp] [--threads 1]
 *
 * @module
 */
import { loadProfile } from "../mod.ts";
import { readSafetensors } from "../src/adapters/safetensors.ts";
import { openCodec } from "../src/codec/open.ts";
import { option } from "./inputs.ts";

const path = Deno.args[0]?.startsWith("--") === false ? Deno.args[0] : "samples/smollm2-256.safetensors";
const [cacheBytes, profileBytes] = await Promise.all([
  Deno.readFile(path),
  Deno.readFile(option("profile", "samples/smollm2-kvz.kvzp")),
]);
const cache = await readSafetensors(cacheBytes);

async function timed<T>(name: string, run: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  const result = await run();
  console.log(`${name.padEnd(20)} ${(performance.now() - begin).toFixed(0).padStart(6)} ms`);
  return result;
}

const profile = await timed("load the profile", () => loadProfile(profileBytes));
await using codec = await timed("open a codec", () => openCodec(profile, { threads: Number(option("threads", "1")) }));
for (const which of ["", " again"]) {
  const { bytes } = await timed(`compress${which}`, () => codec.compress(cache));
  await timed(`restore${which}`, () => codec.decompress(bytes));
}
