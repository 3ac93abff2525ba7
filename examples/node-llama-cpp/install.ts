/**
 * Installs node-llama-cpp into `.cache/llama`: the package and the CPU library of one platform, 85 MB. A plain
 * `npm install` takes the GPU libraries of the platform too (725 MB) and runs scripts.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Version of node-llama-cpp; its bundled llama.cpp decides the format of state files. */
export const RUNTIME_VERSION = "3.22.1";

/** Folder that the runtime is installed in; KVZ_LLAMA_DIR names another. */
export function runtimeDir(): string {
  return Deno.env.get("KVZ_LLAMA_DIR") ?? fileURLToPath(new URL("../../.cache/llama", import.meta.url));
}

/** The runtime's entry module. */
export function runtimeEntry(): string {
  return `${runtimeDir()}/node_modules/node-llama-cpp/dist/index.js`;
}

/**
 * Installs the runtime with npm unless it is there.
 *
 * @throws {Error} The platform has no package that was tried, or npm failed; the message says what to do.
 */
export async function installRuntime(): Promise<void> {
  if (existsSync(runtimeEntry())) return;
  const dir = runtimeDir();
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw new Error(
      `Cannot install node-llama-cpp: only linux-x64 was tried; elsewhere run npm install node-llama-cpp@${RUNTIME_VERSION} in ${dir}`,
    );
  }
  await Deno.mkdir(dir, { recursive: true });
  // Without a package.json of its own npm would install into a folder further up.
  await Deno.writeTextFile(`${dir}/package.json`, '{ "private": true }\n');
  const packages = [`node-llama-cpp@${RUNTIME_VERSION}`, `@node-llama-cpp/linux-x64@${RUNTIME_VERSION}`];
  const flags = ["--save-exact", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"];
  const { success, stderr } = await new Deno.Command("npm", {
    args: ["install", ...packages, ...flags],
    cwd: dir,
    env: { NODE_LLAMA_CPP_SKIP_DOWNLOAD: "true" },
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success || !existsSync(runtimeEntry())) {
    throw new Error(`Cannot install node-llama-cpp: npm failed (${new TextDecoder().decode(stderr).trim()})`);
  }
}

if (import.meta.main) {
  await installRuntime();
  console.log(`node-llama-cpp ${RUNTIME_VERSION} is in ${runtimeDir()}`);
}
