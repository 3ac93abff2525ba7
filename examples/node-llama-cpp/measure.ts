/**
 * What a restored cache does to llama.cpp's predictions: KL divergence, agreement of the most likely token and
 * perplexity against the uninterrupted sequence, for every form of the cache.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { numberOf, openProfile, readTokens, run, SAMPLE_PROFILE } from "./arguments.ts";
import { findModel, openRuntime } from "./runtime.ts";
import { type FormResult, FORMS, measureForm } from "./measure_form.ts";
import { formatMeasurement } from "./measure_text.ts";

const USAGE = `deno task measure [--text FILE] [--prompt N] [--follow N] [--ratio X]… [--window N] [--json]

  --text FILE    default: the 256 tokens of samples/smollm2-256.safetensors
  --skip N       leave out the first N tokens of the text, default 0
  --prompt N     tokens in the cache, default 512 (192 without --text)
  --follow N     given tokens that are evaluated after it, default 128 (63 without --text)
  --ratio X      may be given several times, default 32
  --window N     newest tokens kept bit-exact, default 128 (32 without --text)
  --profile KVZP default: samples/smollm2-demo.kvzp (ratios 32 and 64)
  --model GGUF   default: that of deno task model, or KVZ_GGUF
  --json         one JSON object`;

const { values: flags } = parseArgs({
  options: {
    text: { type: "string" },
    skip: { type: "string", default: "0" },
    prompt: { type: "string" },
    follow: { type: "string" },
    ratio: { type: "string", multiple: true, default: ["32"] },
    window: { type: "string" },
    profile: { type: "string", default: SAMPLE_PROFILE },
    model: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean" },
  },
});

async function measure(): Promise<void> {
  // The sample is short: with the usual window next to nothing of it would be coded.
  const defaults = flags.text === undefined ? ["192", "63", "32"] : ["512", "128", "128"];
  const prompt = numberOf("prompt", flags.prompt ?? defaults[0], 1);
  const follow = numberOf("follow", flags.follow ?? defaults[1], 1);
  const window = numberOf("window", flags.window ?? defaults[2], 0);
  const skip = numberOf("skip", flags.skip, 0);
  const ratios = flags.ratio.map((ratio) => numberOf("ratio", ratio, 1, false));
  await using codec = await openProfile(flags.profile);
  await using runtime = await openRuntime(findModel(flags.model));
  const all = await readTokens(runtime, flags.text);
  const needed = prompt + follow + 1; // the last row of logits predicts one token more
  if (all.length < skip + needed) {
    throw new RangeError(`Cannot measure: the text has ${all.length} tokens, expected at least ${skip + needed}`);
  }
  const task = { tokens: all.slice(skip, skip + needed), prompt, ratios, window };
  const forms: FormResult[] = [];
  let first: Float32Array | undefined;
  for (const form of FORMS) {
    if (!flags.json) {
      console.error(`measuring ${form.cacheType}, flash attention ${form.flashAttention ? "on" : "off"}`);
    }
    const { result, logits } = await measureForm(runtime, codec, form, task, first);
    forms.push(result);
    first ??= logits;
  }
  const result = {
    model: runtime.gguf.name ?? null,
    text: flags.text ?? "samples/smollm2-256.safetensors",
    skip,
    prompt,
    follow,
    window,
    profile: flags.profile,
    backend: codec.info,
    forms,
  };
  console.log(flags.json ? JSON.stringify(result) : formatMeasurement(result));
}

await run(async () => {
  if (flags.help) return console.log(USAGE);
  await measure();
});
