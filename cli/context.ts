/**
 * What every command gets: a signal that interrupts, and one way to hand over its result.
 *
 * @module
 */
import process from "node:process";
import { EXIT, InterruptedError } from "./exit_codes.ts";
import { abandonStdin, writeStdout } from "./files.ts";

/** Surroundings of a running command. */
export interface CliContext {
  /** Aborted by SIGINT and SIGTERM with an {@linkcode InterruptedError}. */
  readonly signal: AbortSignal;
  /**
   * Prints a result: the object with `--json`, else the lines. Lines go to standard error when the command wrote its
   * data to standard output.
   */
  finish(
    flags: { readonly json?: boolean; readonly output?: string },
    result: object,
    lines: readonly string[],
  ): Promise<void>;
  /** Exit code of a command that ends without an error; 0 unless set. */
  exitCode: number;
}

/** Runs `work` in a context of its own and returns its exit code; the signal handlers go when it ends. */
export async function withContext(work: (context: CliContext) => Promise<unknown>): Promise<number> {
  const controller = new AbortController();
  const interrupt = () => {
    // The first asks for a clean end (temporary files are removed), the second does not wait for it.
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    const reason = new InterruptedError("interrupted");
    controller.abort(reason);
    abandonStdin(reason);
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  try {
    const context: CliContext = { signal: controller.signal, finish, exitCode: EXIT.ok };
    await work(context);
    return context.exitCode;
  } catch (error) {
    // What breaks off because of the interruption says so in words of its own.
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
  }
}

async function finish(
  { json, output }: { readonly json?: boolean; readonly output?: string },
  result: object,
  lines: readonly string[],
): Promise<void> {
  const { fallback, backend, host } = result as { fallback?: string; backend?: string; host?: readonly string[] };
  if (fallback !== undefined) process.stderr.write(`kvz: computed with ${backend}: ${fallback}\n`);
  if (host !== undefined) process.stderr.write(`kvz: beside ${backend}, on the host: ${host.join(", ")}\n`);
  if (json) await writeStdout(`${JSON.stringify(result)}\n`);
  else if (output === "-") process.stderr.write(`${lines.join("\n")}\n`);
  else await writeStdout(`${lines.join("\n")}\n`);
}
