/**
 * The kernels of the WebGPU backend in Chromium and in Node (Dawn, npm "webgpu"), both computed by the SwiftShader that
 * Debian's Chromium brings. Node's package is installed on the way.
 */
import { assertEquals } from "deno-std/assert";
import { openBrowser } from "../../examples/browser/browser.ts";
import { bundle } from "../../examples/browser/bundle.ts";
import { startServer } from "../../examples/browser/serve.ts";
import type { KernelOutcome, KernelOutcomes } from "./webgpu_page.ts";

const PACKAGE = "webgpu@0.6.2";
const DIR = ".cache/webgpu";
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** Every kernel is right, in builds as expected. */
function assertAllRight(outcomes: readonly KernelOutcome[], builds: readonly string[]): void {
  assertEquals(outcomes.map(({ build }) => build), builds);
  for (const { checked } of outcomes) {
    assertEquals(checked.filter(({ difference }) => difference !== ""), []);
    assertEquals(checked.length > 60, true);
  }
}

Deno.test("every kernel is right in Chromium, with subgroups, and with the default limits without", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kvz-webgpu-" });
  await bundle([new URL("webgpu_page.ts", import.meta.url)], folder);
  const page =
    '<!doctype html><html lang="en"><title>WebGPU</title><script type="module" src="webgpu_page.js"></script>';
  await Deno.writeTextFile(`${folder}/index.html`, page);
  const server = await startServer({ port: 0, folders: { "/test/": folder } });
  const browser = await openBrowser({ webgpu: true });
  try {
    await browser.page.goto(`${server.url}test/index.html`);
    const outcomes: KernelOutcomes = await browser.page.evaluate("outcomes");
    assertAllRight(outcomes, ["subgroups", "base"]);
  } catch (error) {
    console.error(browser.log.join("\n"));
    throw error;
  } finally {
    await browser.close();
    await server.close();
    await Deno.remove(folder, { recursive: true });
  }
});

/** Installs Node's WebGPU once. */
async function installDawn(): Promise<void> {
  const manifest = JSON.stringify({ private: true, dependencies: { webgpu: PACKAGE.split("@")[1] } });
  await Deno.mkdir(DIR, { recursive: true });
  const there = await Deno.readTextFile(`${DIR}/package.json`).catch(() => "");
  const installed = await Deno.stat(`${DIR}/node_modules/webgpu/package.json`).then(() => true, () => false);
  if (there === manifest && installed) return;
  await Deno.writeTextFile(`${DIR}/package.json`, manifest);
  const { success, stderr } = await new Deno.Command("npm", {
    args: ["install", "--ignore-scripts", "--no-audit", "--no-fund"],
    cwd: DIR,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`npm install ${PACKAGE} failed: ${new TextDecoder().decode(stderr)}`);
}

Deno.test("every kernel is right in Node, with subgroups and without", async () => {
  await installDawn();
  // Beside node_modules, where the bundle looks for the package.
  await bundle([new URL("webgpu_node.ts", import.meta.url)], await Deno.realPath(DIR));
  await Deno.rename(`${DIR}/webgpu_node.js`, `${DIR}/webgpu_node.mjs`);
  const runtimeDir = await Deno.makeTempDir({ prefix: "kvz-xdg-" });
  try {
    const { success, stdout, stderr } = await new Deno.Command("node", {
      args: ["webgpu_node.mjs"],
      cwd: DIR,
      env: { VK_ICD_FILENAMES: SWIFTSHADER, XDG_RUNTIME_DIR: runtimeDir },
    }).output();
    assertEquals(success, true, new TextDecoder().decode(stderr));
    assertAllRight(JSON.parse(new TextDecoder().decode(stdout)), ["subgroups", "base"]);
  } finally {
    await Deno.remove(runtimeDir, { recursive: true });
  }
});
