/** The CUDA backend in Node: a bundle of node_script.ts, run beside koffi and without it. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { DENO, run } from "../../../tools/exec.ts";
import { testEmulated } from "./emulator.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;

/** Runs the script in Node from a folder, whose parents decide which packages it finds. */
async function inNode(dir: string, library: string): Promise<Record<string, unknown>> {
  const bundle = `${dir}/script.mjs`;
  await run([DENO, "bundle", "--quiet", "-o", bundle, `${ROOT}tests/backend/cuda/node_script.ts`], { cwd: ROOT });
  const { out } = await run(["node", bundle], { env: { KVZ_CUDA_LIBRARY: library } });
  return JSON.parse(out);
}

async function withFolder(parent: string | undefined, test: (dir: string) => Promise<void>): Promise<void> {
  if (parent !== undefined) await Deno.mkdir(parent, { recursive: true });
  const dir = await Deno.makeTempDir({ dir: parent });
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

testEmulated("Node computes the same through koffi", {}, async (emulator) => {
  await withFolder(`${ROOT}node_modules/.kvz_tests`, async (dir) => {
    const { available, worst, scale, refused } = await inNode(dir, emulator.path);
    assertEquals([available, scale], [true, 0x3800]);
    assert(worst as number <= 1 / 56, `off by ${worst}`);
    assertStringIncludes(refused as string, "Cannot allocate 1099511627776 bytes on cuda device 0");
    const gone = await inNode(dir, "/nowhere/libcuda.so.1");
    assertEquals(gone.available, false);
    assertStringIncludes(gone.error as string, "KvzBackendError: Cannot use the cuda backend: no library /nowhere");
  });
});

testEmulated("Node without koffi is told what to install", {}, async (emulator) => {
  await withFolder(undefined, async (dir) => {
    const { available, detail } = await inNode(dir, emulator.path);
    assertEquals(available, false);
    assertStringIncludes(detail as string, "npm install koffi");
  });
});
