/**
 * Runs every kernel of the WebGPU backend in a page, for webgpu_test.ts.
 *
 * @module
 */
import { createWebGpuBackend, type WebGpuOptions } from "../../src/backend/webgpu/create.ts";
import { type Checked, checkKernels } from "../backend/kernel_suite.ts";

/** What was found on a device. */
export interface KernelOutcome {
  readonly adapter: string;
  readonly build: string;
  readonly checked: readonly Checked[];
}

/** What the page hands to the test: with all that the adapter has, and with the default limits and no features. */
export type KernelOutcomes = readonly [full: KernelOutcome, plain: KernelOutcome];

async function run(options: WebGpuOptions): Promise<KernelOutcome> {
  const backend = await createWebGpuBackend(options);
  const { adapter, build } = backend;
  const checked = await checkKernels(backend);
  backend[Symbol.dispose]();
  return { adapter, build, checked };
}

async function runAll(): Promise<KernelOutcomes> {
  const full = await run({});
  const device = await (await navigator.gpu.requestAdapter())!.requestDevice();
  const plain = await run({ device });
  device.destroy();
  return [full, plain];
}

Object.assign(globalThis, { outcomes: runAll() });
