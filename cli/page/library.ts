/**
 * The plot library, whose files are put into the pages.
 *
 * @module
 */
import { createRequire } from "node:module";
import { readInput } from "../files.ts";

/** uPlot's files as text. */
export interface PlotLibrary {
  /** Script that defines the global `uPlot`. */
  readonly script: string;
  /** Its style sheet. */
  readonly style: string;
}

/**
 * Reads uPlot's files from where the package is installed.
 *
 * @throws {FileSystemError} when they cannot be read
 */
export async function readPlotLibrary(): Promise<PlotLibrary> {
  // Packing lists as dependencies what is imported; its files alone are used.
  await import("uplot");
  const { resolve } = createRequire(import.meta.url);
  const [script, style] = await Promise.all([
    readInput(resolve("uplot/dist/uPlot.iife.min.js")),
    readInput(resolve("uplot/dist/uPlot.min.css")),
  ]);
  const utf8 = new TextDecoder();
  return { script: utf8.decode(script), style: utf8.decode(style) };
}
