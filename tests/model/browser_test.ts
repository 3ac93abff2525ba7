/**
 * examples/browser in headless Chromium: read, store, reload, restore; and what the page says when something is wrong.
 * Needs `deno task model` and Chromium (/usr/bin/chromium, or KVZ_CHROMIUM).
 */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { type BrowserPage, openBrowser, settled } from "../../examples/browser/browser.ts";
import { bundle } from "../../examples/browser/bundle.ts";
import type { ReadRun, RestoredRun } from "../../examples/browser/page/protocol.ts";
import { type RunningServer, type ServeOptions, startServer } from "../../examples/browser/serve.ts";
import { loadProfile, serializeProfile } from "../../mod.ts";
import { syntheticProfile } from "../synthetic.ts";

const PROMPT = `The lighthouse on the northern cape was built in 1871 from granite that was cut on the island itself. \
For eighty years its lamp burned oil. The keeper climbed the 214 steps every evening, filled the lamp, wound the \
clockwork that turned the lens, and wrote the weather into a book: wind, clouds, the state of the sea, and every ship \
that passed. Why do scientists use the logbooks?`;

/** A server and a browser for the time of `work`; the page's console is shown when it throws. */
async function withPage(options: ServeOptions, work: (page: BrowserPage, server: RunningServer) => Promise<void>) {
  const server = await startServer({ port: 0, ...options });
  const browser = await openBrowser();
  try {
    await work(browser.page, server);
  } catch (error) {
    console.error(
      browser.log.join("\n"),
      "\n",
      await browser.page.evaluate("document.querySelector('#error')?.textContent"),
    );
    throw error;
  } finally {
    await browser.close();
    await server.close();
  }
}

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kvz-browser-" });
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Reads the prompt and stores its cache. */
async function read(page: BrowserPage, ratio: string, window: number): Promise<ReadRun> {
  await page.fill("#prompt", PROMPT);
  await page.selectOption("#ratio", ratio);
  await page.fill("#window", String(window));
  await page.fill("#count", "24");
  await page.click("#read");
  assertEquals(await settled(page), "idle");
  return (await page.evaluate("kvzResults")).read;
}

/** Reloads the page, which restores by itself. */
async function reload(page: BrowserPage): Promise<RestoredRun> {
  await page.reload();
  assertEquals(await settled(page), "idle");
  return (await page.evaluate("kvzResults")).restored;
}

/** Size of the stored file, as the private file system tells it. */
function storedBytes(page: BrowserPage): Promise<number> {
  return page.evaluate(`(async () => {
    const root = await navigator.storage.getDirectory();
    return (await (await root.getFileHandle("prompt.kvz")).getFile()).size;
  })()`);
}

function requireFaster(run: ReadRun, restored: RestoredRun): void {
  const before = run.seconds.prefill + run.seconds.firstToken;
  const after = restored.seconds.read + restored.seconds.decompress + restored.seconds.firstToken;
  console.log(`First token after ${before.toFixed(2)} s by reading, ${after.toFixed(2)} s from the file`);
  assert(after < before);
}

