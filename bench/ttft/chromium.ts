/**
 * Serves and drives the measurement in headless Chromium, with the server and the driver of examples/browser.
 *
 * @module
 */
import { createRequire } from "node:module";
import path from "node:path";
import { openBrowser } from "../../examples/browser/browser.ts";
import { bundle } from "../../examples/browser/bundle.ts";
import { startServer } from "../../examples/browser/serve.ts";
import { openTransformersModel } from "../../src/adapters/transformers_model.ts";
import type { PageOptions } from "./chromium_page.ts";
import type { TtftRow } from "./measure.ts";

/** What is measured, and where things lie. */
export interface ChromiumOptions extends Omit<PageOptions, "ids"> {
  readonly model: string;
  readonly profile: string;
  readonly text: string;
  readonly transformers: string;
}

/** Measures in Chromium. */
export async function measureInChromium(
  options: ChromiumOptions,
  folder: string,
): Promise<{ info: { readonly build: string; readonly threads: number }; rows: TtftRow[] }> {
  const ids = await tokenize(options);
  const scripts = ["chromium_page.ts", "lane_worker.ts"];
  await bundle(scripts.map((name) => new URL(name, import.meta.url)), folder);
  await Deno.writeTextFile(
    `${folder}/index.html`,
    '<!doctype html><script type="module" src="chromium_page.js"></script>',
  );
  const { model, profile } = options;
  const server = await startServer({ port: 0, model, profile, folders: { "/ttft/": folder } });
  const browser = await openBrowser();
  try {
    await browser.page.goto(`${server.url}ttft/index.html`);
    const { tokens, ratios, window, rounds, threads } = options;
    const request = JSON.stringify({ ids, tokens, ratios, window, rounds, threads });
    return await browser.page.evaluate(`globalThis.run(${request})`);
  } catch (error) {
    throw new Error(`Cannot measure in Chromium: ${(error as Error).message}; its console: ${browser.log.join(" | ")}`);
  } finally {
    await browser.close();
    await server.close();
  }
}

async function tokenize({ model, text, transformers, tokens }: ChromiumOptions): Promise<number[]> {
  const library = createRequire(path.join(transformers, "package.json"))("@huggingface/transformers");
  library.env.localModelPath = `${path.dirname(model)}/`;
  library.env.allowRemoteModels = false;
  const loaded = await openTransformersModel(library, path.basename(model), { device: "cpu" });
  try {
    return Array.from(loaded.tokenize(await Deno.readTextFile(text)).subarray(0, Math.max(...tokens) + 1));
  } finally {
    await loaded[Symbol.asyncDispose]();
  }
}
