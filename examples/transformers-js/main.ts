/**
 * A chat in the terminal whose cache outlives the process: save it as .kvz, quit, restore it, go on without prefill.
 * Lines come from the keyboard or a pipe.
 *
 *     deno run -A main.ts [--model FOLDER] [--profile FILE] [--max-tokens N]
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Codec, loadProfile, openCodec } from "@kvz/kvz";
import { loadRuntime } from "./runtime.ts";
import { HELP, Session } from "./session.ts";

const SAMPLE_PROFILE = fileURLToPath(new URL("../../samples/smollm2-demo.kvzp", import.meta.url));

const USAGE = `Usage: main.ts [options]

  --model FOLDER    folder of a Transformers.js model, or a name on the hub (default: models/smollm2)
  --profile FILE    profile of the model (default: the sample of SmolLM2, for the ratios 32 and 64)
  --max-tokens N    most tokens of an answer (default: 128)

${HELP}`;

function write(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

function report(error: unknown): void {
  const { name, message, stack } = error as Error;
  console.error(Deno.env.get("KVZ_DEBUG") ? stack : `${name}: ${message}`);
}

async function openProfile(path: string): Promise<Codec> {
  const bytes = await Deno.readFile(path).catch((cause) => {
    throw new Error(`Cannot read profile ${path}: ${cause.message}`, { cause });
  });
  // Each thread holds the basis (36 MB for SmolLM2 at 16×).
  return await openCodec(await loadProfile(bytes), { threads: Math.min(4, navigator.hardwareConcurrency) });
}

function width(): number {
  return Deno.stdout.isTerminal() ? Math.min(Deno.consoleSize().columns, 160) : 100;
}

/** Answers lines until /quit or the end of input; false when one of them failed. */
async function chat(args: string[]): Promise<boolean> {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: "string" },
      profile: { type: "string", default: SAMPLE_PROFILE },
      "max-tokens": { type: "string", default: "128" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return true;
  }
  const maxNewTokens = Number(values["max-tokens"]);
  if (!(Number.isInteger(maxNewTokens) && maxNewTokens >= 1)) {
    throw new RangeError(`Cannot use option --max-tokens: ${values["max-tokens"]} is no whole number of at least 1`);
  }
  const codec = await openProfile(values.profile);
  const begin = performance.now();
  const runtime = await loadRuntime(values.model);
  write(`${runtime.name} loaded in ${((performance.now() - begin) / 1000).toFixed(1)} s. /help lists the commands.\n`);
  const session = new Session({ runtime, codec, maxNewTokens, width: width(), write });

  const keyboard = Deno.stdin.isTerminal();
  const lines = createInterface({ input: process.stdin, ...(keyboard ? { output: process.stdout } : {}) });
  lines.setPrompt("> ");
  let good = true;
  if (keyboard) lines.prompt();
  for await (const line of lines) {
    if (!keyboard) write(`> ${line}\n`);
    try {
      if (!await session.handle(line)) break;
    } catch (error) {
      report(error);
      good = false;
    }
    if (keyboard) lines.prompt();
  }
  lines.close();
  // At a keyboard the person has seen the errors and gone on.
  return good || keyboard;
}

const good = await chat(Deno.args).catch((error) => {
  report(error);
  return false;
});
Deno.exit(good ? 0 : 1); // onnxruntime keeps threads of its own
