/**
 * Recipe lossless against general and float compressors, one core each: the bytes of all keys and values of a cache.
 * kvz's coder is timed by itself (streams of 1024-token chunks in memory) and as a file (DEFLATE of contexts, checksums,
 * container), each the best of N runs, zstd in WebAssembly in turns with them.
 *
 *     deno run -A --no-lock --v8-flags=--expose-gc bench/lossless.ts [CACHE.safetensors …] [--runs 10] [--python python3]
 *
 * With --expose-gc garbage is collected before each call: a call does not pay for what the one before it left, which are
 * tens of megabytes outside the engine's heap. Without it the calls that come after zstd's do.
 *
 * Peers that are not there are left out by name: zstd (command), @bokuweb/zstd-wasm (npm), ZipNN (PyPI, in the Python
 * named; bench/lossless_zipnn.py). Of those in this process also the least processor time of all threads together, which
 * other work on the machine changes less.
 *
 * @module
 */
import process from "node:process";
import { readSafetensors } from "../src/adapters/safetensors.ts";
import type { KvCache } from "../src/cache/kv_cache.ts";
import { KINDS } from "../src/cache/types.ts";
import { openCodec } from "../src/codec/open.ts";
import { WasmLossless } from "../src/backend/wasm/lossless_kernels.ts";
import { WasmRans } from "../src/stages/entropy/rans.ts";
import { LosslessCoder } from "../src/stages/lossless/coder.ts";
import type { LosslessStreams } from "../src/stages/lossless/streams.ts";
import { elementBytes, headsOf, ropeTurns } from "../src/stages/lossless/shape.ts";
import { option } from "./inputs.ts";

const CHUNK = 1024;
const RUNS = Number(option("runs", "10"));
const PYTHON = option("python", "python3");
const files = Deno.args.filter((arg, i) => !arg.startsWith("--") && !Deno.args[i - 1]?.startsWith("--"));

interface Row {
  readonly name: string;
  readonly bytes: number;
  /** Milliseconds; NaN where not measured. */
  compress: number;
  restore: number;
  /** Milliseconds of processor time. */
  compressProcessor?: number;
  restoreProcessor?: number;
}

interface ZstdWasm {
  init(): Promise<void>;
  compress(bytes: Uint8Array, level: number): Uint8Array;
  decompress(bytes: Uint8Array): Uint8Array;
}

/** Not among this project's imports: it is there for the comparison alone. */
async function loadZstd(): Promise<ZstdWasm | null> {
  const name = "npm:@bokuweb/zstd-wasm@0.0.27";
  try {
    const zstd: ZstdWasm = await import(name);
    await zstd.init();
    return zstd;
  } catch (error) {
    console.log(`${name} is left out: ${(error as Error).message}`);
    return null;
  }
}

/** Milliseconds of processor time so far, of all threads. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Collects garbage, where the engine shows how. */
const collect: () => void = (globalThis as { gc?: () => void }).gc ?? (() => {});

/** Milliseconds of a call, and of processor time. */
async function measured(call: () => unknown): Promise<[number, number]> {
  collect();
  const [begin, beginProcessor] = [performance.now(), processorTime()];
  await call();
  return [performance.now() - begin, processorTime() - beginProcessor];
}

async function time(row: Row, compress: () => unknown, restore: () => unknown): Promise<void> {
  const [compressed, compressProcessor] = await measured(compress);
  const [restored, restoreProcessor] = await measured(restore);
  row.compress = Math.min(row.compress, compressed);
  row.restore = Math.min(row.restore, restored);
  row.compressProcessor = Math.min(row.compressProcessor ?? Infinity, compressProcessor);
  row.restoreProcessor = Math.min(row.restoreProcessor ?? Infinity, restoreProcessor);
}

/** The coder's chunks of a cache, as lanes run them. */
async function coderJobs(cache: KvCache) {
  const kernels = await WasmLossless.open();
  const { layers, kvHeads, keyDim, valueDim, rope } = cache.model;
  const jobs = [];
  for (const kind of KINDS) {
    const turns = kind === "key" && rope !== null ? ropeTurns(rope) : new Uint32Array(0);
    const shape = { blocks: layers * kvHeads, dim: kind === "key" ? keyDim : valueDim, dtype: cache.dtype, turns };
    const coder = new LosslessCoder(kernels, (tables) => new WasmRans(kernels, tables), shape);
    for (let begin = 0; begin < cache.tokens; begin += CHUNK) {
      const end = Math.min(begin + CHUNK, cache.tokens);
      jobs.push({
        coder,
        heads: cache.views(kind, begin, end),
        tokens: end - begin,
        positions: cache.positions.slice(begin, end),
      });
    }
  }
  return jobs;
}

