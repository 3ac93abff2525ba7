/**
 * Runs every kernel of the WebGPU backend in Node and prints what was found as JSON. Bundled by webgpu_test.ts.
 *
 * @module
 */
import { createBackend } from "../../src/backend/select.ts";
import type { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { checkKernels } from "../backend/kernel_suite.ts";

const backend = await createBackend({ backend: "webgpu" }) as WebGpuBackend;
const checked = await checkKernels(backend);
console.log(JSON.stringify({ adapter: backend.adapter, build: backend.build, checked }));
backend[Symbol.dispose]();
