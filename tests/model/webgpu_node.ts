/**
 * Runs every kernel of the WebGPU backend in Node, with subgroups and without, and prints what was found as JSON. Bundled
 * by webgpu_test.ts.
 *
 * @module
 */
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import { checkKernels } from "../backend/kernel_suite.ts";

const outcomes: unknown[] = [];
for (const subgroups of [true, false]) {
  const backend = await createWebGpuBackend({ subgroups });
  outcomes.push({ adapter: backend.adapter, build: backend.build, checked: await checkKernels(backend) });
  backend[Symbol.dispose]();
}
console.log(JSON.stringify(outcomes));
