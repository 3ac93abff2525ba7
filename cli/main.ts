#!/usr/bin/env -S deno run -A
/**
 * The `kvz` command. Runs in Deno, Node and Bun.
 *
 * @module
 */
import process from "node:process";
import { EXIT } from "./exit_codes.ts";
import { runCli } from "./program.ts";

// A reader that goes away (`kvz inspect … | head`) is no error.
process.stdout.on("error", (error: Error & { code?: string }) => {
  if (error.code !== "EPIPE") throw error;
});
process.exitCode = await runCli(process.argv.slice(2));
// After an interruption nothing is waited for, such as a pipe that is still open.
if (process.exitCode === EXIT.interrupted) process.exit();
