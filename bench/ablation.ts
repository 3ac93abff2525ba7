/**
 * What each step from KVTC to recipe kvz gains: the same texts through transforms and coders that are put together one by
 * one. Results are lines as `kvz eval` keeps them, for bench/equal_kl.ts, one file a variant; the bits over the Gaussian
 * bound at the same error go to standard output.
 *
 *     deno run -A bench/ablation.ts --profile P.kvzp [--plain PLAIN.kvzp] --texts a.txt:0-9000,b.txt -o DIR
 *         [--steps 2.1,3.7,5.8] [--model models/smollm2] [--context 1536] [--continuation 512]
 *
 * PLAIN is a profile of the same caches without --sensitivity. All variants keep the oldest token in FP8, as the recipe does.
 *
 * @module
 */
import { checkHeldOut, loadTexts, parseTextSpec } from "../cli/eval/texts.ts";
import { loadModel } from "../cli/model_input.ts";
import { createBackend } from "../src/backend/select.ts";
import { mapHeads } from "../src/cache/cast.ts";
import type { KvCache } from "../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type Kind, KINDS } from "../src/cache/types.ts";
import { openCodec } from "../src/codec/open.ts";
import { evaluateText } from "../src/eval/evaluate.ts";
import type { Method, MethodOutcome } from "../src/eval/method.ts";
import { forwardMatrix } from "../src/profile/kvz/forward.ts";
import type { KvzProfile } from "../src/profile/kvz/types.ts";
import { parseProfile } from "../src/profile/profile.ts";
import { requireProfile } from "../src/profile/require.ts";
import { nearestS, stepOf } from "../src/stages/quantize/trellis/step.ts";
import { openIntegerTransform } from "../src/stages/transform/integer.ts";
import { gaussianBytes } from "./ablation/bound.ts";
import { type Chunk, type Coder, roundingCoder, trellisCoder } from "./ablation/coders.ts";
import { option } from "./inputs.ts";

const context = Number(option("context", "1536"));
const continuation = Number(option("continuation", "512"));
const steps = option("steps", "2.1,3.7,5.8").split(",").map((step) => nearestS(Number(step)));
const SINKS = 1;
const CHUNK = 512;

interface Bound {
  readonly variant: string;
  readonly s: number;
  readonly coded: number;
  readonly bound: number;
}
const bounds: Bound[] = [];

/** A transform with everything that goes with it. */
async function openVariants(profile: KvzProfile) {
  const backend = await createBackend({});
  const { model, components, basis, features, scales, mean } = profile;
  const { layers, kvHeads: heads, keyDim, valueDim, rope } = model;
  const geometry = { layers, heads, keyDim, valueDim, rope, dtype: "f16" as const };
  const forward = await forwardMatrix(profile, backend);
  const transform = await openIntegerTransform(backend, geometry, {
    components,
    basis,
    features,
    scales,
    mean,
    forward,
  });
  const codec = await openCodec(profile, { threads: 1 });
  let last: { cache: KvCache; chunks: Chunk[]; sinks: KvCache; sinkBytes: number } | null = null;

  /** Coefficients of all tokens after the sinks, and the sinks as restored; those of the last cache are kept. */
  async function project(cache: KvCache): Promise<NonNullable<typeof last>> {
    if (last?.cache === cache) return last;
    const { bytes, report: { streams } } = await codec.compress(cache, { recipe: "kvz", sinks: SINKS, step: 100 });
    const sinks = (await codec.decompress(bytes)).cache;
    const chunks: Chunk[] = [];
    for (let begin = SINKS; begin < cache.tokens; begin += CHUNK) {
      const end = Math.min(begin + CHUNK, cache.tokens);
      const sources = { key: cache.read("key", begin, end), value: cache.read("value", begin, end) };
      const ctx = { tokens: end - begin, positions: positions(begin, end), layerBegin: 0, layerEnd: layers };
      chunks.push({ tokens: end - begin, coefficients: await transform.encode(sources, ctx) });
    }
    return last = { cache, chunks, sinks, sinkBytes: streams.KSNK + streams.VSNK };
  }

  return {
    backend,
    method(variant: string, s: number, coder: Coder): Method {
      return {
        name: variant,
        setting: `step ${stepOf(s).toPrecision(3)}`,
        options: { step: stepOf(s) },
        usesProfile: false,
        async run(cache): Promise<MethodOutcome> {
          const { chunks, sinks, sinkBytes } = await project(cache);
          const coded = await coder(chunks, s);
          bounds.push({ variant, s, coded: coded.bytes, bound: gaussianBytes(chunks, coded, components, s) });
          let begin = SINKS;
          const parts: { begin: number; end: number; data: Record<Kind, Uint8Array> }[] = [];
          for (const [i, { tokens }] of chunks.entries()) {
            const end = begin + tokens;
            const levels = { levels: coded.quarters[i], scales: new Float32Array(tokens).fill(stepOf(s) / 4) };
            const ctx = { tokens, positions: positions(begin, end), layerBegin: 0, layerEnd: layers };
            const restore = (kind: Kind) => transform.decode(levels, ctx, kind);
            parts.push({ begin, end, data: { key: restore("key"), value: restore("value") } });
            begin = end;
          }
          const restored = mapHeads(sinks, {}, (head, layer, index) => {
            const out = { key: head.key.slice(), value: head.value.slice(), positions: head.positions };
            for (const kind of KINDS) {
              const row = (kind === "key" ? keyDim : valueDim) * BYTES_PER_ELEMENT.f16;
              for (const { begin, end, data } of parts) {
                const at = (layer * heads + index) * (end - begin) * row;
                out[kind].set(data[kind].subarray(at, at + (end - begin) * row), begin * row);
              }
            }
            return out;
          });
          const paper = features * 2 * cache.tokens / (sinkBytes + coded.bytes);
          return {
            cache: restored,
            ratios: { target: null, paper, file: null },
            bytes: null,
            regions: { sinks: SINKS, coded: cache.tokens - SINKS, window: 0 },
            seconds: { compress: null, restore: null },
          };
        },
      };
    },
  };
}