Deno.test("a prompt's cache is stored, restored after a reload and continued; damage is named", () =>
  withPage({}, async (page, { url }) => {
    await page.goto(url);
    assertEquals(await settled(page), "idle");
    assertStringIncludes((await page.textContent("#facts"))!, "Storage OPFS");
    assertEquals(await page.evaluate("crossOriginIsolated"), true);
    assertEquals(await page.evaluate("kvzResults.read"), null);

    // Bit-exact: the same tokens as without interruption.
    const exact = await read(page, "exact", 0);
    assertEquals(exact.ids.length, 24);
    assertEquals(exact.file.bytes, await storedBytes(page));
    const continued = await reload(page);
    assertEquals(continued.ids, exact.ids);
    assertEquals(continued.equalTokens, 24);
    assertEquals(await page.textContent("#restored-text"), exact.text);
    assertEquals(await page.textContent("#read-text"), exact.text);
    requireFaster(exact, continued);

    // Coded: smaller by what the page shows.
    const coded = await read(page, "32", 16);
    assertEquals(coded.ids, exact.ids);
    const bytes = await storedBytes(page);
    assertEquals(coded.file.fp16Bytes, coded.cachedTokens * 23_040);
    assertEquals(coded.file.bytes, bytes);
    const shown = /file ratio ([\d.]+)×/.exec((await page.textContent("#size-figure"))!);
    assert(Math.abs(Number(shown?.[1]) - coded.file.fp16Bytes / bytes) < 0.006);
    assert(coded.file.fp16Bytes > 4 * bytes, `file ratio ${coded.file.fileRatio}`);
    assert(coded.file.paperRatio! > 16);
    const restored = await reload(page);
    assert(restored.ids.length > 0 && restored.text.trim() !== "");
    assertEquals(await page.textContent("#restored-text"), restored.text);
    assertEquals(await page.textContent("#read-text"), coded.text);
    requireFaster(coded, restored);

    // A flipped bit in the middle.
    await page.evaluate(`(async () => {
      const handle = await (await navigator.storage.getDirectory()).getFileHandle("prompt.kvz");
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
      bytes[bytes.length >> 1] ^= 4;
      const stream = await handle.createWritable();
      await stream.write(bytes);
      await stream.close();
    })()`);
    await page.click("#restore");
    assertEquals(await settled(page), "failed");
    assertStringIncludes((await page.textContent("#error"))!, "KvzFormatError: Cannot read ");
    assertEquals(await page.textContent("#restored-text"), "");

    await page.click("#forget");
    assertEquals(await settled(page), "idle");
    assertEquals(await page.evaluate("kvzResults.read"), null);
    const left = "Array.fromAsync((async function* () { yield* (await navigator.storage.getDirectory()).keys() })())";
    assertEquals(await page.evaluate(left), []);
  }));

Deno.test("a missing model and a profile of another model are named before anything is loaded", () =>
  withFolder(async (folder) => {
    await withPage({ model: folder }, async (page, { url }) => {
      await page.goto(url);
      assertEquals(await settled(page), "failed");
      assertStringIncludes((await page.textContent("#error"))!, "/model/config.json: the server answers 404");
    });
    const profile = `${folder}/other.kvzp`;
    await Deno.writeFile(profile, await serializeProfile(syntheticProfile()));
    await withPage({ profile }, async (page, { url }) => {
      await page.goto(url);
      assertEquals(await settled(page), "failed");
      const message = (await page.textContent("#error"))!;
      assertStringIncludes(message, "KvzMismatchError: Cannot use profile other.kvzp");
      assertStringIncludes(message, "3 layers, 2 KV heads");
    });
  }));

Deno.test("a stored cache of another profile is named", () =>
  withFolder(async (folder) => {
    const sample = await loadProfile(await Deno.readFile("samples/smollm2-demo.kvzp"));
    const profile = `${folder}/served.kvzp`;
    await Deno.writeFile(profile, await serializeProfile(sample));
    await withPage({ profile }, async (page, { url }) => {
      await page.goto(url);
      await settled(page);
      await read(page, "64", 16);
      // The same page, served with a profile of another fit.
      await Deno.writeFile(profile, await serializeProfile({ ...sample, fingerprint: "0".repeat(64) }));
      await page.reload();
      assertEquals(await settled(page), "failed");
      assertStringIncludes((await page.textContent("#error"))!, "KvzMismatchError");
      assertStringIncludes((await page.textContent("#error"))!, "000000000000");
    });
  }));

Deno.test("without a private file system files go to IndexedDB, and the reason is told", () =>
  withFolder(async (folder) => {
    await bundle([new URL("../../examples/browser/page/store.ts", import.meta.url)], folder);
    await Deno.writeTextFile(`${folder}/index.html`, "<!doctype html><title>Store</title>");
    await withPage({ folders: { "/test/": folder } }, async (page, { url }) => {
      await page.goto(`${url}test/index.html`);
      const found = await page.evaluate(`(async () => {
        const { openStore } = await import("/test/store.js");
        const files = [];
        for (const refused of [false, true]) {
          if (refused) navigator.storage.getDirectory = () => Promise.reject(new Error("refused for a test"));
          const store = await openStore();
          const before = await store.read("a");
          await store.write("a", Uint8Array.of(1, 2, 3));
          await store.write("a", Uint8Array.of(4, 5));
          const written = Array.from(await store.read("a"));
          await store.remove("a");
          await store.remove("a");
          files.push({ storage: store.storage, before, written, removed: await store.read("a") });
        }
        return files;
      })()`);
      const expected = { before: null, written: [4, 5], removed: null };
      assertEquals(found, [
        { storage: { kind: "OPFS" }, ...expected },
        { storage: { kind: "IndexedDB", reason: "refused for a test" }, ...expected },
      ]);
    });
  }));
