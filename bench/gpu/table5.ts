/**
 * KVTC's Table 5 point: a Mistral-NeMo-12B cache (40 layers × 8 heads × 128, keys and values p = 40,960 each, bf16), eight
 * sequences of 8K tokens, 10.74 GB in device memory, compressed to rANS streams there and restored. Contents are
 * synthetic (noise through a random basis: no dimension is easy), so that rates count, not quality. One sequence of one kind
 * is projected at a time, so that 80 GB suffice. The products alone are timed in the same run, by cuBLASLt where it is.
 *
 *     deno run -A bench/gpu/table5.ts [--backend cuda] [--model nemo-12b|llama-3.1-8b] [--components 10000,dp,8000]
 *         [--ratio 16] [--sequences 8] [--tokens 8192] [--together 8] [--layers 40] [--heads 8] [--dim 128] [--rounds 3]
 *
 * Prints a JSON line for each number of components: milliseconds for all sequences and both kinds, best of the rounds, each
 * way: all in one go, and step by step with a wait after each. A number makes a plan of exactly so many components of each
 * kind; `dp` one by the recipe's dynamic program, on SmolLM2's spectrum stretched to the model's features.
 *
 * @module
 */
import type { Backend, DeviceBuffer, QuantGroup } from "../../src/backend/backend.ts";
import { type BackendName, createBackend } from "../../src/backend/select.ts";
import { KINDS } from "../../src/cache/types.ts";
import { option } from "../inputs.ts";
import { bf16Noise, fillWith, StepClock } from "./device_data.ts";
import { deviceFacts } from "./device_facts.ts";
import { featuresOf, modelOption } from "./models.ts";
import { table5Goals } from "./table5_goals.ts";
import { describePlan, dpPlan, planBits, planOf } from "./table5_plan.ts";
import { type DeviceCaches, Table5Point } from "./table5_point.ts";
import { timeProducts } from "./table5_products.ts";

/** Elements of noise that caches repeat. */
const NOISE = 1 << 25;

const count = (name: string, standard: number) => Number(option(name, String(standard)));
const model = modelOption();
const features = featuresOf(model);
const [sequences, tokens, rounds] = [count("sequences", 8), count("tokens", 8192), count("rounds", 3)];
const ratio = count("ratio", 16);

/** Plans of keys and of values. */
async function plansOf(components: string): Promise<QuantGroup[][]> {
  if (components === "dp") return [await dpPlan("key", features, ratio), await dpPlan("value", features, ratio)];
  const kept = Number(components);
  if (!(Number.isInteger(kept) && kept > 0 && kept <= features)) {
    throw new Error(`Cannot keep ${components} of ${features} components: expected a number up to them, or dp`);
  }
  return KINDS.map(() => planOf(features, kept, ratio));
}

function makeCaches(backend: Backend): DeviceCaches {
  const elements = features * tokens;
  const noise = backend.alloc(2 * Math.min(NOISE, elements));
  backend.write(noise, bf16Noise(noise.byteLength / 2));
  const cache = (): DeviceBuffer => fillWith(backend, noise, backend.alloc(elements * 2));
  const kinds = KINDS.map(() => Array.from({ length: sequences }, cache));
  noise.free();
  return { model, tokens, kinds };
}

/** Best of the rounds in one go, and what each step takes when it is waited for. */
async function best(backend: Backend, run: (clock: StepClock) => Promise<void>) {
  let total = Infinity;
  // The first compiles.
  for (let round = 0; round <= rounds; round++) {
    const clock = new StepClock(backend, false);
    await run(clock);
    const took = await clock.total();
    if (round > 0) total = Math.min(total, took);
  }
  const clock = new StepClock(backend, true);
  await run(clock);
  await clock.total();
  return { total, steps: clock.steps };
}

async function measure(backend: Backend, caches: DeviceCaches, components: string): Promise<void> {
  const plans = await plansOf(components);
  const point = await Table5Point.open(backend, caches, plans, count("together", sequences));
  const bases = point.kinds.map(({ basis }) => basis);
  const compress = await best(backend, (clock) => point.compress(clock));
  await point.requireSame();
  const decompress = await best(backend, (clock) => point.decompress(clock));
  const products = await timeProducts(backend, bases, { tokens, sequences, rounds });
  const times = { compressMilliseconds: compress.total, decompressMilliseconds: decompress.total };
  const cacheBytes = 2 * sequences * features * tokens * 2;
  const facts = deviceFacts(backend);
  const { bytesInUse } = (backend as { device?: { bytesInUse?: number } }).device ?? {};
  console.log(JSON.stringify({
    benchmark: "table5",
    ...facts,
    backend: `${backend.name} ${backend.build}`,
    model: model.name,
    sequences,
    tokens: sequences * tokens,
    features,
    components,
    kept: point.kept,
    multiplied: bases.map((basis) => basis.components),
    plans: plans.map(describePlan),
    cacheBytes,
    deviceBytes: bytesInUse ?? null,
    together: point.together,
    ratioBeforeEntropy: plans.length * 16 * features / plans.reduce((bits, plan) => bits + planBits(plan), 0),
    ratio: cacheBytes / point.fileBytes,
    ...times,
    compressSteps: compress.steps,
    decompressSteps: decompress.steps,
    products,
    goals: table5Goals(times, products, point.kept, facts.software),
  }));
  point.free();
}

using backend = await createBackend({ backend: option("backend", "cuda") as BackendName });
const caches = makeCaches(backend);
for (const components of option("components", model.components).split(",")) {
  await measure(backend, caches, components);
}