async function inProcess(cache: KvCache, data: Uint8Array, zstd: ZstdWasm | null): Promise<Row[]> {
  const jobs = await coderJobs(cache);
  await using codec = await openCodec(null, { threads: 1 });
  const row = (name: string, bytes: number): Row => ({ name, bytes, compress: Infinity, restore: Infinity });
  const encode = async () => {
    const coded: LosslessStreams[] = [];
    for (const { coder, heads, tokens, positions } of jobs) coded.push(await coder.encode(heads, tokens, positions));
    return coded;
  };
  const decode = async (coded: readonly LosslessStreams[]) => {
    for (const [j, { coder, tokens, positions }] of jobs.entries()) {
      const { shape } = coder;
      const heads = headsOf(new Uint8Array(elementBytes(shape, tokens)), shape.blocks);
      await coder.decode(coded[j], tokens, positions, 0, heads);
    }
  };
  const streams = await encode();
  const { bytes } = await codec.compress(cache, { tokenIds: false });
  const coder = row(
    "kvz, coder",
    streams.reduce((sum, parts) => sum + Object.values(parts).reduce((n, { length }) => n + length, 0), 0),
  );
  const file = row("kvz, file", bytes.length);
  const packed = zstd?.compress(data, 1);
  const peer = row("zstd-wasm 1", packed?.length ?? 0);
  for (let i = 0; i < RUNS; i++) {
    await time(coder, encode, () => decode(streams));
    if (zstd) await time(peer, () => zstd.compress(data, 1), () => zstd.decompress(packed!));
    await time(file, () => codec.compress(cache, { tokenIds: false }), () => codec.decompress(bytes));
  }
  return zstd ? [coder, file, peer] : [coder, file];
}

async function run(command: string, args: string[]): Promise<string | null> {
  try {
    const { success, stdout, stderr } = await new Deno.Command(command, { args, stdout: "piped", stderr: "piped" })
      .output();
    if (success) return new TextDecoder().decode(stdout);
    console.log(`${command} is left out: ${new TextDecoder().decode(stderr).trim().split("\n").at(-1)}`);
  } catch (error) {
    console.log(`${command} is left out: ${(error as Error).message}`);
  }
  return null;
}

async function outside(path: string, dtype: string, bytes: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const level of [1, 3, 19]) {
    const text = await run("zstd", ["-q", `-b${level}`, `-e${level}`, "-i2", path]);
    const [, size, compress, restore] = /(\d+) \([\d.]+\),?\s+([\d.]+) MB\/s,?\s+([\d.]+) MB\/s/.exec(text ?? "") ?? [];
    if (size === undefined) continue;
    const ms = (rate: string) => bytes / Number(rate) / 1e3;
    rows.push({ name: `zstd -${level}`, bytes: Number(size), compress: ms(compress), restore: ms(restore) });
  }
  const script = new URL("lossless_zipnn.py", import.meta.url).pathname;
  const text = await run(PYTHON, [script, path, dtype, `${RUNS}`]);
  if (text !== null) rows.push({ name: "ZipNN", ...JSON.parse(text) });
  return rows;
}

const zstd = await loadZstd();
for (const path of files.length > 0 ? files : ["samples/smollm2-256.safetensors"]) {
  const cache = await readSafetensors(await Deno.readFile(path));
  const parts = KINDS.map((kind) => cache.read(kind, 0, cache.tokens));
  const data = new Uint8Array(parts[0].length + parts[1].length);
  data.set(parts[0]);
  data.set(parts[1], parts[0].length);
  const raw = await Deno.makeTempFile();
  try {
    await Deno.writeFile(raw, data);
    const rows = [...await inProcess(cache, data, zstd), ...await outside(raw, cache.dtype, data.length)];
    console.log(`\n${path}: ${cache.tokens} tokens, ${cache.dtype}, ${data.length} bytes`);
    console.log(
      "| coder | ratio | compress, MB/s | restore, MB/s | by processor time | times zstd-wasm |\n" +
        "| --- | --- | --- | --- | --- | --- |",
    );
    for (const { name, bytes, compress, restore, compressProcessor = NaN, restoreProcessor = NaN } of rows) {
      const rate = (ms: number) => Number.isFinite(ms) ? (data.length / ms / 1e3).toFixed(0) : "";
      const processor = `${rate(compressProcessor)} / ${rate(restoreProcessor)}`;
      const peer = rows.find((row) => row.name.startsWith("zstd-wasm"));
      const times = peer === undefined
        ? ""
        : `${(peer.compress / compress).toFixed(2)} / ${(peer.restore / restore).toFixed(2)}`;
      const ratio = (data.length / bytes).toFixed(4);
      console.log(`| ${name} | ${ratio} | ${rate(compress)} | ${rate(restore)} | ${processor} | ${times} |`);
    }
  } finally {
    await Deno.remove(raw);
  }
}
