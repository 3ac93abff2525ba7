/**
 * Two processes, one conversation with a text: `save` evaluates it, keeps its cache as a .kvz file and quits; `restore`
 * goes on from that file without evaluating the text again.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { inspect, parseLlamaStateLayout } from "@kvz/kvz";
import { writeFileAtomically } from "@kvz/kvz/fs";
import {
  cacheTypeOf,
  formName,
  numberOf,
  openProfile,
  readFile,
  readTokens,
  run,
  SAMPLE_PROFILE,
} from "./arguments.ts";
import { type ContextForm, findModel, openRuntime, type OpenSequence, type Runtime } from "./runtime.ts";
import { compressState, giveState, restoreState, takeState } from "./session.ts";

const USAGE = `deno task save    [FILE.kvz] [--text FILE] [--prompt N] [--ratio X] [--window N] …
deno task restore [FILE.kvz] [--context N] …

  --model GGUF        default: that of deno task model, or KVZ_GGUF
  --profile KVZP      default: samples/smollm2-demo.kvzp (ratios 32 and 64)
  --tokens N          tokens to go on with, default 32
  --cache-type TYPE   f32, f16, bf16, q8_0 or q4_0; default of save: f16, of restore: as saved
  --flash-attention / --no-flash-attention   default of save: with, of restore: as saved
  --text FILE         what to read, default: the 256 tokens of samples/smollm2-256.safetensors
  --prompt N          read only the first N tokens
  --ratio X           default 32
  --window N          newest tokens kept bit-exact, default 128
  --context N         tokens of the context, default: as many as are needed`;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    model: { type: "string" },
    profile: { type: "string", default: SAMPLE_PROFILE },
    tokens: { type: "string", default: "32" },
    "cache-type": { type: "string" },
    "flash-attention": { type: "boolean" },
    text: { type: "string" },
    prompt: { type: "string" },
    ratio: { type: "string", default: "32" },
    window: { type: "string", default: "128" },
    context: { type: "string" },
    help: { type: "boolean" },
  },
});

/** Goes on greedily from the last token of the text, which the cache does not hold yet. */
async function goOn(runtime: Runtime, { sequence }: OpenSequence, last: number, tokens: number): Promise<string> {
  const written: number[] = [];
  if (tokens === 0) return '""';
  for await (const token of sequence.evaluate([last], { temperature: 0 })) {
    written.push(token);
    if (written.length >= tokens) break;
  }
  return JSON.stringify(runtime.detokenize(written));
}

function seconds(begin: number): string {
  return `${((performance.now() - begin) / 1000).toFixed(2)} s`;
}

async function save(path: string): Promise<void> {
  const options = { ratio: numberOf("ratio", flags.ratio, 1, false), window: numberOf("window", flags.window, 0) };
  const more = numberOf("tokens", flags.tokens, 0);
  const form: ContextForm = {
    cacheType: cacheTypeOf(flags["cache-type"] ?? "f16"),
    flashAttention: flags["flash-attention"] ?? true,
  };
  await using codec = await openProfile(flags.profile);
  await using runtime = await openRuntime(findModel(flags.model));
  const all = await readTokens(runtime, flags.text);
  const text = all.slice(0, flags.prompt === undefined ? all.length : numberOf("prompt", flags.prompt, 2));
  if (text.length < 2) throw new RangeError(`Cannot save: the text has ${text.length} tokens, expected at least 2`);
  await using open = await runtime.open(contextFor(text.length - 1, more), form);

  // The last token stays outside: evaluating it is what gives the first new one.
  const last = text[text.length - 1];
  let begin = performance.now();
  await open.sequence.evaluateWithoutGeneratingNewTokens(text.slice(0, -1));
  console.log(`prefill      ${text.length - 1} tokens in ${seconds(begin)} (${formName(form)})`);
  begin = performance.now();
  const state = await takeState(open);
  const { bytes, report } = await compressState(state, runtime.gguf, codec, { ...options, user: { next: last } });
  await writeFileAtomically(path, { force: true }, async (sink) => await sink.write(bytes));
  const { paperRatio, fileRatio } = report;
  const paper = paperRatio === null ? "all window" : `paper ${paperRatio.toFixed(1)}`;
  console.log(`${path}  ${bytes.length} bytes of a state of ${state.length} in ${seconds(begin)}`);
  console.log(`ratios       target ${options.ratio}, ${paper}, file ${fileRatio.toFixed(2)}`);
  console.log(`uninterrupted, it goes on: ${await goOn(runtime, open, last, more)}`);
}

async function restore(path: string): Promise<void> {
  const more = numberOf("tokens", flags.tokens, 0);
  const bytes = await readFile("file", path);
  const { tokens, header } = await inspect(bytes);
  const { llamaState, next } = header.user ?? {};
  if (llamaState === undefined || typeof next !== "number") {
    throw new TypeError(`Cannot restore ${path}: it was not made by deno task save`);
  }
  const { keyType, transposedValues } = parseLlamaStateLayout(llamaState);
  const form: ContextForm = {
    cacheType: flags["cache-type"] === undefined ? keyType : cacheTypeOf(flags["cache-type"]),
    flashAttention: flags["flash-attention"] ?? !transposedValues,
  };
  await using codec = await openProfile(flags.profile);
  await using runtime = await openRuntime(findModel(flags.model));
  await using open = await runtime.open(contextFor(tokens, more), form);
  let begin = performance.now();
  const { state } = await restoreState(bytes, runtime.gguf, open.facts, codec);
  await giveState(open, state);
  console.log(`restored     ${tokens} tokens in ${seconds(begin)} (${formName(form)}), no prefill`);
  begin = performance.now();
  const text = await goOn(runtime, open, next, more);
  console.log(`restored, it goes on: ${text}`);
  console.log(`decode       ${more} tokens in ${seconds(begin)}`);
}

/** Tokens of the context: as asked for, else those of the cache, the new ones, and one that node-llama-cpp keeps free. */
function contextFor(cached: number, more: number): number {
  const needed = cached + more + 1;
  const size = flags.context === undefined ? needed : numberOf("context", flags.context, 1);
  if (size < needed) {
    // node-llama-cpp would drop the beginning of the text.
    throw new RangeError(
      `Cannot create context: it has ${size} tokens, expected at least ${needed} (${cached} of the cache, ${more} to go on)`,
    );
  }
  return size;
}

await run(async () => {
  const [command, path = "session.kvz", ...rest] = positionals;
  if (flags.help || rest.length > 0 || (command !== "save" && command !== "restore")) {
    if (!flags.help) throw new TypeError(`Cannot run: expected save or restore and one file\n\n${USAGE}`);
    return console.log(USAGE);
  }
  await (command === "save" ? save(path) : restore(path));
});
