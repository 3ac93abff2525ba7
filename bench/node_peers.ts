/**
 * rANS and recipe lossless against zstd in WebAssembly in Node, one core, interleaved; the best of N counts. Rates are MB/s
 * through the public calls. Bundled beside the peer that bench/entropy.ts puts into .cache/bench:
 *
 *     deno bundle --platform node -o .cache/bench/node_peers.mjs bench/node_peers.ts
 *     node .cache/bench/node_peers.mjs [CACHE.safetensors …]
 *
 * @module
 */
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import process from "node:process";
import { readSafetensors } from "../src/adapters/safetensors.ts";
import { EntropyKernels } from "../src/backend/wasm/entropy_kernels.ts";
import { KINDS } from "../src/cache/types.ts";
import { openCodec } from "../src/codec/open.ts";
import { WasmRans } from "../src/stages/entropy/rans.ts";
import { syntheticData } from "./entropy/data.ts";

const ROUNDS = 25;

interface Zstd {
  init(): Promise<void>;
  compress(data: Uint8Array, level: number): Uint8Array;
  decompress(bytes: Uint8Array): Uint8Array;
}

const zstd: Zstd = createRequire(import.meta.url)("@bokuweb/zstd-wasm");
await zstd.init();

/** Least milliseconds of each call, which take turns. */
async function inTurns(calls: Record<string, () => unknown>): Promise<Record<string, number>> {
  const best: Record<string, number> = {};
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, call] of Object.entries(calls)) {
      const begin = performance.now();
      await call();
      best[name] = Math.min(best[name] ?? Infinity, performance.now() - begin);
    }
  }
  return best;
}

function print(name: string, bytes: number, best: Record<string, number>): void {
  const rates = Object.entries(best).map(([call, ms]) => `${call} ${(bytes / ms / 1e3).toFixed(0)}`);
  const times = Object.keys(best).filter((call) => call.startsWith("zstd ")).map((call) => {
    const own = call.slice("zstd ".length);
    return `${own} ${(best[call] / best[own]).toFixed(2)}`;
  });
  console.log(`${name}: ${rates.join(", ")} MB/s; times zstd-wasm 1: ${times.join(", ")}`);
}

console.log(`Node ${process.version}`);
const kernels = await EntropyKernels.open();
for (const { name, symbols, rows, tokens, tables, contexts } of syntheticData()) {
  const rans = new WasmRans(kernels, tables);
  const [coded, packed] = [rans.encode(symbols, rows, tokens, contexts), zstd.compress(symbols, 1)];
  const out = new Uint8Array(symbols.length);
  const best = await inTurns({
    encode: () => rans.encode(symbols, rows, tokens, contexts),
    decode: () => rans.decode(coded, rows, tokens, contexts),
    "decode into an array": () => rans.decode(coded, rows, tokens, contexts, out),
    "zstd encode": () => zstd.compress(symbols, 1),
    "zstd decode": () => zstd.decompress(packed),
  });
  if (out.some((symbol, i) => symbol !== symbols[i])) throw new Error(`rANS does not give ${name} back`);
  print(`${name} (${kernels.build})`, symbols.length, best);
}
for (const path of process.argv.slice(2)) {
  const cache = await readSafetensors(await readFile(path));
  const data = new Uint8Array(KINDS.reduce((sum, kind) => sum + cache.read(kind, 0, cache.tokens).length, 0));
  let at = 0;
  for (const kind of KINDS) {
    const part = cache.read(kind, 0, cache.tokens);
    data.set(part, at);
    at += part.length;
  }
  const codec = await openCodec(null, { threads: 1 });
  const { bytes } = await codec.compress(cache);
  const packed = zstd.compress(data, 1);
  if (!(await codec.decompress(bytes)).cache.equals(cache)) throw new Error(`lossless does not give ${path} back`);
  const best = await inTurns({
    compress: () => codec.compress(cache),
    restore: () => codec.decompress(bytes),
    "zstd compress": () => zstd.compress(data, 1),
    "zstd restore": () => zstd.decompress(packed),
  });
  await codec.close();
  print(`${path} (${cache.dtype}, ${codec.info.build})`, data.length, best);
}
