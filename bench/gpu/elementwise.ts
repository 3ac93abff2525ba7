/**
 * Kernels without products on a GPU: rates of bytes read and written, as a share of copying in the same run. On CUDA the
 * driver copies, on WebGPU a shader.
 *
 *     deno run -A bench/gpu/elementwise.ts cuda|webgpu [--mebibytes 64] [--rounds 10]     JSON lines
 *
 * So many mebibytes are the codes, a byte each; the same elements take twice that as binary16 and four times as binary32, so
 * that on hardware no array stays in the caches. On a processor that plays a GPU it is 1.
 *
 * @module
 */
import { Scratch } from "../../src/stages/scratch.ts";
import { option } from "../inputs.ts";
import { elementwiseCases } from "./elementwise_cases.ts";
import { bestTime, copyRate, openTimed, round4 } from "./timed_device.ts";

const rounds = Number(option("rounds", "10"));
const timed = await openTimed(Deno.args[0]);
using backend = timed.backend;
const { device, software } = timed;
const elements = Number(option("mebibytes", software ? "1" : "64")) * 2 ** 20;

const copy = await copyRate(timed, elements, rounds);
const facts = { backend: backend.name, device, software };
console.log(JSON.stringify({ benchmark: "copy", ...facts, ...copy }));
const scratch = new Scratch(backend);
for (const { kernel, bytes, run } of elementwiseCases(backend, scratch, elements, timed.mostBound)) {
  const ms = await bestTime(timed, run, rounds);
  const rate = bytes / ms / 1e6;
  console.log(JSON.stringify({
    ...{ benchmark: "elementwise", ...facts, kernel },
    ...{ mebibytes: round4(bytes / 2 ** 20), ms: round4(ms) },
    ...{ gigabytesPerSecond: round4(rate), ofCopy: round4(rate / copy.copyGigabytesPerSecond) },
  }));
}
scratch.free();
