/**
 * Key–value answers found, their log-probability and the KL of ordinary passages after settings of any recipe and profile,
 * all on the same prompts; and which part of a cache costs them: keys or values alone, of some layers, are taken from the
 * restored cache, the rest from the original.
 *
 *     deno run -A bench/retrieval_parts.ts --texts FILE[:BEGIN-END],… [--model models/smollm2] [--prompts 8] [--questions 4]
 *       [--windows 3] [--json rows.json] 'NAME|PROFILE.kvzp|{"step":11.2,"recent":0}|both,keys,values,keys:16-19' …
 *
 * `--questions` questions a prompt, `--prompts` prompts and `--windows` passages of each text. A profile is a path, or none.
 * `lost`: by how much the answers' log-probability is below that with the untouched cache, with its standard error over
 * the questions. `--json` writes every question and passage, for comparing settings one question at a time.
 *
 * @module
 */
import { parseTextSpec, readText } from "../cli/eval/texts.ts";
import { loadModel } from "../cli/model_input.ts";
import { castCache } from "../src/cache/cast.ts";
import { KvCache } from "../src/cache/kv_cache.ts";
import type { Kind } from "../src/cache/types.ts";
import type { Codec } from "../src/codec/codec.ts";
import { openCodec } from "../src/codec/open.ts";
import { prefill } from "../src/eval/evaluate.ts";
import { KlMeter } from "../src/eval/kl_meter.ts";
import type { LoadedCache } from "../src/eval/language_model.ts";
import { buildKeyValue, type RetrievalAnswer, scoreRetrieval } from "../src/eval/retrieval.ts";
import { loadProfile } from "../src/profile/load.ts";
import { option } from "./inputs.ts";

const CONTEXT = 1024;
const CONTINUATION = 256;
/** What of the restored cache is taken: keys, values or both, of all layers or of those from one to another. */
const PART = /^(both|keys|values)(?::(\d+)-(\d+))?$/;

/** What one setting, or a part of it, made of everything. */
interface Row {
  readonly found: boolean[];
  readonly logProbabilities: number[];
  readonly kl: number[];
  bytes: number;
}

interface Setting {
  readonly name: string;
  readonly codec: Codec;
  readonly options: Record<string, unknown>;
  readonly parts: readonly string[];
}

const texts = option("texts", "").split(",").filter((spec) => spec !== "");
const given = Deno.args.filter((arg) => arg.includes("|"));
if (texts.length === 0 || given.length === 0) {
  throw new TypeError("Cannot measure: give --texts FILE[:BEGIN-END],… and 'NAME|PROFILE|OPTIONS|PARTS' …");
}
const [prompts, questions, windows] = [["prompts", "8"], ["questions", "4"], ["windows", "3"]]
  .map(([name, otherwise]) => Number(option(name, otherwise)));
const { model } = await loadModel(option("model", "models/smollm2"));
const settings: Setting[] = [];
for (const text of given) {
  const [name, path, json, list = "both"] = text.split("|");
  const parts = list.split(",");
  const unknown = parts.find((part) => !PART.test(part));
  if (unknown !== undefined) {
    throw new TypeError(
      `Cannot measure: part "${unknown}" of ${name}, expected both, keys or values, as in keys:16-19`,
    );
  }
  const profile = path === "none" ? null : await loadProfile(await Deno.readFile(path));
  const codec = await openCodec(profile, { threads: 1, backend: "wasm" });
  settings.push({ name, codec, options: JSON.parse(json), parts });
}

const rows = new Map<string, Row>();
function rowOf(name: string): Row {
  const row = rows.get(name) ?? { found: [], logProbabilities: [], kl: [], bytes: 0 };
  rows.set(name, row);
  return row;
}

