/**
 * Runs every kernel of the WebGPU backend in a page, for webgpu_test.ts.
 *
 * @module
 */
import { createBackend } from "../../src/backend/select.ts";
import { WebGpuDevice } from "../../src/backend/webgpu/device.ts";
import { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { type Checked, checkKernels } from "../backend/kernel_suite.ts";

/** What the page hands to the test. */
export interface KernelOutcome {
  readonly adapter: string;
  readonly build: string;
  readonly checked: readonly Checked[];
  /** With a device of WebGPU's default limits and no features. */
  readonly plain: { readonly build: string; readonly checked: readonly Checked[] };
}

async function run(): Promise<KernelOutcome> {
  const backend = await createBackend({ backend: "webgpu" }) as WebGpuBackend;
  const checked = await checkKernels(backend);
  const { adapter, build } = backend;
  backend[Symbol.dispose]();
  const device = await (await navigator.gpu.requestAdapter())!.requestDevice();
  const plain = new WebGpuBackend(new WebGpuDevice({ device, adapter: "", own: true }));
  const outcome = { adapter, build, checked, plain: { build: plain.build, checked: await checkKernels(plain) } };
  plain[Symbol.dispose]();
  return outcome;
}

Object.assign(globalThis, { outcome: run() });
