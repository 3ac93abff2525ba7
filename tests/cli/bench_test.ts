/** What `kvz bench` says of backends that it cannot measure. */
import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { addBench } from "../../cli/commands/bench.ts";
import { KvzBackendError } from "../../src/errors.ts";
import { gpuWith, runWithGpu } from "./with_gpu.ts";

/** A GPU that is listed, and fails when it is opened. */
const refusing = gpuWith("Fast GPU", () => Promise.reject(new Error("no memory left")), null);

Deno.test("bench: a GPU that is there but does not open is left out with the reason, the others are measured", async () => {
  const args = ["bench", "--seconds", "0.0001", "--tokens", "16"];
  const { said, text } = await runWithGpu(refusing, addBench, args);
  const { backends, left } = said as {
    backends: { backend: string }[];
    left: { backend: string; build: string; reason: string }[];
  };
  assert(backends.length > 0 && backends.every(({ backend }) => backend === "wasm"));
  const webgpu = left.find(({ backend }) => backend === "webgpu")!;
  assertEquals(webgpu.reason, "Cannot open a WebGPU device: no memory left");
  assert(text.includes("not measured, Cannot open a WebGPU device: no memory left"));
  await assertRejects(
    () => runWithGpu(refusing, addBench, [...args, "--backend", "webgpu"]),
    KvzBackendError,
    "no memory left",
  );
});
