/**
 * The command line as a whole: commands, errors, exit codes.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import process from "node:process";
import { addAppend } from "./commands/append.ts";
import { addBench } from "./commands/bench.ts";
import { addCalibrate } from "./commands/calibrate.ts";
import { addCompare } from "./commands/compare.ts";
import { addCompress } from "./commands/compress.ts";
import { addDecompress } from "./commands/decompress.ts";
import { addDemo } from "./commands/demo.ts";
import { addDoctor } from "./commands/doctor.ts";
import { addEval } from "./commands/eval.ts";
import { addInspect } from "./commands/inspect.ts";
import { addProfile } from "./commands/profile.ts";
import { addRecipes } from "./commands/recipes.ts";
import { addSharing } from "./commands/sharing.ts";
import { addThresholds } from "./commands/thresholds.ts";
import { addVerify } from "./commands/verify.ts";
import { type CliContext, withContext } from "./context.ts";
import { EXIT, EXIT_CODES_HELP, exitCodeOf, UsageError } from "./exit_codes.ts";
import { writeStdout } from "./files.ts";
import { VERSION } from "./version.ts";

/**
 * Runs a command line.
 *
 * @param args without runtime and script
 * @returns the exit code (see exit_codes.ts)
 */
export async function runCli(args: readonly string[]): Promise<number> {
  try {
    return await withContext((context) => makeProgram(context).parseAsync([...args], { from: "user" }));
  } catch (error) {
    return await reportError(args, error);
  }
}

/** The program with all its commands. */
export function makeProgram(context: CliContext): Command {
  const program = new Command("kvz")
    .description("Compress and restore the KV caches of language models.")
    .version(VERSION)
    .showHelpAfterError(false)
    .exitOverride()
    // Errors are printed here, in one place and one form.
    .configureOutput({ writeErr: () => {} })
    .addHelpText("after", EXIT_CODES_HELP);
  addCalibrate(program, context);
  addCompress(program, context);
  addDecompress(program, context);
  addInspect(program, context);
  addVerify(program, context);
  addAppend(program, context);
  addProfile(program, context);
  addSharing(program, context);
  addThresholds(program, context);
  addRecipes(program, context);
  addEval(program, context);
  addCompare(program, context);
  addDoctor(program, context);
  addBench(program, context);
  addDemo(program, context);
  return program;
}

async function reportError(args: readonly string[], thrown: unknown): Promise<number> {
  let error = thrown instanceof Error ? thrown : new Error(String(thrown));
  if (error instanceof CommanderError) {
    // Help and version were asked for and have been printed.
    if (error.exitCode === 0) return EXIT.ok;
    const message = error.code === "commander.help"
      ? "Cannot run: a command is missing (see kvz --help)"
      : error.message.replace(/^error: /, "").replaceAll("\n", " ").trim();
    error = new UsageError(message, { cause: error });
  }
  const code = exitCodeOf(error);
  if (args.includes("--json")) {
    await writeStdout(`${JSON.stringify({ error: { name: error.name, message: error.message } })}\n`);
  } else {
    process.stderr.write(`kvz: ${error.message.split("\n")[0]}\n`);
  }
  if (process.env.KVZ_DEBUG) process.stderr.write(`${stackOf(error)}\n`);
  return code;
}

function stackOf(error: Error): string {
  const { cause } = error;
  return `${error.stack}${cause instanceof Error ? `\nCaused by: ${stackOf(cause)}` : ""}`;
}
