/**
 * Language models for commands: a folder or a hub name, loaded by Transformers.js, which the user installs beside kvz.
 *
 * @module
 */
import { createRequire } from "node:module";
import { access, stat } from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { OnnxModel } from "../src/adapters/onnx_model.ts";
import { openTransformersModel, type TransformersLibrary } from "../src/adapters/transformers_model.ts";
import { FileSystemError, UsageError } from "./exit_codes.ts";

/** How a model is loaded. */
export interface ModelOptions {
  /** Graph within `onnx/` without its suffix: "model", or "capture" for ragged caches. Default "model". */
  readonly graph?: string;
  /** Element type as Transformers.js names it ("fp32", "fp16", "q4", …). Default "fp32". */
  readonly dtype?: string;
}

/** A model and what identifies its weights. */
export interface LoadedModel {
  readonly model: OnnxModel;
  /** Changes when the files change: names, sizes and dates of a folder's files, the name of a hub model. */
  readonly identity: string;
}

/** File name suffixes of Transformers.js by element type. */
const SUFFIXES: Readonly<Record<string, string | undefined>> = {
  fp32: "",
  fp16: "_fp16",
  int8: "_int8",
  uint8: "_uint8",
  q8: "_quantized",
  q4: "_q4",
  q4f16: "_q4f16",
  bnb4: "_bnb4",
};

/** Where `deno task model` installs the runtime in a clone of the repository. */
const REPOSITORY_RUNTIME = new URL("../.cache/eval/package.json", import.meta.url);

/**
 * Transformers.js from the folder KVZ_TRANSFORMERS, from beside kvz, from the repository's `.cache/eval`, or from the
 * working directory.
 *
 * @throws {FileSystemError} It is in none of them.
 */
export function loadTransformers(): TransformersLibrary {
  const { KVZ_TRANSFORMERS } = process.env;
  const bases = [
    ...(KVZ_TRANSFORMERS ? [path.resolve(KVZ_TRANSFORMERS, "package.json")] : []),
    ...(import.meta.url.startsWith("file:") ? [import.meta.url, fileURLToPath(REPOSITORY_RUNTIME)] : []),
    path.join(process.cwd(), "package.json"),
  ];
  for (const base of bases) {
    const require = createRequire(base);
    let found: string;
    try {
      found = require.resolve("@huggingface/transformers");
    } catch {
      // Not there: the next place.
      continue;
    }
    return require(found) as TransformersLibrary;
  }
  throw new FileSystemError(
    "Cannot load model: @huggingface/transformers is not installed; run `npm install @huggingface/transformers`, or " +
      "`deno task model` in a clone of kvz",
  );
}

/**
 * Loads a decoder with past from a folder laid out as Transformers.js wants it (config.json, tokenizer files,
 * onnx/model.onnx), or by its name on the hub.
 *
 * @throws {FileSystemError} The folder or one of its files is missing, or Transformers.js is not installed.
 * @throws what {@linkcode openTransformersModel} throws
 */
export async function loadModel(name: string, options: ModelOptions = {}): Promise<LoadedModel> {
  const { graph = "model", dtype = "fp32" } = options;
  const suffix = SUFFIXES[dtype];
  if (suffix === undefined) {
    throw new UsageError(`Cannot use weights "${dtype}": expected one of ${Object.keys(SUFFIXES).join(", ")}`);
  }
  const folder = await asFolder(name);
  const files = ["config.json", "tokenizer.json", "tokenizer_config.json", `onnx/${graph}${suffix}.onnx`];
  if (folder !== null) await checkFolder(folder, files);
  const transformers = loadTransformers();
  const common = { graph, dtype, device: "cpu" };
  if (folder === null) {
    const id = name.slice(name.lastIndexOf("/") + 1);
    return {
      model: await openTransformersModel(transformers, name, { ...common, id }),
      identity: `${name} ${graph} ${dtype}`,
    };
  }
  const { env } = transformers;
  env.localModelPath = `${path.dirname(folder)}/`;
  env.allowLocalModels = true;
  env.allowRemoteModels = false;
  return {
    model: await openTransformersModel(transformers, path.basename(folder), common),
    identity: await identify(folder, files),
  };
}

/** The absolute path when the name is a folder; null for a name on the hub. */
async function asFolder(name: string): Promise<string | null> {
  const absolute = path.resolve(name);
  try {
    if ((await stat(absolute)).isDirectory()) return absolute;
  } catch {
    // Not there: a name on the hub, or a missing folder.
  }
  if (/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(name) && !name.startsWith("models/")) return null;
  throw new FileSystemError(
    `Cannot load model ${name}: there is no such folder; in a clone of kvz \`deno task model\` makes models/smollm2`,
  );
}

async function checkFolder(folder: string, files: readonly string[]): Promise<void> {
  for (const file of files) {
    try {
      await access(path.join(folder, file));
    } catch (cause) {
      throw new FileSystemError(`Cannot load model ${folder}: it lacks ${file}`, { cause });
    }
  }
}

async function identify(folder: string, files: readonly string[]): Promise<string> {
  const stats = await Promise.all(files.map((file) => stat(path.join(folder, file))));
  return files.map((file, i) => `${file} ${stats[i].size} ${Math.floor(stats[i].mtimeMs)}`).join(", ");
}
