/** What is said where CUDA cannot be used, and which device is. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import { createBackend, listBackends } from "../../../src/backend/select.ts";
import { Lanes } from "../../../src/codec/lanes.ts";
import { KvzBackendError } from "../../../src/errors.ts";
import { DENO, exec } from "../../../tools/exec.ts";
import { testEmulated, withVariable } from "./emulator.ts";

async function refusal(): Promise<string> {
  const error = await assertRejects(() => createBackend({ backend: "cuda" }), KvzBackendError);
  return error.message;
}

Deno.test("a driver library that is absent is named", async () => {
  await withVariable("KVZ_CUDA_LIBRARY", "/nowhere/libcuda.so.1", async () => {
    assertStringIncludes(await refusal(), "no library /nowhere/libcuda.so.1");
    const [cuda] = await listBackends();
    assertEquals([cuda.name, cuda.available], ["cuda", false]);
    assertStringIncludes(cuda.reason, "no library /nowhere/libcuda.so.1");
    using backend = await createBackend();
    assert(backend.name !== "cuda");
  });
});

Deno.test("a library that is no driver is refused", async () => {
  await withVariable("KVZ_CUDA_LIBRARY", "libm.so.6", async () => {
    assertStringIncludes(await refusal(), "has no function cuDriverGetVersion");
  });
});

testEmulated("a driver that is too old is refused with both versions", { driverVersion: 11080 }, async () => {
  assertStringIncludes(await refusal(), "the driver is for CUDA 11.8, expected 12.0 or later");
});

testEmulated("a driver without devices is told so", { devices: 0 }, async () => {
  assertStringIncludes(await refusal(), "finds no device");
});

testEmulated("a device that is too old is refused", { capability: 70 }, async () => {
  assertStringIncludes(await refusal(), "compute capability is 7.0, expected 8.0 or later");
});

testEmulated("devices are chosen by number", { devices: 2 }, async () => {
  (await createBackend({ backend: "cuda", device: 1 }))[Symbol.dispose]();
  const error = await assertRejects(() => createBackend({ backend: "cuda", device: 2 }), KvzBackendError);
  assertStringIncludes(error.message, "cuda device 2: the driver finds 2");
  await assertRejects(() => createBackend({ backend: "cuda", device: { lost: Promise.resolve(), queue: {} } }));
  await assertRejects(() => createBackend({ backend: "wasm", device: 1 }), KvzBackendError, '"device"');
  await assertRejects(() => createBackend({ backend: "cuda", build: "simd" }), KvzBackendError, "for wasm");
});

testEmulated(
  "a library that the environment names is listed, and taken only when asked for",
  { capability: 90 },
  async () => {
    const [cuda] = await listBackends();
    assertEquals([cuda.name, cuda.available], ["cuda", true]);
    assertStringIncludes(cuda.reason, "not used: emulated, sm_90; must be asked for");
    using backend = await createBackend();
    assert(backend.name !== "cuda");
  },
);

testEmulated("without memory pools memory comes from the device itself", { pools: 0 }, async (emulator) => {
  using backend = await createBackend({ backend: "cuda" });
  const before = emulator.count("bytes");
  const buffer = backend.alloc(1000);
  backend.write(buffer, new Uint8Array(1000).fill(7));
  assertEquals(emulator.count("bytes") - before, 1000);
  assertEquals((await backend.read(buffer, 999))[0], 7);
  buffer.free();
  assertEquals(emulator.count("bytes"), before);
});

testEmulated("a driver that is there but fails is told by auto, and tried again", {}, async (emulator) => {
  const at = (path: string) => JSON.stringify(new URL(`../../../${path}`, import.meta.url).href);
  // Found by its usual name: one that the environment names has to be asked for.
  const code = `import { openCodec } from ${at("src/codec/open.ts")};
    const library = Deno.dlopen("libcuda.so.1", { kvzEmulate: { parameters: ["buffer", "i64"], result: "i32" } });
    for (const code of [999, 803, 2, 34, 0]) {
      library.symbols.kvzEmulate(new TextEncoder().encode("init\\0"), BigInt(code));
      const { info } = await openCodec(null);
      console.log(JSON.stringify([code, info.backend, info.fallback ?? null]));
    }
    Deno.exit(0);`;
  const dir = await Deno.makeTempDir();
  try {
    await Deno.symlink(emulator.path, `${dir}/libcuda.so.1`);
    await Deno.writeTextFile(`${dir}/script.ts`, code);
    const env = { LD_LIBRARY_PATH: dir, KVZ_CUDA_LIBRARY: "" };
    const { out } = await exec([DENO, "run", "-A", "--no-check", `${dir}/script.ts`], { env });
    const failed = (name: string) => `Cannot use the cuda backend: its driver does not start: ${name}`;
    assertEquals(out.trim().split("\n").map((line) => JSON.parse(line)), [
      [999, "wasm", failed("CUDA_ERROR_UNKNOWN (999)")],
      [803, "wasm", failed("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)")],
      [2, "wasm", failed("CUDA_ERROR_OUT_OF_MEMORY (2)")],
      [34, "wasm", failed("CUDA_ERROR_STUB_LIBRARY (34)")],
      [0, "cuda", null],
    ]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("threads are for the host's processors", async () => {
  for (const backend of ["cuda", "webgpu"] as const) {
    const error = await assertRejects(() => Lanes.open({ backend, threads: 2 }, createBackend), RangeError);
    assertStringIncludes(error.message, '"threads": it is 2, expected 1 with a GPU');
  }
});

testEmulated("Deno without the permission is told the flag, and asks nobody", {}, async (emulator) => {
  const url = new URL("../../../src/backend/select.ts", import.meta.url);
  const code = `import { createBackend, listBackends } from ${JSON.stringify(url.href)};
    console.log((await listBackends())[0].reason);
    await createBackend({ backend: "cuda" }).catch((error) => console.log(error.name, error.message));`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, code);
    const env = { KVZ_CUDA_LIBRARY: emulator.path };
    const { out } = await exec([DENO, "run", "--no-check", "--allow-env", file], { env });
    const [reason, error] = out.trim().split("\n");
    assertStringIncludes(reason, "run with --allow-ffi");
    assertStringIncludes(error, "KvzBackendError Cannot use the cuda backend: loading");
    // Without leave to read the variable the driver itself is looked for.
    const { out: other } = await exec([DENO, "run", "--no-check", file], { env });
    assertStringIncludes(other, "loading libcuda.so.1 needs permission");
    // One for this library alone loads it, but does not let its memory be read.
    const partly = [DENO, "run", "--no-check", "--allow-env", "--allow-sys", `--allow-ffi=${emulator.path}`, file];
    const { out: third } = await exec(partly, { env });
    for (const line of third.trim().split("\n")) {
      assertStringIncludes(line, `loading ${emulator.path} and reading its memory needs --allow-ffi without a path`);
    }
  } finally {
    await Deno.remove(file);
  }
});
