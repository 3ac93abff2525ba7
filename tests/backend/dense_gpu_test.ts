import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type Backend, paddedLength } from "../../src/backend/backend.ts";
import type { GpuDense } from "../../src/backend/gpu/dense.ts";
import { createBackend } from "../../src/backend/select.ts";
import { WebGpuDense } from "../../src/backend/webgpu/dense.ts";
import type { Dispatch, WebGpuDevice } from "../../src/backend/webgpu/device.ts";
import type { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { KvzBackendError } from "../../src/errors.ts";
import { type DenseLayer, openNets, productLayer } from "../../src/stages/transform/dense.ts";
import { GpuNet } from "../../src/stages/transform/dense_gpu.ts";
import { HostNet } from "../../src/stages/transform/dense_host.ts";
import { ReferenceNet } from "../../src/stages/transform/dense_reference.ts";
import { BACKENDS, dirty, firstDifference, generator, uniform } from "./backends.ts";
import { casesFor } from "../cases.ts";

const GPUS = BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu");

/** Whether the devices are those of CI, which keep small numbers and round to nearest. */
const REQUIRED = Deno.env.get("KVZ_REQUIRE") !== undefined;

/** Registers a test for every backend of a GPU. */
function testGpus(name: string, test: (backend: Backend, dense: GpuDense) => Promise<void> | void): void {
  for (const [label, options] of GPUS) {
    Deno.test(`${label}: ${name}`, async () => {
      using backend = await createBackend(options);
      const dense = backend.gpu?.dense ?? null;
      if (dense === null) throw new Error("The backend has no dense kernels");
      await test(backend, dense);
    });
  }
}

/** Numbers of sizes from 2^-spread to 1, some zero. */
function numbers(length: number, seed: number, spread: number): Float32Array {
  const next = generator(seed);
  return Float32Array.from({ length }, () => next() < 0.05 ? 0 : (2 * next() - 1) * 2 ** -Math.floor(spread * next()));
}

function layersOf(widths: readonly number[], slope: number, seed: number, spread: number): DenseLayer[] {
  return widths.slice(1).map((outputs, i) => ({
    inputs: widths[i],
    outputs,
    weights: numbers(widths[i] * outputs, seed + i, spread),
    bias: i % 2 === 0 ? numbers(outputs, seed + 10 + i, spread) : null,
    slope: i + 2 < widths.length ? slope : 1,
  }));
}

const anyNet = fc.record({
  rows: fc.constantFrom(0, 1, 3, 63, 64, 65, 130),
  widths: fc.array(fc.constantFrom(1, 4, 7, 8, 16, 17, 63, 64, 65, 96), { minLength: 2, maxLength: 4 }),
  slope: fc.constantFrom(1, 0, 0.01, 0.3, 2),
  // Products of numbers of 2^-80 are subnormal.
  spread: fc.constantFrom(0, 8, 40, 80),
  seed: fc.nat({ max: 1 << 20 }),
});

testGpus("dense layers give the reference's bits", async (backend, dense) => {
  if (!await dense.exact() && !REQUIRED) {
    console.error("This device does not round as the host does: its dense kernels are not used");
    return;
  }
  await fc.assert(
    fc.asyncProperty(anyNet, async ({ rows, widths, slope, spread, seed }) => {
      const layers = layersOf(widths, slope, seed, spread);
      const x = numbers(rows * widths[0], seed + 100, spread);
      using gpu = new GpuNet(backend, dense, layers);
      using host = new ReferenceNet(layers);
      assertEquals(firstDifference(await gpu.run(x), host.run(x.slice())), -1);
    }),
    { numRuns: casesFor(40) },
  );
});

testGpus("dense layers are what float64 gives, within (inputs + 2) · 2^-24 of the terms", async (backend, dense) => {
  const [rows, inputs, outputs, slope] = [70, 192, 100, Math.fround(0.01)];
  const [x, weights, bias] = [rows * inputs, inputs * outputs, outputs].map((n, i) => uniform(n, i + 1));
  using net = new GpuNet(backend, dense, [{ inputs, outputs, weights, bias, slope }]);
  const found = await net.run(x);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < outputs; j++) {
      let [sum, size] = [bias[j], Math.abs(bias[j])];
      for (let i = 0; i < inputs; i++) {
        const product = x[r * inputs + i] * weights[i * outputs + j];
        sum += product;
        size += Math.abs(product);
      }
      const wanted = sum < 0 ? sum * slope : sum;
      assert(Math.abs(found[r * outputs + j] - wanted) <= (inputs + 2) * 2 ** -24 * size);
    }
  }
});

