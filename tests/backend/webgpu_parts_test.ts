import { assertEquals } from "deno-std/assert";
import { paddedLength } from "../../src/backend/backend.ts";
import { createBackend } from "../../src/backend/select.ts";
import { WebGpuInteger } from "../../src/backend/webgpu/integer.ts";
import { WebGpuTrellisEncoder } from "../../src/backend/webgpu/trellis_encoder.ts";
import type { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { numberToF16 } from "../../src/cache/elements.ts";
import { encodeTrellisReference } from "../../src/stages/quantize/trellis/reference.ts";
import { coefficients, fallingModel } from "../stages/trellis/cases.ts";
import { codeDifference, encodeBatch } from "./trellis_encoding.ts";
import { BACKENDS, dirty, firstDifference, generator, uniform, upload } from "./backends.ts";

/** Registers a test for WebGPU, with the bytes that a device binds as they are and as if they were few. */
function testLimits(name: string, few: number, run: (backend: WebGpuBackend) => Promise<Uint8Array[]>): void {
  if (!BACKENDS.some(([label]) => label === "webgpu")) return;
  Deno.test(`webgpu: ${name}`, async () => {
    using backend = await createBackend({ backend: "webgpu" }) as WebGpuBackend;
    const whole = await run(backend);
    Object.defineProperty(backend.device, "mostBytes", { value: few });
    const parts = await run(backend);
    for (const [i, bytes] of whole.entries()) assertEquals(firstDifference(bytes, parts[i]), -1, `result ${i}`);
  });
}

testLimits("products in parts give the same bits", 1 << 13, async (backend) => {
  const [tokens, components, blocks, dim] = [53, 41, 5, 24];
  const features = blocks * dim;
  const rows = Uint16Array.from(uniform(components * features, 1, 0.3), numberToF16);
  const basis = backend.uploadBasis(rows, components, features);
  const elements = upload(backend, uniform(tokens * features, 2));
  const coefficients = dirty(backend, tokens * paddedLength(components) * 4);
  const shape = { dtype: "f32", blocks, tokens, dim, rotaryDim: 0 } as const;
  backend.gatherProject(elements, shape, null, null, basis, coefficients);
  const x = dirty(backend, tokens * paddedLength(features - 8) * 4);
  backend.reconstruct(coefficients, tokens, basis, 3, features - 5, x);
  const back = dirty(backend, tokens * features * 4);
  backend.reconstructScatter(coefficients, basis, 0, shape, null, null, back);
  return await Promise.all([coefficients, x, back].map((buffer) => backend.read(buffer)));
});

testLimits("integer sums in parts, and by unpacked multiplications, give the same bits", 1 << 17, async (backend) => {
  const results: Uint8Array[] = [];
  const [tokens, components, features] = [300, 70, 600];
  const next = generator(3);
  const basis = Int8Array.from({ length: components * features }, () => Math.floor(next() * 127) - 63);
  const levels = Int16Array.from({ length: tokens * 80 }, (_, i) => {
    return i % 80 >= components ? 0 : Math.round((next() * 2 - 1) * (next() < 0.001 ? 32639 : 127));
  });
  for (const packedDot of [true, false]) {
    const integer = new WebGpuInteger(backend.device, packedDot);
    const uploaded = integer.uploadBasis(basis, components, features);
    const sums = dirty(backend, tokens * 200 * 4);
    integer.multiply(uploaded, upload(backend, levels), 80, tokens, 8, 208, sums);
    results.push(await backend.read(sums));
    const [scales, tokenScales, mean] = [200, tokens, 200].map((n) => upload(backend, uniform(n, n, 0.01)));
    // Heads that are read by vectors, and others.
    for (const [dim, rotaryDim] of [[40, 16], [25, 10]]) {
      const dst = dirty(backend, tokens * 200 * 2);
      const shape = { dtype: "f16", blocks: 200 / dim, tokens, dim, rotaryDim } as const;
      const rotation = upload(backend, uniform(tokens * rotaryDim, 5));
      integer.scatterSums(sums, shape, scales, tokenScales, rotation, mean, dst);
      results.push(await backend.read(dst));
    }
  }
  assertEquals(firstDifference(results[0], results[3]), -1);
  return results;
});

testLimits("dense layers in parts give the same bits", 1 << 13, async (backend) => {
  const [rows, inputs, outputs] = [300, 33, 41];
  const { dense } = backend.gpu;
  const layer = dense!.uploadLayer(uniform(inputs * outputs, 1), uniform(outputs, 2), inputs, outputs);
  const out = dirty(backend, rows * paddedLength(outputs) * 4);
  const x = uniform(rows * paddedLength(inputs), 3).map((value, i) => i % paddedLength(inputs) < inputs ? value : 0);
  dense!.run(layer, upload(backend, x), rows, 0.5, out);
  return [await backend.read(out)];
});

if (BACKENDS.some(([label]) => label === "webgpu")) {
  Deno.test("webgpu: a trellis in several dispatches gives the same levels", async () => {
    using backend = await createBackend({ backend: "webgpu" }) as WebGpuBackend;
    const [components, tokens] = [40, 23];
    const models = [4, 60].map((sigma) => fallingModel(components, { sigma }));
    const ys = [4, 60].map((sigma) => coefficients(components, tokens, sigma, { sigma }));
    for (const most of [1, 5 * 2 * components, 1 << 21]) {
      const encoder = new WebGpuTrellisEncoder(backend.device, most);
      const found = await encodeBatch(backend, models, ys, tokens, 0.3, null, encoder);
      for (const [i, chunk] of found.entries()) {
        const code = encodeTrellisReference(models[i], ys[i], tokens, 0.3);
        assertEquals(codeDifference(chunk, models[i], code), "", `${most} coefficients a dispatch`);
      }
    }
  });
}
