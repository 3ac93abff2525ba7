/**
 * What both programs read from the command line.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { type Codec, type GgmlType, loadProfile, openCodec, readSafetensors } from "@kvz/kvz";
import type { ContextForm, Runtime } from "./runtime.ts";

const SAMPLES = new URL("../../samples/", import.meta.url);

/** The profile of the repository: SmolLM2, ratios 32 and 64. */
export const SAMPLE_PROFILE = fileURLToPath(new URL("smollm2-demo.kvzp", SAMPLES));

/** Element types of caches that kvz reads. */
const CACHE_TYPES: readonly GgmlType[] = ["f32", "f16", "bf16", "q8_0", "q4_0"];

/** A number of an option. */
export function numberOf(name: string, value: string, least: number, whole = true): number {
  const number = Number(value);
  if (value.trim() === "" || !(number >= least) || !Number.isFinite(number) || (whole && !Number.isInteger(number))) {
    throw new RangeError(
      `Cannot use option --${name}: ${value} is no ${whole ? "whole number" : "number"} of at least ${least}`,
    );
  }
  return number;
}

/** The element type of an option. */
export function cacheTypeOf(value: string): GgmlType {
  const type = CACHE_TYPES.find((type) => type === value);
  if (type === undefined) {
    throw new RangeError(`Cannot use option --cache-type: it is ${value}, expected one of ${CACHE_TYPES.join(", ")}`);
  }
  return type;
}

/** For instance "f16, flash attention". */
export function formName({ cacheType, flashAttention }: ContextForm): string {
  return `${cacheType}, ${flashAttention ? "flash attention" : "no flash attention"}`;
}

/** Opens a codec with the profile of a file; one thread, as llama.cpp gets. */
export async function openProfile(path: string): Promise<Codec> {
  const profile = await loadProfile(await readFile("profile", path));
  return await openCodec(profile, { threads: 1 });
}

/** Token ids of a text file; without one, of the repository's sample: 256 tokens of Wikipedia. */
export async function readTokens(runtime: Runtime, path: string | undefined): Promise<number[]> {
  if (path !== undefined) return runtime.tokenize(new TextDecoder().decode(await readFile("text", path)));
  const bytes = await readFile("sample", fileURLToPath(new URL("smollm2-256.safetensors", SAMPLES)));
  const { inputIds } = await readSafetensors(bytes);
  if (inputIds === undefined) throw new Error("Cannot read sample: it has no token ids");
  return [...inputIds];
}

/** A whole file; a missing one is named. */
export async function readFile(what: string, path: string): Promise<Uint8Array> {
  return await Deno.readFile(path).catch((error) => {
    throw new Error(`Cannot read ${what} ${path}: ${error.message}`, { cause: error });
  });
}

/** Runs a program: errors become one line and exit code 1. */
export async function run(program: () => Promise<void>): Promise<never> {
  try {
    await program();
  } catch (error) {
    const { name, message, stack } = error as Error;
    console.error(Deno.env.get("KVZ_DEBUG") ? stack : `${name}: ${message}`);
    Deno.exit(1);
  }
  Deno.exit(0); // the runtime keeps threads of its own
}
