/**
 * The suite in Node, Bun and Deno, over the main entry of the installed package.
 *
 *     node process.js FIXTURES OUT
 *
 * @module
 */
import * as kvz from "@kvz/kvz";
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { runSuite } from "./suite.js";

const [fixtures, out] = process.argv.slice(2);
const read = async (name) => new Uint8Array(await readFile(`${fixtures}/${name}`));
const { checks, files } = await runSuite(
  kvz,
  {
    profile: await read("profile.kvzp"),
    cache: await read("cache.safetensors"),
    reference: await read("reference.kvz"),
  },
  [
    { name: "simd", options: { backend: "wasm", build: "simd", threads: 1 } },
    { name: "simd, 2 threads", options: { backend: "wasm", build: "simd", threads: 2 } },
    { name: "base", options: { backend: "wasm", build: "base", threads: 1 } },
    { name: "auto", options: {} },
  ],
);
for (const [name, bytes] of Object.entries(files)) await writeFile(`${out}/${name}`, bytes);
await writeFile(`${out}/checks.json`, JSON.stringify(checks));