function positions(begin: number, end: number): Int32Array {
  return Int32Array.from({ length: end - begin }, (_, i) => begin + i);
}

async function load(path: string): Promise<KvzProfile> {
  return requireProfile(await parseProfile(await Deno.readFile(path)), "kvz");
}

const profile = await load(option("profile", "smollm2.kvzp"));
const { model } = await loadModel(option("model", "models/smollm2"));
await using _model = model;
const texts = await loadTexts(option("texts", "").split(",").map(parseTextSpec), model, context + continuation + 1, 1);
if (!checkHeldOut(texts, profile)) throw new Error("Cannot keep texts apart: the profile holds no hashes of its texts");
const methods: Method[] = [];
const plainPath = option("plain", "");
if (plainPath !== "") {
  const plain = await load(plainPath);
  const open = await openVariants(plain);
  // Its units are others: steps that give about the same bits.
  const shift = plain.finestS - profile.finestS;
  const coder = roundingCoder(plain.components);
  methods.push(...steps.map((s) => open.method("joint, plain", s + shift, coder)));
}
const open = await openVariants(profile);
const trellis = (lambda: number, prediction: boolean) => trellisCoder(open.backend, profile, { lambda, prediction });
const coders: [string, Coder][] = [
  ["joint, Fisher, rounding", roundingCoder(profile.components)],
  ["trellis, λ 0, no prediction", await trellis(0, false)],
  ["trellis, no prediction", await trellis(0.3, false)],
  ["kvz", await trellis(0.3, true)],
];
for (const [name, coder] of coders) methods.push(...steps.map((s) => open.method(name, s, coder)));

const folder = option("o", "");
if (folder !== "") await Deno.mkdir(folder, { recursive: true });
const files = new Map<string, string>();
for (const { name, ids } of texts) {
  await evaluateText(model, name, ids, {
    context,
    continuation,
    dtype: "f16",
    methods,
    onPoint: async (point) => {
      const line = JSON.stringify({ key: `${name} ${point.method} ${point.setting}`, result: point });
      files.set(point.method, `${files.get(point.method) ?? ""}${line}\n`);
      console.error(
        `${name}, ${point.method}, ${point.setting}: ${point.ratios.paper!.toFixed(1)}×, KL ${
          point.agreement.kl.toFixed(4)
        }`,
      );
      if (folder !== "") {
        const file = `${folder}/${point.method.replace(/[^a-z0-9]+/gi, "-")}.jsonl`;
        await Deno.writeTextFile(file, files.get(point.method)!);
      }
    },
  });
}
console.log("Coded bits ÷ Gaussian bound at the same weighted error (geometric means)\n");
for (const variant of new Set(bounds.map((one) => one.variant))) {
  const of = bounds.filter((one) => one.variant === variant);
  const cells = [...new Set(of.map(({ s }) => s))].map((s) => {
    const logs = of.filter((one) => one.s === s).map(({ coded, bound }) => Math.log(coded / bound));
    return `${stepOf(s).toPrecision(3)}: ${Math.exp(logs.reduce((a, b) => a + b, 0) / logs.length).toFixed(3)}`;
  });
  console.log(`${variant.padEnd(30)} ${cells.join("  ")}`);
}
