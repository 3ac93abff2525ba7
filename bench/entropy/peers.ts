/**
 * Other coders of bytes: node:zlib, fflate, @bokuweb/zstd-wasm (put into .cache/bench by npm), and, where the machine has
 * a C compiler and libhtscodecs-dev, htscodecs natively.
 *
 * @module
 */
import { deflateSync, inflateSync } from "fflate";
import { createRequire } from "node:module";
import { deflateRawSync, inflateRawSync } from "node:zlib";

/** A coder in this process. */
export interface Peer {
  readonly name: string;
  encode(data: Uint8Array): Uint8Array;
  decode(bytes: Uint8Array): Uint8Array;
}

/** What a coder in a process of its own measured. */
export interface NativeRow {
  readonly name: string;
  readonly bytes: number;
  /** MB/s of symbols. */
  readonly encode: number;
  readonly decode: number;
}

const FOLDER = new URL("../../.cache/bench/", import.meta.url);
const ZSTD = "@bokuweb/zstd-wasm";
const ZSTD_VERSION = "0.0.27";

/** The coders of this process. */
export async function openPeers(): Promise<Peer[]> {
  const zstd = await loadZstd();
  return [
    { name: `${ZSTD} 1`, encode: (data) => zstd.compress(data, 1), decode: (bytes) => zstd.decompress(bytes) },
    {
      name: "node:zlib 1",
      encode: (data) => deflateRawSync(data, { level: 1 }),
      decode: (bytes) => inflateRawSync(bytes),
    },
    {
      name: "node:zlib 6",
      encode: (data) => deflateRawSync(data, { level: 6 }),
      decode: (bytes) => inflateRawSync(bytes),
    },
    { name: "fflate 1", encode: (data) => deflateSync(data, { level: 1 }), decode: (bytes) => inflateSync(bytes) },
  ];
}

interface Zstd {
  init(): Promise<void>;
  compress(data: Uint8Array, level: number): Uint8Array;
  decompress(bytes: Uint8Array): Uint8Array;
}

async function loadZstd(): Promise<Zstd> {
  const require = createRequire(new URL("peers.js", FOLDER));
  try {
    require.resolve(ZSTD);
  } catch {
    await Deno.mkdir(FOLDER, { recursive: true });
    await run("npm", "install", "--no-audit", "--no-fund", "--prefix", FOLDER.pathname, `${ZSTD}@${ZSTD_VERSION}`);
  }
  const zstd = require(ZSTD) as Zstd;
  await zstd.init();
  return zstd;
}

/** htscodecs' rANS Nx16 of order 0 on the data, built and run natively; null where that is not possible. */
export async function runHtscodecs(data: Uint8Array, rounds: number): Promise<NativeRow[] | null> {
  await Deno.mkdir(FOLDER, { recursive: true });
  const [program, input] = [new URL("htscodecs", FOLDER).pathname, new URL("htscodecs.in", FOLDER).pathname];
  await Deno.writeFile(input, data);
  try {
    const source = new URL("htscodecs.c", import.meta.url).pathname;
    await run("cc", "-O3", "-o", program, source, "-lhtscodecs");
  } catch {
    return null;
  }
  return JSON.parse(await run(program, input, String(rounds)));
}

/** Output of a program. @throws {Error} when it fails. */
async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
  if (!success) throw new Error(`Cannot run ${program}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}
