/** Registers tests of the trellis kernels. */
import type { Backend } from "../../src/backend/backend.ts";
import type { GpuTrellis } from "../../src/backend/gpu/trellis.ts";
import { createBackend } from "../../src/backend/select.ts";
import { BACKENDS } from "./backends.ts";

/** Registers a test for every GPU. */
export function testTrellis(name: string, test: (backend: Backend, trellis: GpuTrellis) => Promise<void>): void {
  for (const [label, options] of BACKENDS) {
    if (label !== "cuda" && label !== "webgpu") continue;
    Deno.test(`${label}: trellis kernels: ${name}`, async () => {
      using backend = await createBackend(options);
      const trellis = backend.gpu?.trellis ?? null;
      if (trellis === null) throw new Error("the backend has no trellis kernels");
      await test(backend, trellis);
    });
  }
}
