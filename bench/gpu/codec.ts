/**
 * Whole calls of the library on caches in device memory: `codec.compress` and `decompressOnDevice` with recipes kvtc (rANS)
 * and kvz, beside what their kernels take by the device's clock. What is over is the recipe's own: side information, tables,
 * packing and DEFLATE on the host, copies and waits.
 *
 *     deno run -A bench/gpu/codec.ts cuda|webgpu [--model nemo-12b] [--layers 8] [--heads 8] [--dim 128] [--tokens 2048]
 *         [--components 2048] [--kvz-components 512] [--ratio 16] [--rounds 2] [--recipes kvtc,kvz]     JSON lines
 *
 * Profile and cache are synthetic (codec_data.ts); kernels are timed in a run of their own. `error` is that of the first
 * layer's keys, relative to their spread.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import type { KernelTime } from "../../src/backend/gpu/kernel_time.ts";
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import { f16ToNumber } from "../../src/cache/elements.ts";
import { Codec } from "../../src/codec/codec.ts";
import { type DeviceCache, memoryOf } from "../../src/codec/device_cache.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { flag, option } from "../inputs.ts";
import { syntheticDeviceCache, syntheticKvtc, syntheticKvz, type SyntheticModel } from "./codec_data.ts";
import { deviceFacts } from "./device_facts.ts";
import { modelOption } from "./models.ts";
import { round4 } from "./timed_device.ts";

/** Layers unless `--layers` says otherwise: the dynamic program of a whole model takes half a minute. */
const LAYERS = 8;
/** Kernels that are listed, those that take longest. */
const LISTED = 6;

const name = Deno.args[0];
if (name !== "cuda" && name !== "webgpu") throw new Error("Cannot run: the first argument is cuda or webgpu");
const number = (key: string, otherwise: number) => Number(option(key, String(otherwise)));
const model = { ...modelOption(), ...(flag("layers") ? {} : { layers: LAYERS }) };
const [tokens, rounds] = [number("tokens", 2048), number("rounds", 2)];

type Profiled = Backend & { profile(): Promise<KernelTime[]> };

async function open(timeKernels: boolean): Promise<Profiled> {
  return name === "cuda" ? await CudaBackend.open(0, { timeKernels }) : await createWebGpuBackend({ timeKernels });
}

/** A codec that works on a backend known here; the setup of kvz opens one more for a while. */
async function codecOn(backend: Profiled, { profile }: SyntheticModel): Promise<Codec> {
  let given = false;
  const take = async () => {
    if (given) return await open(false);
    given = true;
    return backend;
  };
  return new Codec(profile, await Lanes.open({}, take));
}

/** Milliseconds of calls on a cache, best of the rounds after one that uploads and compiles. */
async function calls(of: SyntheticModel, options: Record<string, unknown>) {
  const backend = await open(false);
  await using codec = await codecOn(backend, of);
  const { cache, free } = syntheticDeviceCache(backend, of, tokens);
  let [compress, restore, first] = [Infinity, Infinity, 0];
  let [error, fileRatio] = [NaN, NaN];
  for (let round = 0; round <= rounds; round++) {
    const begin = performance.now();
    const { bytes, report } = await codec.compress(cache, options);
    const middle = performance.now();
    const back = await codec.decompressOnDevice(bytes);
    const end = performance.now();
    if (round === 0) {
      first = middle - begin;
      fileRatio = report.fileRatio;
      error = await relativeError(backend, cache, back.cache);
    } else {
      compress = Math.min(compress, middle - begin);
      restore = Math.min(restore, end - middle);
    }
    back.free();
  }
  free();
  return { compress, restore, first, error, fileRatio, facts: deviceFacts(backend), build: backend.build };
}

/** Milliseconds of kernels of one call each way, after one that uploads and compiles. */
async function kernels(of: SyntheticModel, options: Record<string, unknown>) {
  const backend = await open(true);
  await using codec = await codecOn(backend, of);
  const { cache, free } = syntheticDeviceCache(backend, of, tokens);
  const { bytes } = await codec.compress(cache, options);
  (await codec.decompressOnDevice(bytes)).free();
  await backend.profile();
  await codec.compress(cache, options);
  const compress = await backend.profile();
  (await codec.decompressOnDevice(bytes)).free();
  const restore = await backend.profile();
  free();
  return { compress, restore };
}

function summary(times: readonly KernelTime[]) {
  const sum = times.reduce((all, { nanoseconds }) => all + nanoseconds, 0) / 1e6;
  const longest = times.slice(0, LISTED).map(({ kernel, nanoseconds }) => [kernel, round4(nanoseconds / 1e6)]);
  return { milliseconds: round4(sum), longest: Object.fromEntries(longest) };
}

async function relativeError(backend: Backend, a: DeviceCache, b: DeviceCache): Promise<number> {
  const length = model.heads * tokens * model.dim * 2;
  const [x, y] = await Promise.all([a, b].map(async ({ layers }) => {
    const bytes = await backend.read(memoryOf(backend).wrap(layers[0].key.memory, 0, length), 0, length);
    return new Uint16Array(bytes.buffer, bytes.byteOffset, length / 2);
  }));
  let [lost, all] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    const value = f16ToNumber(x[i]);
    lost += (value - f16ToNumber(y[i])) ** 2;
    all += value * value;
  }
  return Math.sqrt(lost / all);
}

const recipes: Record<string, () => Promise<[SyntheticModel, Record<string, unknown>]>> = {
  kvtc: async () => [
    await syntheticKvtc(model, number("components", 2048)),
    { recipe: "kvtc", ratio: number("ratio", 16), entropy: "rans" },
  ],
  kvz: () => Promise.resolve([syntheticKvz(model, number("kvz-components", 512)), { recipe: "kvz" }]),
};

for (const recipe of option("recipes", "kvtc,kvz").split(",")) {
  const [of, options] = await recipes[recipe]();
  const whole = await calls(of, options);
  const alone = await kernels(of, options);
  const way = (milliseconds: number, times: readonly KernelTime[]) => {
    const own = summary(times);
    return {
      milliseconds: round4(milliseconds),
      tokensPerSecond: Math.round(tokens / milliseconds * 1e3),
      kernelMilliseconds: own.milliseconds,
      kernelShare: round4(own.milliseconds / milliseconds),
      kernels: own.longest,
    };
  };
  console.log(JSON.stringify({
    ...{ benchmark: "codec", ...whole.facts, backend: `${name} ${whole.build}`, recipe, model: model.name },
    ...{ layers: model.layers, heads: model.heads, dim: model.dim, tokens },
    ...{ components: of.variances[0].length, fileRatio: round4(whole.fileRatio), error: round4(whole.error) },
    firstMilliseconds: round4(whole.first),
    compress: way(whole.compress, alone.compress),
    restore: way(whole.restore, alone.restore),
  }));
}
