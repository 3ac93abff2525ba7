/**
 * Runs the command line as a process of its own, and makes the small files that it works on.
 *
 * @module
 */
import { assertEquals } from "deno-std/assert";
import { writeSafetensors } from "../../src/adapters/safetensors_sink.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

/** The entry as a path. */
export const MAIN: string = new URL("../../cli/main.ts", import.meta.url).pathname;

/** What a run left behind. */
export interface Run {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly out: string;
  readonly err: string;
}

/** Runs `kvz` with arguments; `stdin` is what its standard input gets. */
export async function kvz(
  args: readonly string[],
  options: { readonly stdin?: Uint8Array; readonly cwd?: string; readonly env?: Record<string, string> } = {},
): Promise<Run> {
  const { stdin, cwd, env } = options;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", MAIN, ...args],
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
  }).spawn();
  const feed = async () => {
    if (stdin === undefined) return;
    const writer = child.stdin.getWriter();
    await writer.write(stdin);
    await writer.close();
  };
  const [{ code, stdout, stderr }] = await Promise.all([child.output(), feed()]);
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout, out: decode(stdout), err: decode(stderr) };
}

/** Runs `kvz … --json`, checks the exit code and that standard output is one JSON object on one line. */
export async function kvzJson(
  args: readonly string[],
  code = 0,
  options: Parameters<typeof kvz>[1] = {},
  // deno-lint-ignore no-explicit-any -- the tests say what they expect of it
): Promise<any> {
  const run = await kvz([...args, "--json"], options);
  assertEquals(run.code, code, run.out + run.err);
  assertEquals(run.err, "");
  assertEquals(run.out.indexOf("\n"), run.out.length - 1, "standard output is one line");
  const parsed = JSON.parse(run.out);
  assertEquals(typeof parsed === "object" && parsed !== null && !Array.isArray(parsed), true);
  return parsed;
}

/** A folder with a cache of 400 tokens and its profile; removed afterwards. */
export async function withFiles(work: (files: Files) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kvz-cli-" });
  try {
    const at = (name: string) => `${folder}/${name}`;
    const cache = syntheticCache(400);
    await Deno.writeFile(at("in.safetensors"), await writeSafetensors(cache));
    await Deno.writeFile(at("p.kvzp"), await serializeProfile(syntheticProfile()));
    await work({ folder, at, cache, input: at("in.safetensors"), profile: at("p.kvzp") });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Files of a test. */
export interface Files {
  readonly folder: string;
  readonly at: (name: string) => string;
  /** What is in `input`. */
  readonly cache: KvCache;
  readonly input: string;
  readonly profile: string;
}

/** Names in a folder, sorted. */
export function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}
