/** What doctor says of GPUs is what auto does with them. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { Command } from "commander";
import { addDoctor } from "../../cli/commands/doctor.ts";
import { addBackendOptions } from "../../cli/options.ts";
import { type BackendStatus, listBackends } from "../../src/backend/select.ts";
import { gpuWith, runWithGpu } from "./with_gpu.ts";

interface Said {
  readonly auto: { readonly ok: boolean; readonly detail: string; readonly fallback?: string };
  readonly backends: readonly BackendStatus[];
}

async function doctor(gpu: object): Promise<{ readonly said: Said; readonly text: string }> {
  return await runWithGpu(gpu, addDoctor, ["doctor"]) as { said: Said; text: string };
}

Deno.test("doctor: a GPU that cannot be opened is not used, wasm is, and why it stands in is said", async () => {
  const refusing = gpuWith("Fast GPU", () => Promise.reject(new Error("no memory left")), null);
  const { said, text } = await doctor(refusing);
  assertEquals(said.auto.detail, "wasm relaxed");
  assertStringIncludes(said.auto.fallback!, "no memory left");
  assertStringIncludes(text, "takes wasm relaxed in place of a GPU that fails: Cannot open a WebGPU device");
  const used = said.backends.filter(({ reason }) => reason.startsWith("used"));
  assertEquals(used.map(({ name, build }) => `${name} ${build}`), ["wasm relaxed"]);
  const webgpu = said.backends.find(({ name }) => name === "webgpu")!;
  assertEquals([webgpu.available, webgpu.reason], [false, "Cannot open a WebGPU device: no memory left"]);
});

Deno.test("doctor: the adapter's place, and what the commands take with more threads than one", async () => {
  const real = await navigator.gpu?.requestAdapter();
  if (!real) {
    assert(!/webgpu/.test(Deno.env.get("KVZ_REQUIRE") ?? ""), "there is no adapter");
    return;
  }
  const software = await doctor(gpuWith("llvmpipe", () => real.requestDevice(), real));
  assertEquals([software.said.auto.detail, software.said.auto.fallback], ["wasm relaxed", undefined]);
  assertStringIncludes(software.said.backends.find(({ name }) => name === "webgpu")!.reason, "not used");
  const fast = await doctor(gpuWith("Fast GPU", () => real.requestDevice(), real));
  assertStringIncludes(fast.said.auto.detail, "webgpu");
  assertStringIncludes(fast.text, "with one thread (--threads 1), with more wasm relaxed");
  const wasm = fast.said.backends.find(({ name }) => name === "wasm")!;
  assertStringIncludes(wasm.reason, "not used with one thread: webgpu is there");
});

Deno.test("listed reasons follow what failed at opening", async () => {
  const list = await listBackends(new Map([["cuda", "no memory"], ["webgpu", "lost"]]));
  assertEquals(list.slice(0, 2).map(({ available, reason }) => `${available} ${reason}`), [
    "false no memory",
    "false lost",
  ]);
  assertStringIncludes(list[2].reason, "used: the fastest build");
});

Deno.test("the option names every backend that can be asked for", () => {
  const help = addBackendOptions(new Command()).helpInformation();
  for (const name of ["auto", "cuda", "webgpu", "wasm", "reference"]) assertStringIncludes(help, name);
});
