/**
 * The entropy coder on a GPU: rates of symbols, alone and as a share of copying within device memory in the same run. What
 * was encoded is decoded again and compared with the symbols, byte by byte.
 *
 *     deno run -A bench/gpu/entropy.ts cuda|webgpu [--mebibytes 1,16,64,256] [--rounds 10]     JSON lines
 *
 * Times are the device's: events around a call on CUDA, timestamps of its kernels on WebGPU (copying there by the host's
 * clock, many copies at once).
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import { mostBytes } from "../../src/backend/gpu/entropy.ts";
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import { option } from "../inputs.ts";
import { type SymbolSet, symbolSets } from "./entropy_data.ts";

/** A backend with its clock: milliseconds of enqueued work. */
interface Timed {
  readonly backend: Backend;
  readonly device: string;
  readonly time: (enqueue: () => void) => Promise<number>;
  readonly timeCopy: (enqueue: () => void) => Promise<number>;
}

async function openTimed(name: string): Promise<Timed> {
  if (name === "cuda") {
    const backend = await CudaBackend.open();
    const time = (enqueue: () => void) => backend.device.time(enqueue);
    return { backend, device: backend.device.facts.name, time, timeCopy: time };
  }
  if (name !== "webgpu") throw new Error(`Cannot measure backend ${name}: expected cuda or webgpu`);
  const backend = await createWebGpuBackend({ timeKernels: true });
  const word = backend.alloc(16);
  const time = async (enqueue: () => void) => {
    await backend.profile();
    enqueue();
    const kernels = await backend.profile();
    return kernels.reduce((sum, { nanoseconds }) => sum + nanoseconds, 0) / 1e6;
  };
  const timeCopy = async (enqueue: () => void) => {
    const many = 10;
    await backend.read(word, 0, 4);
    const begin = performance.now();
    for (let i = 0; i < many; i++) enqueue();
    await backend.read(word, 0, 4);
    return (performance.now() - begin) / many;
  };
  return { backend, device: backend.adapter, time, timeCopy };
}

const rounds = Number(option("rounds", "10"));
const sizes = option("mebibytes", "1,16,64,256").split(",").map((size) => Number(size) * 2 ** 20);
const timed = await openTimed(Deno.args[0]);
using backend = timed.backend;
const entropy = backend.gpu?.entropy ?? null;
if (entropy === null) throw new Error(`Cannot measure backend ${backend.name}: it has no entropy kernels`);

async function best(time: Timed["time"], enqueue: () => void): Promise<number> {
  let least = Infinity;
  // The first compiles.
  for (let round = 0; round <= rounds; round++) {
    const took = await time(enqueue);
    if (round > 0) least = Math.min(least, took);
  }
  return least;
}

/** GB/s of bytes read and written. */
async function copyRate(): Promise<number> {
  const bytes = Math.max(...sizes);
  const [from, to] = [backend.alloc(bytes), backend.alloc(bytes)];
  const took = await best(timed.timeCopy, () => backend.copy(from, 0, to, 0, bytes));
  from.free(), to.free();
  return 2 * bytes / took / 1e6;
}

function round3(x: number): number {
  return Number(x.toPrecision(4));
}

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
  const took = { encode: await best(timed.time, encode), decode: await best(timed.time, decode) };
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
    return [way, { ms: round3(ms), gigabytesPerSecond: round3(rate), ofCopy: round3(rate / copy) }];
  });
  console.log(JSON.stringify({
    ...{ symbols: name, rows, tokens, streams, mebibytes: count / 2 ** 20, tables: onDevice.count },
    ...{ ratio: round3(count / total), ...Object.fromEntries(rates) },
  }));
  for (const it of [onDevice, chosen, symbols, restored, coded, begins, lengths, status]) it.free();
}

const copy = await copyRate();
console.log(JSON.stringify({ backend: backend.name, device: timed.device, copyGigabytesPerSecond: round3(copy) }));
for (const set of symbolSets()) {
  for (const size of sizes) await measure(set, size, copy);
}
