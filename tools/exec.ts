/**
 * Child processes of the tools.
 *
 * @module
 */

/** What a process left behind. */
export interface Finished {
  readonly code: number;
  /** Its standard output. */
  readonly out: string;
  /** Its standard output and errors, as they came. */
  readonly log: string;
  /** Wall time. */
  readonly seconds: number;
}

/** Where and how a process runs. */
export interface ExecOptions {
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  /** Shows the output while it comes, too. */
  readonly show?: boolean;
  /** Ends the process. */
  readonly signal?: AbortSignal;
}

/** Runs a command to its end; a failure is in `code`, not thrown. */
export async function exec(command: readonly string[], options: ExecOptions = {}): Promise<Finished> {
  const { show = false, ...rest } = options;
  const begin = performance.now();
  const child = new Deno.Command(command[0], {
    args: command.slice(1),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...rest,
  }).spawn();
  let out = "";
  let log = "";
  const drain = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>, target: typeof Deno.stderr, isOut: boolean) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      if (isOut) out += text;
      log += text;
      if (show) await target.write(new TextEncoder().encode(text));
    }
  };
  await Promise.all([drain(child.stdout, Deno.stdout, true), drain(child.stderr, Deno.stderr, false)]);
  const { code } = await child.status;
  return { code, out, log, seconds: (performance.now() - begin) / 1000 };
}

/**
 * Runs a command that has to succeed.
 *
 * @throws {Error} with the command's output when it fails
 */
export async function run(command: readonly string[], options: ExecOptions = {}): Promise<Finished> {
  const finished = await exec(command, options);
  if (finished.code !== 0) {
    throw new Error(`Command failed with exit code ${finished.code}: ${command.join(" ")}\n${finished.log}`);
  }
  return finished;
}

/** The running Deno: also where only npx knows it. */
export const DENO: string = Deno.execPath();
