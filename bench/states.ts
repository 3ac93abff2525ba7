/**
 * Two states of the source in turns in one process: compressing and restoring whole caches with recipes kvz, kvtc and
 * lossless. What a change gains is told from what the machine does meanwhile by the ratio of the best, or the medians.
 *
 *     git worktree add ../before COMMIT && ln -s $PWD/node_modules ../before/
 *     deno run -A bench/states.ts ../before . --cache C.safetensors [--threads 1] [--build simd] [--rounds 14] [--only lossless]
 *
 * With --v8-flags=--expose-gc garbage is collected before each call, so that none pays for another's.
 *
 * @module
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { WasmBuild } from "../src/backend/wasm/exports.ts";
import type { KvCache } from "../src/cache/kv_cache.ts";
import type { Codec } from "../src/codec/codec.ts";
import { option } from "./inputs.ts";

const CALLS = [
  ["kvz", "samples/smollm2-kvz.kvzp", {}],
  ["kvtc 32", "samples/smollm2-demo.kvzp", { ratio: 32 }],
  ["lossless", null, {}],
] as const;

const folders = Deno.args.slice(0, 2);
if (folders.length < 2 || folders.some((folder) => folder.startsWith("--"))) {
  console.error("Two folders with a state of the source each are wanted: BEFORE AFTER");
  Deno.exit(2);
}
const cacheBytes = await Deno.readFile(option("cache", "samples/smollm2-256.safetensors"));
const threads = Number(option("threads", "1"));
const only = option("only", "");
const calls = CALLS.filter(([name]) => only === "" || name === only);
const build = option("build", "auto") as "auto" | WasmBuild;

interface Run {
  readonly name: string;
  readonly folder: string;
  readonly codec: Codec;
  readonly cache: KvCache;
  readonly options: object;
  readonly bytes: Uint8Array;
  readonly compress: number[];
  readonly restore: number[];
}

/** Classes of one state know nothing of another's: each reads the cache and the profiles by itself. */
async function runsOf(folder: string): Promise<Run[]> {
  const kvz: typeof import("../mod.ts") = await import(pathToFileURL(resolve(folder, "mod.ts")).href);
  const cache = await kvz.readSafetensors(cacheBytes);
  return await Promise.all(calls.map(async ([name, path, options]) => {
    const profile = path === null ? null : await kvz.loadProfile(await Deno.readFile(path));
    const codec = await kvz.openCodec(profile, { backend: "wasm", build, threads });
    const { bytes } = await codec.compress(cache, options);
    return { name, folder, codec, cache, options, bytes, compress: [], restore: [] };
  }));
}

const collect: () => void = (globalThis as { gc?: () => void }).gc ?? (() => {});
const [before, after] = await Promise.all(folders.map(runsOf));
for (let round = 0; round < Number(option("rounds", "14")); round++) {
  for (const { codec, cache, options, bytes, compress, restore } of before.flatMap((run, i) => [run, after[i]])) {
    for (
      const [times, call] of [
        [compress, () => codec.compress(cache, options)],
        [restore, () => codec.decompress(bytes)],
      ] as const
    ) {
      collect();
      const begin = performance.now();
      await call();
      times.push(performance.now() - begin);
    }
  }
}

const best = (times: number[]) => Math.min(...times);
const median = (times: number[]) => times.toSorted((a, b) => a - b)[times.length >> 1];
const rate = ({ cache }: Run, ms: number) => Math.round(cache.tokens / ms * 1000);
console.log("tokens/s before → after, times as fast (by the medians)");
for (const [i, old] of before.entries()) {
  for (const way of ["compress", "restore"] as const) {
    const [a, b] = [old[way], after[i][way]];
    console.log(
      `${old.name.padEnd(9)} ${way.padEnd(9)} ${rate(old, best(a))} → ${rate(old, best(b))}, ` +
        `${(best(a) / best(b)).toFixed(2)} (${(median(a) / median(b)).toFixed(2)})`,
    );
  }
}
for (const { codec } of [...before, ...after]) await codec.close();
