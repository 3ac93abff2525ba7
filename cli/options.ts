/**
 * Options that several commands share, and the parsers of their values.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { LaneOptions } from "../src/codec/lanes.ts";
import type { BackendName } from "../src/backend/select.ts";
import { WASM_BUILDS, type WasmBuild } from "../src/backend/wasm/exports.ts";
import type { RopeSpec } from "../src/cache/types.ts";
import type { SafetensorsOptions } from "../src/adapters/safetensors.ts";
import { parseRopeMetadata } from "../src/adapters/safetensors_rope.ts";
import { MAX_HEAD_DIM } from "../src/container/model_json.ts";
import { UsageError } from "./exit_codes.ts";

/** `--backend`, `--threads`, `--wasm-build`. */
export interface BackendFlags {
  /** Checked by the codec: a backend that this version or this machine lacks is no usage error. */
  readonly backend: BackendName;
  readonly threads: number;
  readonly wasmBuild?: WasmBuild;
}

/** Adds {@linkcode BackendFlags} to a command. */
export function addBackendOptions(command: Command): Command {
  return command
    .option("--backend <name>", "what computes: auto, cuda, webgpu, wasm, reference (see kvz doctor)", "auto")
    .addOption(
      new Option(
        "--threads <n>",
        "threads; 0 takes one a logical processor, with --backend cuda or webgpu one; auto takes a GPU with 1",
      )
        .argParser(wholeNumber("--threads", 0, 256)).default(0),
    )
    .addOption(
      new Option("--wasm-build <build>", "build of the WASM kernels (default: the fastest that is valid here)")
        .choices(WASM_BUILDS),
    );
}

/** The codec's options for these flags. */
export function laneOptions(
  { backend, threads: wanted, wasmBuild }: BackendFlags,
): LaneOptions & { readonly threads: number } {
  // Node 20 has no navigator to ask.
  const gpu = backend === "cuda" || backend === "webgpu";
  const threads = wanted || (gpu ? 1 : availableParallelism());
  if (wasmBuild === undefined) return { backend, threads };
  if (backend !== "auto" && backend !== "wasm") {
    throw new UsageError(`Cannot use --wasm-build with --backend ${backend}: it is for wasm`);
  }
  return { backend: "wasm", build: wasmBuild, threads };
}

/** `--json`. */
export interface JsonFlag {
  readonly json?: boolean;
}

/** Adds `--json`. */
export function addJsonOption(command: Command): Command {
  return command.option("--json", "print one JSON object on standard output, no progress");
}

/** `-o`, `--force`. */
export interface OutputFlags {
  readonly output: string;
  readonly force?: boolean;
}

/** Adds `-o` and `--force`. */
export function addOutputOptions(command: Command, what: string): Command {
  return command
    .requiredOption("-o, --output <file>", what)
    .option("-f, --force", "replace the output if it is there");
}

/** Refuses `--json` together with data on standard output. */
export function checkOneStdout({ output, json }: { output?: string; json?: boolean }): void {
  if (json && output === "-") {
    throw new UsageError("Cannot use --json with -o -: standard output takes one of them");
  }
}

/** `--model`, `--graph`, `--weights`. */
export interface ModelFlags {
  readonly model: string;
  readonly graph: string;
  readonly weights: string;
}

/** Adds how a model is loaded; `graph` is the graph where none is named. */
export function addModelOptions(command: Command, graph = "model"): Command {
  return command
    .option("--graph <name>", "graph of the model's folder: model or capture", graph)
    .option("--weights <type>", "its weights as Transformers.js names them: fp32, fp16, q8, q4, …", "fp32");
}

/** Refuses what is no element type of caches. */
export function checkDType(dtype: string): void {
  if (!["f16", "bf16", "f32"].includes(dtype)) {
    throw new UsageError(`Cannot use --dtype ${dtype}: expected f16, bf16 or f32`);
  }
}

/** What the user knows better than the cache's file. */
export interface CacheFlags {
  readonly modelId?: string;
  readonly architecture?: string;
  readonly rope?: { readonly rope: RopeSpec | null; readonly firstPosition?: number };
  readonly gguf?: string;
}

/** Adds {@linkcode CacheFlags}. */
export function addCacheOptions(command: Command): Command {
  return command
    .option("--gguf <file>", "the model of a llama.cpp state")
    .option("--model-id <name>", "name of the weights, instead of what the cache says")
    .option("--architecture <name>", "architecture family, instead of what the cache says")
    .addOption(
      new Option(
        "--rope <json>",
        'rotation of the keys, instead of what the cache says: {"theta":10000,"dim":64,"pairing":"half-split"} ' +
          "with scaling and first_position where needed; null for none",
      ).argParser(parseRopeFlag),
    );
}

/** The safetensors reader's options for these flags. */
export function safetensorsOptions({ modelId, architecture, rope }: CacheFlags): SafetensorsOptions {
  return {
    ...(modelId === undefined ? {} : { modelId }),
    ...(architecture === undefined ? {} : { architecture }),
    ...(rope === undefined ? {} : { rope: rope.rope }),
    ...(rope?.firstPosition === undefined ? {} : { firstPosition: rope.firstPosition }),
  };
}

function parseRopeFlag(text: string): NonNullable<CacheFlags["rope"]> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new InvalidArgumentError("It is not JSON.");
  }
  const stated = typeof json === "object" && json !== null && "first_position" in json;
  const whole = typeof json === "object" && json !== null ? { first_position: 0, ...json } : json;
  try {
    // The head dimension is checked against the cache when that is known.
    const { rope, firstPosition } = parseRopeMetadata(JSON.stringify(whole), MAX_HEAD_DIM);
    return { rope, ...(stated ? { firstPosition } : {}) };
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
}

/** A parser of whole numbers in a range. */
export function wholeNumber(name: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !(value >= min && value <= max)) {
      throw new InvalidArgumentError(`${name} takes a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** A parser of positive numbers. */
export function positiveNumber(name: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value > 0 && value < Infinity)) {
      throw new InvalidArgumentError(`${name} takes a number above 0.`);
    }
    return value;
  };
}

/** A parser of ratios separated by commas. */
export function ratioList(name: string): (text: string) => number[] {
  const one = positiveNumber(name);
  return (text) => text.split(",").map((part) => one(part));
}

/** Parses "A:B", layers A to B − 1. */
export function layerRange(text: string): [begin: number, end: number] {
  const match = /^(\d+):(\d+)$/.exec(text);
  if (match === null || Number(match[1]) >= Number(match[2])) {
    throw new InvalidArgumentError("--layers takes A:B, layers A to B − 1.");
  }
  return [Number(match[1]), Number(match[2])];
}

/** Parses a number of bytes with an optional unit: 1048576, 512KiB, 2GB. */
export function byteSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?$/i.exec(text);
  if (match === null) throw new InvalidArgumentError("--max-bytes takes a number of bytes, for instance 512MiB.");
  const power = " kmgt".indexOf(match[2].toLowerCase() || " ");
  const size = Math.floor(Number(match[1]) * (match[3] === "" ? 1000 : 1024) ** power);
  if (!Number.isSafeInteger(size)) throw new InvalidArgumentError("--max-bytes is too large.");
  return size;
}

/** The named flags that were given, for options objects in which absent means default. */
export function given<T extends object, K extends keyof T>(flags: T, names: readonly K[]): Partial<Pick<T, K>> {
  const out: Partial<Pick<T, K>> = {};
  for (const name of names) if (flags[name] !== undefined) out[name] = flags[name];
  return out;
}
