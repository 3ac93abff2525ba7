/**
 * cuBLASLt's calls, against a stand-in that checks their arguments (cuda/emulate/cublaslt.cpp): on the emulated driver only,
 * since its memory is the host's.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import { paddedLength } from "../../src/backend/backend.ts";
import { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import { CublasLt } from "../../src/backend/cuda/cublaslt.ts";
import { CudaDevice } from "../../src/backend/cuda/device.ts";
import { numberToF16 } from "../../src/cache/elements.ts";
import { KvzBackendError } from "../../src/errors.ts";
import { buildCublasLt } from "../../tools/build_cuda_emulator.ts";
import { dirty, readFloats, uniform, upload } from "./backends.ts";
import { useCudaLibrary } from "./cuda_library.ts";

const VARIABLE = "KVZ_CUBLASLT";

/** With the variable set, which is put back as it was. */
async function withVariable(value: string, run: () => Promise<void>): Promise<void> {
  const before = Deno.env.get(VARIABLE);
  Deno.env.set(VARIABLE, value);
  try {
    await run();
  } finally {
    if (before === undefined) Deno.env.delete(VARIABLE);
    else Deno.env.set(VARIABLE, before);
  }
}

let emulated = false;
try {
  emulated = await useCudaLibrary();
} catch (error) {
  console.error(`Tests of cuBLASLt are left out: ${(error as Error).message}`);
}

/** Coefficients and elements back of the fused calls, in float32. */
async function fused(backend: CudaBackend): Promise<Float32Array[]> {
  const [tokens, components, blocks, dim] = [33, 72, 5, 24];
  const features = blocks * dim;
  const shape = { dtype: "f32", blocks, tokens, dim, rotaryDim: 0 } as const;
  const rows = Uint16Array.from(uniform(components * features, 1, 0.05), numberToF16);
  const basis = backend.uploadBasis(rows, components, features);
  const coefficients = dirty(backend, tokens * paddedLength(components) * 4);
  const source = upload(backend, uniform(tokens * features, 2));
  backend.gatherProject(source, shape, null, null, basis, coefficients);
  const back = dirty(backend, tokens * features * 4);
  backend.reconstructScatter(coefficients, basis, 0, shape, null, null, back);
  return [await readFloats(backend, coefficients), await readFloats(backend, back)];
}

if (emulated) {
  Deno.test("cuBLASLt computes the fused calls' products, and everything is given back", async () => {
    const path = await buildCublasLt();
    const counts = Deno.dlopen(path, {
      kvzProducts: { parameters: [], result: "i64" },
      kvzObjects: { parameters: [], result: "i64" },
    });
    await withVariable(path, async () => {
      const before = counts.symbols.kvzProducts();
      let withLibrary: Float32Array[];
      {
        const device = await CudaDevice.open();
        using backend = new CudaBackend(device, await CublasLt.open(device, 1));
        withLibrary = await fused(backend);
      }
      assertEquals(counts.symbols.kvzProducts() - before, 2n);
      assertEquals(counts.symbols.kvzObjects(), 0n);
      using own = new CudaBackend(await CudaDevice.open());
      const withKernels = await fused(own);
      for (const [i, values] of withLibrary.entries()) {
        assertEquals(values.length, withKernels[i].length);
        const worst = values.reduce((most, value, j) => Math.max(most, Math.abs(value - withKernels[i][j])), 0);
        assert(worst < 1e-4, `result ${i} differs by ${worst}`);
        assert(values.some((value) => Math.abs(value) > 0.1));
      }
    });
    counts.close();
  });

  Deno.test("a cuBLASLt that was found but does not work is passed over, and the backend says why", async () => {
    const path = await buildCublasLt();
    const library = Deno.dlopen(path, { kvzRefuse: { parameters: ["i32"], result: "i32" } });
    using device = await CudaDevice.open();
    {
      // The first is no library, the second another one.
      const found = await CublasLt.find(device, ["/nowhere/libcublasLt.so.13", "libm.so.6", path]);
      assertEquals(found.detail, path);
      found.library![Symbol.dispose]();
    }
    try {
      library.symbols.kvzRefuse(1);
      const { library: none, detail } = await CublasLt.find(device, ["libm.so.6", path]);
      assertEquals(none, null);
      assertStringIncludes(detail, "libm.so.6 has no function cublasLtCreate");
      assertStringIncludes(detail, `${path}: cublasLtCreate gave status 1`);
      const { detail: absence } = await CublasLt.find(device, ["/nowhere/a.so", "/nowhere/b.so"]);
      assertEquals(absence, "not used: none of /nowhere/a.so, /nowhere/b.so can be loaded");
      // One that is asked for is not passed over.
      for (const named of [path, "libm.so.6"]) {
        await withVariable(named, async () => {
          await assertRejects(() => CudaBackend.open(), KvzBackendError, `KVZ_CUBLASLT names ${named}, which`);
        });
      }
    } finally {
      library.symbols.kvzRefuse(0);
      library.close();
    }
    await withVariable("off", async () => {
      using backend = await CudaBackend.open();
      assertEquals(backend.cublasLt, "not used: KVZ_CUBLASLT is off");
    });
    await withVariable(path, async () => {
      using backend = await CudaBackend.open();
      assertEquals(backend.cublasLt, path);
    });
  });

  Deno.test("cuBLASLt is left alone where it is off, and named where it cannot be loaded", async () => {
    using device = await CudaDevice.open();
    await withVariable("off", async () => assertEquals(await CublasLt.open(device), null));
    await withVariable("/nowhere/libcublasLt.so", async () => {
      await assertRejects(() => CublasLt.open(device), KvzBackendError, "/nowhere/libcublasLt.so");
    });
  });
}
