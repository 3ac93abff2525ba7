/**
 * Speed of recipe kvcar at SmolLM2's size: all layers with autoencoders of D = 192, d_z = 96. The weights are random, the
 * time does not depend on them. To be held against the prefill of the same tokens (tools/bench_peer.py prefill).
 *
 *     deno run -A bench/kvcar.ts [--tokens 1024] [--threads 1] [--runs 5]
 *
 * The best of the runs each way, after one that engines compile in, and the least processor time of all threads together,
 * which other work on the machine hardly changes.
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { KvCache } from "../src/cache/kv_cache.ts";
import { fromFloat32 } from "../src/cache/elements.ts";
import { KINDS, type ModelSpec } from "../src/cache/types.ts";
import { openCodec } from "../src/codec/open.ts";
import { kvcarFingerprint } from "../src/profile/kvcar/fingerprint.ts";
import { nominalSaving } from "../src/profile/kvcar/check.ts";
import { type Autoencoder, type KvcarProfile, parameterCount } from "../src/profile/kvcar/types.ts";

const { values } = parseArgs({
  options: {
    tokens: { type: "string", default: "1024" },
    threads: { type: "string", default: "1" },
    runs: { type: "string", default: "5" },
  },
});
const [tokens, threads, runs] = [values.tokens, values.threads, values.runs].map(Number);

const model: ModelSpec = {
  architecture: "llama",
  id: "SmolLM2-135M-Instruct",
  layers: 30,
  kvHeads: 3,
  keyDim: 64,
  valueDim: 64,
  rope: { theta: 100000, dim: 64, pairing: "half-split" },
};

/** Small numbers without a pattern, cheap. */
function noise(length: number, scale: number): Float32Array {
  let state = length;
  return Float32Array.from({ length }, () => {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    return state / 2 ** 31 * scale;
  });
}

async function randomProfile(): Promise<KvcarProfile> {
  const shape = { inputs: 192, hidden: 192, latent: 96 };
  const kind = () => ({
    sources: Int32Array.from({ length: model.layers * model.kvHeads }, (_, slot) => slot),
    autoencoders: Array.from({ length: model.layers }, (_, layer): Autoencoder => {
      return { layer, ...shape, parameters: noise(parameterCount(shape), 0.1) };
    }),
  });
  const profile = {
    method: "kvcar" as const,
    model,
    calibration: { tokens: 0, sinks: 0, sequences: 0, seed: 0 },
    shingles: new BigUint64Array(0),
    preRope: false,
    slope: 0.01,
    kinds: { key: kind(), value: kind() },
  };
  return { ...profile, fingerprint: await kvcarFingerprint(profile) };
}

const layers = Array.from({ length: model.layers }, () => {
  const [key, value] = KINDS.map(() => fromFloat32(noise(model.kvHeads * tokens * 64, 2), "f16"));
  return { key, value };
});
const positions = Int32Array.from({ length: tokens }, (_, t) => t);
const cache = new KvCache({ model, dtype: "f16", positions, layers });
const profile = await randomProfile();
console.log(`${tokens} tokens, ${threads} threads, saving ${(100 * nominalSaving(profile)).toFixed(1)} %`);
await using codec = await openCodec(profile, { threads });
/** Seconds of processor time so far, of all threads. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

for (const latents of ["f16", "int8"] as const) {
  let [compress, decompress, processor, ratio] = [Infinity, Infinity, Infinity, 0];
  for (let run = 0; run <= runs; run++) {
    const begin = processorTime();
    const { bytes, report } = await codec.compress(cache, { latents });
    const back = await codec.decompress(bytes);
    ratio = report.fileRatio;
    if (run === 0) continue;
    compress = Math.min(compress, report.seconds);
    decompress = Math.min(decompress, back.report.seconds);
    processor = Math.min(processor, processorTime() - begin);
  }
  const ms = (seconds: number) => `${(1000 * seconds / tokens).toFixed(3)} ms`;
  console.log(
    `${latents}: compress ${ms(compress)} a token, decompress ${ms(decompress)}, both ` +
      `${Math.round(tokens / (compress + decompress))} tokens/s; processor time of both ${ms(processor)}, ` +
      `${Math.round(tokens / processor)} tokens a core's second; file ratio ${ratio.toFixed(3)}`,
  );
}
