/**
 * Drives Chromium for tests and screenshots.
 *
 * @module
 */
import { createRequire } from "node:module";
import { CACHE_DIR, installPackages } from "./packages.ts";

/** What is used of a page of Playwright. */
export interface BrowserPage {
  goto(url: string): Promise<unknown>;
  reload(): Promise<unknown>;
  click(selector: string): Promise<void>;
  fill(selector: string, text: string): Promise<void>;
  selectOption(selector: string, value: string): Promise<unknown>;
  textContent(selector: string): Promise<string | null>;
  // deno-lint-ignore no-explicit-any -- what comes back is what the page's script returns
  evaluate(script: string): Promise<any>;
  waitForSelector(selector: string, options: { readonly timeout: number }): Promise<unknown>;
  screenshot(options: Readonly<Record<string, unknown>>): Promise<Uint8Array>;
  on(event: "console" | "pageerror", listener: (message: { text?(): string; message?: string }) => void): void;
}

/** A browser that runs, with one page. */
export interface RunningBrowser {
  readonly page: BrowserPage;
  /** What the page has written to its console, errors included. */
  readonly log: readonly string[];
  /** Ends the browser and removes its profile. */
  close(): Promise<void>;
}

/** Options of {@linkcode openBrowser}. */
export interface BrowserOptions {
  /** Offer WebGPU, computed on the CPU by SwiftShader. */
  readonly webgpu?: boolean;
  readonly colorScheme?: "light" | "dark";
  readonly viewport?: { readonly width: number; readonly height: number };
}

/** Chromium keeps to itself: no update, no sync, nothing looked up in the background. */
const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

interface Playwright {
  readonly chromium: {
    launchPersistentContext(folder: string, options: object): Promise<{
      pages(): BrowserPage[];
      close(): Promise<void>;
    }>;
  };
}

/**
 * Starts headless Chromium with a fresh profile. KVZ_CHROMIUM names another executable than Debian's.
 *
 * @throws {Error} There is no Chromium, or it does not start.
 */
export async function openBrowser(options: BrowserOptions = {}): Promise<RunningBrowser> {
  const executablePath = Deno.env.get("KVZ_CHROMIUM") ?? "/usr/bin/chromium";
  await installPackages(["playwright-core"]);
  const { chromium } = createRequire(`${CACHE_DIR}/package.json`)("playwright-core") as Playwright;
  const folder = await Deno.makeTempDir({ prefix: "kvz-chromium-" });
  const context = await chromium.launchPersistentContext(folder, {
    executablePath,
    headless: true,
    args: [
      ...FLAGS,
      ...(options.webgpu ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] : ["--disable-gpu"]),
    ],
    colorScheme: options.colorScheme ?? "light",
    viewport: options.viewport ?? { width: 1120, height: 1000 },
  });
  const [page] = context.pages();
  const log: string[] = [];
  page.on("console", (message) => log.push(message.text?.() ?? ""));
  page.on("pageerror", (error) => log.push(error.message ?? ""));
  return {
    page,
    log,
    async close() {
      await context.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/**
 * Waits until the page is done with what it was asked for.
 *
 * @returns "idle", or "failed" where it shows an error
 * @throws {Error} It is not done in time.
 */
export async function settled(page: BrowserPage, timeout = 240_000): Promise<"idle" | "failed"> {
  await page.waitForSelector('body[data-state="idle"], body[data-state="failed"]', { timeout });
  return await page.evaluate("document.body.dataset.state");
}
