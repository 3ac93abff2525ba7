/** Kernels with the shared memory that devices of each compute capability give a block. */
import { assertEquals, assertThrows } from "deno-std/assert";
import { levelStride } from "../../../src/backend/gpu/trellis.ts";
import { CudaBackend } from "../../../src/backend/cuda/cuda_backend.ts";
import { CudaDevice } from "../../../src/backend/cuda/device.ts";
import { mostTableBytes } from "../../../src/backend/cuda/entropy_uploads.ts";
import { CudaGemm } from "../../../src/backend/cuda/gemm.ts";
import { CudaInteger } from "../../../src/backend/cuda/integer.ts";
import { KvzBackendError } from "../../../src/errors.ts";
import { encodeBatch, layOut, randomBatch, referenceStreams, throughDevice } from "../../stages/rans_gpu_cases.ts";
import { fallingModel } from "../../stages/trellis/cases.ts";
import { dirty, upload } from "../backends.ts";
import { encodeBatch as encodeTrellis } from "../trellis_encoding.ts";
import { testEmulated } from "./emulator.ts";

/** Capabilities, and KiB of shared memory that a block may have. */
const DEVICES = [[80, 163], [86, 99], [90, 227], [120, 99]] as const;

Deno.test("tables in shared memory leave room for the rings, on every device", () => {
  assertEquals(mostTableBytes(227 << 10), { shared: 128 << 10, sought: 192 << 10 });
  for (const kib of [163, 99]) assertEquals(mostTableBytes(kib << 10), { shared: 48 << 10, sought: 64 << 10 });
  assertEquals(mostTableBytes(64 << 10), { shared: 32 << 10, sought: 32 << 10 });
  assertEquals(mostTableBytes(16 << 10), { shared: 0, sought: 0 });
});

for (const [capability, kib] of DEVICES) {
  testEmulated(`rANS is the reference's on compute capability ${capability / 10}`, { capability }, async () => {
    using backend = await CudaBackend.open();
    assertEquals(backend.device.facts.sharedBytes, kib << 10);
    for (const variant of ["plain", "trellis"] as const) {
      // 128 tables by slot are too many for any device, and the sought ones for those of 99 KiB; 40 of few symbols fit.
      for (const [tables, alphabet] of [[12, 200], [40, 20], [128, 200]]) {
        for (const streams of [3, 70]) {
          const batch = randomBatch({
            ...{ streams, rows: 4, tokens: 40, variant, bits: 11, tables, alphabet },
            ...{ decay: 0.97, shared: false, seed: 6 },
          });
          const wanted = referenceStreams(batch);
          const { bytes, begins, lengths } = await encodeBatch(backend, backend.gpu.entropy!, batch);
          assertEquals(begins, layOut(wanted, 4).begins);
          for (const [i, stream] of wanted.entries()) {
            assertEquals(bytes.subarray(begins[i], begins[i] + lengths[i]), stream);
          }
          const back = await throughDevice(backend, backend.gpu.entropy!, batch);
          assertEquals(back, { symbols: batch.symbols, status: new Uint32Array(streams) }, `${variant}, ${tables}`);
        }
      }
    }
  });
}

testEmulated("the largest blocks of every kernel start with 99 KiB", { capability: 86 }, async () => {
  using backend = await CudaBackend.open();
  const { device } = backend;
  const zeros = upload(backend, new Uint8Array(1 << 17));
  const c = dirty(backend, 8 * 256 * 4);
  const b = device.address(zeros);
  for (const tile of [256, 128, 64]) {
    for (const order of ["ByRows", "ByColumns"] as const) {
      const product = { a: zeros, lda: 8, b, ldb: 256, c, m: 8, n: 256, k: 8, limit: 256 };
      new CudaGemm(device, null, tile).halves(order, product, 1);
    }
    const integer = new CudaInteger(device, tile);
    const basis = integer.uploadBasis(new Int8Array(64 * 256), 64, 256);
    integer.multiply(basis, zeros, 64, 8, 0, 256, c);
    basis.free();
  }
  // The widest slice of a plan that a block stages, and the most components of a trellis.
  const plan = backend.uploadPlan([{ first: 0, size: 4096, type: 2 }]);
  backend.quantize(zeros, 4096, 1, plan, zeros, c);
  const components = 4096;
  await encodeTrellis(backend, [fallingModel(components, { sigma: 3 })], [new Int32Array(components)], 1, 0.3, null);
  assertEquals(18 * levelStride(components) < 99 << 10, true);
  await backend.read(c);
});

testEmulated("the driver refuses more shared memory than a block may have", { capability: 120 }, async () => {
  using device = await CudaDevice.open();
  const launch = (kernel: string, threads: number, shared: number) => () =>
    device.launch("integer", kernel, { grid: [1, 1, 1], block: [threads, 1, 1], shared }, []);
  // The kernel has 2,064 bytes of its own.
  assertThrows(launch("bytes256", 256, (99 << 10) - 2048), KvzBackendError, "CUDA_ERROR_INVALID_VALUE (1)");
  assertThrows(launch("bytes256", 512, 0), KvzBackendError, "CUDA_ERROR_INVALID_VALUE (1)");
});
