/**
 * Caches on a GPU: a decoder of onnxruntime-web on WebGPU (Chromium, computed by SwiftShader) keeps its cache in GPU
 * buffers; kvz reads it there and puts the restored one there, and compresses and restores it there when its codec is on
 * the same device. Needs Chromium and onnxruntime-web (installed on the way).
 */
import { assert, assertAlmostEquals, assertEquals, assertNotEquals } from "deno-std/assert";
import { openBrowser } from "../../examples/browser/browser.ts";
import { bundle } from "../../examples/browser/bundle.ts";
import { startServer } from "../../examples/browser/serve.ts";
import { serializeProfile } from "../../mod.ts";
import { syntheticProfile } from "../synthetic.ts";
import type { Outcome } from "./gpu_page.ts";
import type { StayOutcome } from "./gpu_stay.ts";

const PAGE =
  `<!doctype html><html lang="en"><title>GPU</title><script type="module" src="gpu_page.js"></script></html>`;

/** Lays out what the page loads. */
async function makePage(folder: string): Promise<void> {
  await bundle([new URL("gpu_page.ts", import.meta.url)], folder);
  await Deno.writeTextFile(`${folder}/index.html`, PAGE);
  await Deno.copyFile("tests/model/tiny_decoder.onnx", `${folder}/tiny_decoder.onnx`);
  const rope = { theta: 10000, dim: 8, pairing: "half-split" } as const;
  const profile = syntheticProfile({ architecture: "llama", layers: 2, kvHeads: 2, keyDim: 8, valueDim: 8, rope });
  await Deno.writeFile(`${folder}/profile.kvzp`, await serializeProfile(profile));
}

/** Compressed and restored on the session's own device. */
function checkStayed({ sameFile, bytes, locations, logits, places }: StayOutcome): void {
  assert(sameFile);
  assert(bytes.saving < 2 * bytes.file && bytes.restoring < bytes.file, JSON.stringify(bytes));
  assert(bytes.saving < bytes.cache / 2, JSON.stringify(bytes));
  assertEquals(locations, [Array(4).fill("gpu-buffer"), Array(4).fill("gpu-buffer"), Array(4).fill("none")]);
  const { own, kept, coded, codedOnHost, restoreCache } = logits;
  assertEquals(kept, own);
  assertNotEquals(coded, own);
  assertEquals(coded, codedOnHost);
  assertEquals(restoreCache, coded);
  assertEquals(places, ["gpu", "gpu"]);
}

Deno.test("a cache in GPU buffers is saved, stays usable, and comes back into GPU buffers bit by bit", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kvz-gpu-" });
  await makePage(folder);
  const server = await startServer({ port: 0, folders: { "/test/": folder } });
  const browser = await openBrowser({ webgpu: true });
  try {
    const { page } = browser;
    await page.goto(`${server.url}test/index.html`);
    const outcome: Outcome = await page.evaluate("outcome");
    const onGpu = Array(4).fill("gpu-buffer");
    assertEquals(outcome.locations, { made: onGpu, saved: onGpu, restored: onGpu });
    assertEquals(outcome.equal, { adapter: true, copied: true, moved: true });
    const { own, onCpu, ...continued } = outcome.logits;
    assertEquals(own.length, 32);
    // Sums of hundreds of products, up to about 1000, in another order.
    for (const [i, logit] of own.entries()) assertAlmostEquals(logit, onCpu[i], 0.02);
    assert(own.some((logit) => Math.abs(logit) > 1));
    for (const logits of Object.values(continued)) assertEquals(logits, own);
    assert(outcome.codedRatio > 2, `file ratio ${outcome.codedRatio}`);
    checkStayed(outcome.stayed.own);
    checkStayed(outcome.stayed.plain);
    assertEquals(outcome.stayed.plain.limits, [8, 128 << 20]);
  } catch (error) {
    console.error(browser.log.join("\n"));
    throw error;
  } finally {
    await browser.close();
    await server.close();
    await Deno.remove(folder, { recursive: true });
  }
});
