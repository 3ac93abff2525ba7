/**
 * Runs the page in headless Chromium, reads the prompt, reloads, and writes a picture of what it then shows.
 *
 *     deno task screenshot [--profile FILE.kvzp] [--ratio 32] [--window 128] [--dark] [-o docs/browser.png]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openBrowser, settled } from "./browser.ts";
import { startServer } from "./serve.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    profile: { type: "string" },
    ratio: { type: "string", default: "32" },
    window: { type: "string", default: "128" },
    dark: { type: "boolean", default: false },
    output: { type: "string", short: "o", default: fileURLToPath(new URL("../../docs/browser.png", import.meta.url)) },
  },
});

const server = await startServer({ port: 0, ...(values.profile ? { profile: values.profile } : {}) });
const browser = await openBrowser({ colorScheme: values.dark ? "dark" : "light" });
const { page } = browser;

async function settle(): Promise<void> {
  if (await settled(page) === "failed") throw new Error(`The page says: ${await page.textContent("#error")}`);
}

try {
  await page.goto(server.url);
  await settle();
  await page.selectOption("#ratio", values.ratio);
  await page.fill("#window", values.window);
  await page.click("#read");
  await settle();
  await page.click("#reload");
  // The old page is gone when the new one has a restored run.
  await page.waitForSelector("#restored-facts b", { timeout: 240_000 });
  await settle();
  await page.screenshot({ path: values.output, fullPage: true });
  const { read, restored } = await page.evaluate("kvzResults");
  const { ids: _read, text: before, prompt: _prompt, ...readFacts } = read;
  const { ids: _restored, text: after, ...restoredFacts } = restored;
  console.log(JSON.stringify({ read: readFacts, restored: restoredFacts, before, after }, null, 2));
} finally {
  await browser.close();
  await server.close();
}