testGpus("padding of results is zero; views begin where they do; many rows go in slices", async (backend, dense) => {
  const [rows, inputs, outputs] = [5, 9, 10];
  const [stride, columns] = [paddedLength(inputs), paddedLength(outputs)];
  const layer = dense.uploadLayer(uniform(inputs * outputs, 1), uniform(outputs, 2), inputs, outputs);
  const all = backend.alloc(256 + rows * stride * 4);
  const x = new Float32Array(rows * stride).map((_, i) => i % stride < inputs ? i / 7 : 0);
  backend.write(all, x, 256);
  const out = dirty(backend, 512 + rows * columns * 4);
  const begin = backend.view(all, 256, rows * stride * 4);
  dense.run(layer, begin, rows, 1, backend.view(out, 512, rows * columns * 4));
  const words = new Uint32Array((await backend.read(out)).buffer);
  assert(words.subarray(0, 128).every((word) => word === 0xffffffff));
  words.subarray(128).forEach((word, i) => assertEquals(word === 0, i % columns >= outputs));
  layer.free();
  const layers = layersOf([30, 70, 3], 0.1, 5, 0);
  const many = uniform(700 * 30, 3);
  using gpu = new GpuNet(backend, dense, layers, 100 * 72 * 4);
  using host = new ReferenceNet(layers);
  assertEquals(firstDifference(await gpu.run(many), host.run(many.slice())), -1);
});

testGpus("dense layers refuse what does not fit", (backend, dense) => {
  assertThrows(() => dense.uploadLayer(new Float32Array(5), null, 2, 3), RangeError, "5 weights");
  assertThrows(() => dense.uploadLayer(new Float32Array(6), new Float32Array(2), 2, 3), RangeError, "2 biases");
  const layer = dense.uploadLayer(new Float32Array(6), null, 2, 3);
  const eight = backend.alloc(32);
  assertThrows(() => dense.run(layer, eight, 2, 1, backend.alloc(64)), RangeError, '"rows" has 32 bytes');
  assertThrows(() => dense.run(layer, backend.alloc(64), 2, 1, eight), RangeError, '"out" has 32 bytes');
  assertThrows(() => dense.run(layer, eight, 1, 0.01, eight), RangeError, '"slope" is 0.01');
  assertThrows(() => dense.run(layer, eight, -1, 1, eight), RangeError, '"count"');
  assertThrows(() => dense.run({ ...layer }, eight, 1, 1, eight), KvzBackendError, "another backend");
  layer.free();
});

/** A device on which a shader's text is another. */
function spoiled(device: WebGpuDevice, change: (text: string) => string): WebGpuDevice {
  return new Proxy(device, {
    get(target, name) {
      if (name === "dispatch") {
        return (run: Dispatch) =>
          target.dispatch({ ...run, shader: { name: "spoiled", text: change(run.shader.text) } });
      }
      const found = Reflect.get(target, name, target);
      return typeof found === "function" ? found.bind(target) : found;
    },
  });
}

if (GPUS.some(([label]) => label === "webgpu")) {
  const SPOILS: readonly (readonly [string, string, string])[] = [
    [
      "makes small numbers zero",
      "return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ zero);",
      "return select(x, vec4<f32>(), abs(x) < vec4(1.17549435e-38));",
    ],
    [
      "adds in another order",
      "let y = weights_tile[(4u * v + j) * 16u + column];",
      [
        "let i = 3u - j;",
        "let y = weights_tile[(4u * v + i) * 16u + column];",
      ].join("\n"),
    ],
    [
      "keeps what products lose",
      "return rounded(sum + rounded(x * w, zero), zero);",
      [
        "let high = bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);",
        "return sum + (high * w + (x - high) * w);",
      ].join("\n"),
    ],
  ];
  for (const [name, before, after] of SPOILS) {
    Deno.test(`webgpu: a device that ${name} is found out, and the host computes`, async () => {
      using backend = await createBackend({ backend: "webgpu" }) as WebGpuBackend;
      const device = spoiled(backend.device, (text) => {
        assert(text.includes(before));
        // Rows of the tile go with the weights.
        return text.replace(before, after).replaceAll(/([abcd])\[j\]/g, name.includes("order") ? "$1[i]" : "$1[j]");
      });
      const dense = new WebGpuDense(device);
      assertEquals(await dense.exact(), false);
      const { name: of, build } = backend;
      const nets = await openNets({ name: of, build, gpu: { ...backend.gpu, dense } } as unknown as Backend);
      const net = nets([productLayer(Float32Array.of(1), 1, 1)]);
      assert(net instanceof HostNet);
      net[Symbol.dispose]();
    });
  }
}
