/**
 * The entropy coder on a GPU: rates of symbols, alone and as a share of copying within device memory in the same run. What
 * was encoded is decoded again and compared with the symbols, byte by byte.
 *
 *     deno run -A bench/gpu/entropy.ts cuda|webgpu [--mebibytes 1,16,64,256] [--rounds 10]     JSON lines
 *
 * Times are the device's: events around a call on CUDA, timestamps of its kernels on WebGPU. Copying is the driver's, or a
 * shader's on WebGPU, of arrays of 128 MiB or more. On a processor that plays a GPU one size, 1 MiB, is measured.
 *
 * @module
 */
import { mostBytes } from "../../src/backend/gpu/entropy.ts";
import { option } from "../inputs.ts";
import { type SymbolSet, symbolSets } from "./entropy_data.ts";
import { bestTime, copyRate, openTimed, round4 } from "./timed_device.ts";

const rounds = Number(option("rounds", "10"));
const timed = await openTimed(Deno.args[0]);
using backend = timed.backend;
const sizes = option("mebibytes", timed.software ? "1" : "1,16,64,256").split(",").map((size) =>
  Number(size) * 2 ** 20
);
const entropy = backend.gpu?.entropy ?? null;
if (entropy === null) throw new Error(`Cannot measure backend ${backend.name}: it has no entropy kernels`);
const { device, software } = timed;

async function measure({ name, rows, tokens, tile, contexts, tables }: SymbolSet, bytes: number, copy: number) {
  const streams = Math.floor(bytes / (rows * tokens));
  if (streams === 0) return;
  const batch = { streams, rows, tokens };
  const count = streams * rows * tokens;
  const onDevice = entropy!.uploadTables(tables);
  // A tile is a whole number of streams, or they of it: contexts repeat alike.
  const chosen = entropy!.uploadContexts([contexts], batch, onDevice.count);
  const [symbols, restored] = [backend.alloc(count), backend.alloc(count)];
  for (let at = 0; at < count; at += tile.length) backend.write(symbols, tile.subarray(0, count - at), at);
  const coded = backend.alloc(mostBytes(batch));
  const [begins, lengths, status] = [4, 0, 0].map((more) => backend.alloc(4 * streams + more));
  const encode = () => entropy!.encode(symbols, batch, onDevice, chosen, coded, begins, lengths);
  const decode = () => entropy!.decode(coded, begins, batch, onDevice, chosen, restored, status, lengths);
  const took = { encode: await bestTime(timed, encode, rounds), decode: await bestTime(timed, decode, rounds) };
  const words = new Uint32Array((await backend.read(lengths)).buffer);
  const total = words.reduce((sum, length) => sum + length, 0);
  const failed = new Uint32Array((await backend.read(status)).buffer).findIndex((code) => code !== 0);
  if (failed >= 0) throw new Error(`Cannot measure ${name}: stream ${failed} was not restored`);
  for (let at = 0; at < count; at += tile.length) {
    const found = await backend.read(restored, at, Math.min(tile.length, count - at));
    if (found.some((symbol, i) => symbol !== tile[i])) throw new Error(`Cannot measure ${name}: symbols differ`);
  }
  const rates = Object.entries(took).map(([way, ms]) => {
    const rate = count / ms / 1e6;
    return [way, { ms: round4(ms), gigabytesPerSecond: round4(rate), ofCopy: round4(rate / copy) }];
  });
  console.log(JSON.stringify({
    ...{ benchmark: "entropy", backend: backend.name, device, software },
    ...{ symbols: name, rows, tokens, streams, mebibytes: count / 2 ** 20, tables: onDevice.count },
    ...{ ratio: round4(count / total), ...Object.fromEntries(rates) },
  }));
  for (const it of [onDevice, chosen, symbols, restored, coded, begins, lengths, status]) it.free();
}

const copy = await copyRate(timed, Math.max(...sizes), rounds);
console.log(JSON.stringify({ benchmark: "copy", backend: backend.name, device, software, ...copy }));
for (const set of symbolSets()) {
  for (const size of sizes) await measure(set, size, copy.copyGigabytesPerSecond);
}