/** The restored cache where `part` says so ("keys", "values:0-5", "both"), the original elsewhere. */
function takePart(original: KvCache, restored: KvCache, part: string): KvCache {
  const [, which, from, to] = PART.exec(part)!;
  const [first, last] = from === undefined ? [0, original.model.layers - 1] : [Number(from), Number(to)];
  const take = (kind: Kind, layer: number): Uint8Array => {
    const taken = (which === "both" || which === `${kind}s`) && layer >= first && layer <= last;
    const source = taken ? restored : original;
    const heads = Array.from({ length: source.model.kvHeads }, (_, head) => source[kind](layer, head));
    const out = new Uint8Array(heads.reduce((sum, { length }) => sum + length, 0));
    heads.reduce((at, bytes) => (out.set(bytes, at), at + bytes.length), 0);
    return out;
  };
  const layers = Array.from({ length: original.model.layers }, (_, layer) => ({
    key: take("key", layer),
    value: take("value", layer),
  }));
  const { dtype, positions, inputIds } = original;
  return new KvCache({ model: original.model, dtype, positions, layers, ...(inputIds && { inputIds }) });
}

/** What every setting and part makes of a cache. */
async function* restore(cache: KvCache): AsyncGenerator<{ row: Row; past: LoadedCache; bytes: number }> {
  for (const { name, codec, options, parts } of settings) {
    const { bytes } = await codec.compress(cache, options);
    const { cache: restored } = await codec.decompress(bytes);
    for (const part of parts) {
      const past = await model.load(takePart(cache, restored, part));
      yield { row: rowOf(part === "both" ? name : `${name} ${part}`), past, bytes: bytes.length };
    }
  }
}

async function fill(ids: Int32Array): Promise<{ past: LoadedCache; cache: KvCache }> {
  const past = await prefill(model, ids);
  return { past, cache: castCache(await model.unload(past, ids), "f16") };
}

function addAnswers(row: Row, answers: readonly RetrievalAnswer[]): void {
  row.found.push(...answers.map(({ found }) => found));
  row.logProbabilities.push(...answers.map(({ logProbability }) => logProbability));
}

for (const spec of texts) {
  const text = await readText(parseTextSpec(spec));
  const ids = model.tokenize(text);
  for (let w = 0; w < windows; w++) {
    const begin = Math.floor((ids.length - CONTEXT - CONTINUATION) * w / windows);
    const { past, cache } = await fill(ids.slice(begin, begin + CONTEXT));
    const next = ids.slice(begin + CONTEXT, begin + CONTEXT + CONTINUATION);
    const meter = new KlMeter((await model.forward(next, { past })).logits, model.vocabulary);
    for await (const { row, past, bytes } of restore(cache)) {
      row.kl.push(meter.kl((await model.forward(next, { past })).logits));
      row.bytes += bytes;
    }
  }
  for (let p = 0; p < prompts; p++) {
    // The last fifth is kept for the last prompt to stand in.
    const begin = Math.floor(0.8 * text.length * p / prompts);
    const task = buildKeyValue(model, { text: text.slice(begin), context: CONTEXT, seed: 100 + p, questions });
    const { past, cache } = await fill(task.prompt);
    addAnswers(rowOf("untouched"), await scoreRetrieval(model, past, task.questions));
    for await (const { row, past } of restore(cache)) {
      addAnswers(row, await scoreRetrieval(model, past, task.questions));
    }
  }
  console.error(spec);
}

const report = option("json", "");
if (report !== "") await Deno.writeTextFile(report, `${JSON.stringify(Object.fromEntries(rows), null, 1)}\n`);
const untouched = rowOf("untouched").logProbabilities;
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
console.table([...rows].map(([setting, { found, logProbabilities, kl, bytes }]) => ({
  setting,
  "file ratio": kl.length === 0 ? "–" : (rawBytes() * kl.length / bytes).toFixed(1),
  KL: kl.length === 0 ? "–" : mean(kl).toFixed(4),
  found: `${found.filter((one) => one).length} of ${found.length}`,
  "log-probability": mean(logProbabilities).toFixed(4),
  lost: lost(logProbabilities),
})));
for (const { codec } of settings) await codec.close();
await model[Symbol.asyncDispose]();

/** Mean of what the answers lose against the untouched cache, and its standard error. */
function lost(logProbabilities: readonly number[]): string {
  const each = logProbabilities.map((value, i) => untouched[i] - value);
  const square = mean(each.map((value) => (value - mean(each)) ** 2));
  return `${mean(each).toFixed(3)} ± ${Math.sqrt(square / (each.length - 1)).toFixed(3)}`;
}

function rawBytes(): number {
  const { layers, kvHeads, keyDim, valueDim } = model.spec;
  return CONTEXT * layers * kvHeads * (keyDim + valueDim) * 2;
}
