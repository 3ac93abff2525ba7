import { assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import { KvzBackendError } from "../../src/errors.ts";
import { type BackendName, type BackendStatus, createBackend, listBackends } from "../../src/backend/select.ts";
import { detectBuild, supportsBuild } from "../../src/backend/wasm/detect.ts";
import { WASM_BUILDS, type WasmBuild } from "../../src/backend/wasm/exports.ts";
import { inlinedModule } from "../../src/backend/wasm/inlined.ts";

async function compiled(build: WasmBuild): Promise<WebAssembly.Module> {
  return await WebAssembly.compile(await inlinedModule(build));
}

/** Runs with an engine that refuses to validate whatever `refuses` names. */
async function withEngine(refuses: readonly WasmBuild[], run: () => Promise<void>): Promise<void> {
  const { validate } = WebAssembly;
  const opcode: Partial<Record<WasmBuild, number>> = { simd: 0x13, relaxed: 0x85 };
  WebAssembly.validate = (bytes) =>
    !refuses.some((build) => new Uint8Array(bytes as ArrayBuffer).includes(opcode[build]!)) && validate(bytes);
  try {
    await run();
  } finally {
    WebAssembly.validate = validate;
  }
}

async function wasmRows(): Promise<BackendStatus[]> {
  return (await listBackends()).filter(({ name }) => name === "wasm");
}

/** The GPU that the list says is used, if any. */
async function listedGpu(): Promise<string | undefined> {
  return (await listBackends()).find(({ reason }) => reason.startsWith("used with one thread"))?.name;
}

Deno.test("auto takes what the list says is used, and each build of wasm can be asked for", async () => {
  const gpu = await listedGpu();
  using best = await createBackend();
  assertEquals(best.name, gpu ?? "wasm");
  using host = await createBackend({ build: "auto" });
  assertEquals([host.name, host.build], ["wasm", "relaxed"]);
  for (const build of WASM_BUILDS) {
    using backend = await createBackend({ backend: "wasm", build });
    assertEquals(backend.build, build);
  }
  using reference = await createBackend({ backend: "reference" });
  assertEquals([reference.name, reference.build], ["reference", "float64"]);
});

Deno.test("a given module is taken as it is, whatever build it says to be", async () => {
  for (const build of WASM_BUILDS) {
    using backend = await createBackend({ module: await compiled(build) });
    assertEquals(backend.build, build);
    using named = await createBackend({ module: await compiled(build), build });
    assertEquals(named.build, build);
  }
  await assertRejects(
    async () => await createBackend({ module: await compiled("simd"), build: "base" }),
    KvzBackendError,
    "it is the simd build, expected base",
  );
  const other = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
  await assertRejects(() => createBackend({ module: other }), KvzBackendError, "not kvz's codec module");
});

Deno.test("modules need nothing from their host", async () => {
  for (const build of WASM_BUILDS) assertEquals(WebAssembly.Module.imports(await compiled(build)), []);
});

Deno.test("unknown and absent backends are refused with what there is", async () => {
  for (const backend of ["abacus", "opencl"]) {
    const error = await assertRejects(() => createBackend({ backend: backend as BackendName }), KvzBackendError);
    assertStringIncludes(error.message, backend);
    assertStringIncludes(error.message, "webgpu, wasm (base, simd, relaxed) and reference");
  }
  await assertRejects(() => createBackend({ build: "fast" as "simd" }), RangeError, "it is fast");
  await assertRejects(() => createBackend({ backend: "reference", build: "simd" }), KvzBackendError, "for wasm");
});

Deno.test("an engine without relaxed SIMD takes simd, one without SIMD base; more is refused by name", async () => {
  await withEngine(["relaxed"], async () => {
    assertEquals(WASM_BUILDS.map(supportsBuild), [true, true, false]);
    using backend = await createBackend({ backend: "wasm" });
    assertEquals(backend.build, "simd");
    await assertRejects(() => createBackend({ build: "relaxed" }), KvzBackendError, "relaxed build");
    assertEquals((await wasmRows()).map(({ available }) => available), [false, true, true]);
  });
  await withEngine(["relaxed", "simd"], async () => {
    assertEquals(detectBuild(), "base");
    using backend = await createBackend({ backend: "wasm" });
    assertEquals(backend.build, "base");
    await assertRejects(() => createBackend({ build: "simd" }), KvzBackendError, "simd build");
  });
});

Deno.test("a runtime that forbids compiling is told of the edge entry; the next try compiles anew", async () => {
  const { compile } = WebAssembly;
  // A fresh copy of the module: nothing is compiled in it yet.
  const { createWasmBackend } = await import(
    "../../src/backend/wasm/create.ts?forbidden"
  ) as typeof import("../../src/backend/wasm/create.ts");
  WebAssembly.compile = () => Promise.reject(new Error("Wasm code generation disallowed by embedder"));
  try {
    await assertRejects(() => createWasmBackend(), KvzBackendError, "/edge");
  } finally {
    WebAssembly.compile = compile;
  }
  using backend = await createWasmBackend();
  assertEquals(backend.build, "relaxed");
});

Deno.test("an engine without WebAssembly is told so", async () => {
  const { WebAssembly } = globalThis;
  Reflect.deleteProperty(globalThis, "WebAssembly");
  try {
    assertEquals(detectBuild(), null);
    await assertRejects(() => createBackend({ backend: "wasm" }), KvzBackendError, "no WebAssembly");
    const { reason } = (await wasmRows())[0];
    assertStringIncludes(reason, "no WebAssembly");
  } finally {
    Object.defineProperty(globalThis, "WebAssembly", {
      value: WebAssembly,
      configurable: true,
      writable: true,
      enumerable: false,
    });
  }
});

Deno.test("the list names every backend with a reason, one of them used", async () => {
  const list = await listBackends();
  assertEquals(list.map(({ name, build }) => `${name} ${build}`.trim()), [
    "cuda",
    "webgpu",
    "wasm relaxed",
    "wasm simd",
    "wasm base",
    "reference float64",
  ]);
  assertEquals(list.filter(({ reason }) => reason.startsWith("used")).length, 1);
  for (const { reason } of list) assertEquals(reason.length > 0, true);
});
