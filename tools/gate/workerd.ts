/**
 * Running tests/runtimes/workerd.js in workerd.
 *
 * @module
 */

/** Memory of an isolate on Cloudflare Workers. */
export const WORKERD_LIMIT = 128_000_000;
/** Longest wait for workerd to listen and to answer. */
const TIMEOUT_MS = 120_000;

/** What the worker answered, and what it took. */
export interface WorkerdResult {
  readonly checks: readonly { readonly name: string; readonly error?: string }[];
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Growth of the process from before the request to its peak, in bytes: heap, buffers and WASM memory. */
  readonly memory: number;
}

/** Starts workerd on `dir`/workerd.capnp, asks the worker once, and stops it. */
export async function runInWorkerd(program: string, dir: string): Promise<WorkerdResult> {
  const child = new Deno.Command(program, {
    // The port it has chosen comes as a line of JSON on standard output.
    args: ["serve", "workerd.capnp", "--control-fd=1"],
    cwd: dir,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const lines = child.stdout.pipeThrough(new TextDecoderStream());
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  try {
    const port = await listeningPort(lines);
    const before = await statusBytes(child.pid, "VmRSS");
    const response = await fetch(`http://127.0.0.1:${port}/`);
    if (!response.ok) throw new Error(`The worker answered ${response.status}: ${await response.text()}`);
    const { checks, files } = await response.json();
    const memory = await statusBytes(child.pid, "VmHWM") - before;
    const decoded = Object.entries(files as Record<string, string>).map(([name, text]) =>
      [name, Uint8Array.from(atob(text), (char) => char.charCodeAt(0))] as const
    );
    return { checks, files: new Map(decoded), memory };
  } catch (cause) {
    child.kill("SIGKILL");
    throw new Error(`The worker failed\n${await stderr}`, { cause });
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
    await child.status;
    await stderr;
  }
}

async function listeningPort(lines: ReadableStream<string>): Promise<number> {
  let text = "";
  for await (const part of lines) {
    text += part;
    const found = /"event":"listen".*"port":(\d+)/.exec(text);
    if (found) return Number(found[1]);
  }
  throw new Error("It ended before it listened");
}

/** A size from /proc, in bytes. */
async function statusBytes(pid: number, field: "VmRSS" | "VmHWM"): Promise<number> {
  const text = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)![1]) * 1024;
}
