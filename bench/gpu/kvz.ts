/**
 * Recipe kvz on a GPU, step by step: milliseconds and tokens/s of every kernel family for chunks that lie on the device,
 * synthetic coefficients and bases of a given geometry. What was encoded is decoded again and compared.
 *
 *     deno run -A bench/gpu/kvz.ts cuda|webgpu [--model nemo-12b|llama-3.1-8b] [--features 81920] [--components 2000]
 *         [--tokens 65536] [--chunk 256] [--batch 16384] [--rounds 5] [--only trellis]     JSON lines
 *     deno run -A bench/gpu/kvz.ts cuda --profile samples/smollm2-kvz.kvzp --cache samples/smollm2-256.safetensors
 *         [--repeat 32]
 *
 * `features` are those of keys and values together, half each, of heads of 128, by default the model's; several numbers of
 * components follow each other (`--components 1000,2000`). `batch` tokens are projected and multiplied at once. `--only
 * trellis` leaves both out.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { type BackendName, createBackend } from "../../src/backend/select.ts";
import { flag, option } from "../inputs.ts";
import { deviceFacts } from "./device_facts.ts";
import { benchSample } from "./kvz_sample.ts";
import { KvzSteps } from "./kvz_steps.ts";
import { featuresOf, modelOption } from "./models.ts";

const name = Deno.args[0];
if (name !== "cuda" && name !== "webgpu") throw new Error("Cannot run: the first argument is cuda or webgpu");
const number = (key: string, otherwise: number) => Number(option(key, String(otherwise)));
const rounds = number("rounds", 5);

/** Milliseconds of enqueued work: by the device's clock where it tells, else the host's. */
async function timed(backend: Backend, enqueue: () => void): Promise<number> {
  const { device } = backend as unknown as { device?: { time?(enqueue: () => void): Promise<number> } };
  if (device?.time !== undefined) return await device.time(enqueue);
  const word = backend.alloc(16);
  await backend.read(word, 0, 4);
  const begin = performance.now();
  enqueue();
  await backend.read(word, 0, 4);
  word.free();
  return performance.now() - begin;
}

/** Every step at one number of components, on a backend of its own, whose memory ends with it. */
async function measure(components: number): Promise<void> {
  using backend = await createBackend({ backend: name as BackendName });
  const geometry = {
    features: number("features", 2 * featuresOf(modelOption())),
    components,
    tokens: number("tokens", 65536),
    chunk: number("chunk", 256),
    batch: number("batch", 16384),
    products: option("only", "") !== "trellis",
  };
  const steps = await KvzSteps.open(backend, geometry);
  let [encode, decode] = [0, 0];
  for (const { name: step, way, run } of steps.list) {
    await timed(backend, run);
    let best = Infinity;
    for (let round = 0; round < rounds; round++) best = Math.min(best, await timed(backend, run));
    if (way === "encode") encode += best;
    else decode += best;
    console.log(
      JSON.stringify({ step, way, ms: round3(best), tokensPerSecond: Math.round(geometry.tokens / best * 1e3) }),
    );
  }
  await steps.requireSame();
  const { build } = backend;
  const rate = (ms: number) => ({ ms: round3(ms), tokensPerSecond: Math.round(geometry.tokens / ms * 1e3) });
  console.log(JSON.stringify({
    ...{ benchmark: "kvz", ...deviceFacts(backend), backend: name, build, ...geometry },
    ...{ encode: rate(encode), decode: rate(decode), ...steps.facts },
  }));
}

if (flag("profile")) {
  await benchSample(
    name,
    option("profile", ""),
    option("cache", "samples/smollm2-256.safetensors"),
    rounds,
    number("repeat", 32),
  );
} else {
  for (const components of option("components", "2000").split(",")) await measure(Number(components));
}

function round3(value: number): number {
  return Number(value.toPrecision(4));
}
