import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { createBackend } from "../../src/backend/select.ts";
import { WebGpuBlocks } from "../../src/backend/webgpu/blocks.ts";
import type { Dispatch, WebGpuDevice } from "../../src/backend/webgpu/device.ts";
import type { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { GpuBlockKernels } from "../../src/stages/quantize/blocks_gpu.ts";
import { BLOCK, dequantizeBlocks, quantizeBlocks } from "../../src/stages/quantize/ggml_blocks.ts";
import { openBlocks } from "../../src/stages/quantize/group_kernels.ts";
import { BACKENDS, firstDifference } from "../backend/backends.ts";
import { casesFor } from "../cases.ts";
import { awkwardBlocks } from "../backend/blocks_suite.ts";

const TYPES = ["q8_0", "q4_0"] as const;
const GPUS = BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu");
/** Whether the devices are those of CI, which round to nearest. */
const REQUIRED = Deno.env.get("KVZ_REQUIRE") !== undefined;

for (const [label, options] of BACKENDS) {
  Deno.test(`${label}: ggml's blocks are the reference's bytes, and back`, async () => {
    using backend = await createBackend(options);
    if (backend.gpu !== null) assert(!REQUIRED || await backend.gpu.blocks!.exact());
    const kernels = await openBlocks(backend);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 70 }), fc.nat(), async (blocks, seed) => {
        const x = awkwardBlocks(blocks, seed);
        for (const type of TYPES) {
          const wanted = quantizeBlocks(x, type);
          assertEquals(firstDifference(await kernels.quantize(x, type), wanted), -1);
          // Scales beyond binary16 are refused before.
          const some = quantizeBlocks(x.map((value) => Math.abs(value) < 2 ** 18 ? value : 1), type);
          assertEquals(firstDifference(await kernels.dequantize(some, type), dequantizeBlocks(some, type)), -1);
        }
      }),
      { numRuns: casesFor(60) },
    );
  });
}

for (const [label, options] of GPUS) {
  Deno.test(`${label}: more blocks than are on the device at once, odd numbers of them`, async () => {
    using backend = await createBackend(options);
    const kernels = new GpuBlockKernels(backend, backend.gpu!.blocks!, 31);
    const x = new Float32Array(100 * BLOCK).map((_, i) => (i * 7919 % 4093 - 2046) / 16);
    for (const type of TYPES) {
      const coded = await kernels.quantize(x, type);
      assertEquals(firstDifference(coded, quantizeBlocks(x, type)), -1);
      assertEquals(firstDifference(await kernels.dequantize(coded, type), dequantizeBlocks(coded, type)), -1);
    }
  });

  Deno.test(`${label}: blocks that do not fit are refused`, async () => {
    using backend = await createBackend(options);
    const kernels = backend.gpu!.blocks!;
    const [long, short] = [backend.alloc(4096), backend.alloc(64)];
    for (const type of TYPES) {
      assertThrows(() => kernels.quantize(short, 4, type, long), RangeError, '"x" has 64 bytes, expected 512');
      assertThrows(() => kernels.quantize(long, 4, type, short), RangeError, '"bytes" has 64 bytes');
      assertThrows(() => kernels.dequantize(short, 4, type, long), RangeError, '"bytes" has 64 bytes');
      assertThrows(() => kernels.dequantize(long, 1.5, type, long), RangeError, '"blocks" is 1.5');
    }
  });
}

/** A device on which a shader's text is another. */
function spoiled(device: WebGpuDevice, change: (text: string) => string): WebGpuDevice {
  return new Proxy(device, {
    get(target, name) {
      if (name === "dispatch") {
        return (run: Dispatch) =>
          target.dispatch({ ...run, shader: { name: `spoiled ${Math.random()}`, text: change(run.shader.text) } });
      }
      const found = Reflect.get(target, name, target);
      return typeof found === "function" ? found.bind(target) : found;
    },
  });
}

if (GPUS.some(([label]) => label === "webgpu")) {
  const PRODUCT = "return bitcast<f32>(bitcast<u32>(x * factor.inverse) ^ sizes.zero);";
  // x + 8.5 to the neighbour in a direction; what the sum lost is exact (Knuth's two-sum). It is positive.
  const DIRECTED = [
    "fn kept(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) ^ sizes.zero); }",
    "fn directed(x: f32, way: f32) -> f32 {",
    "let sum = kept(x + 8.5); let part = kept(sum - x);",
    "let lost = kept(x - kept(sum - part)) + kept(8.5 - part);",
    "return bitcast<f32>(u32(i32(bitcast<u32>(sum)) + select(0, i32(way), lost * way > 0.0)));",
    "}\n",
  ].join("\n");
  const SPOILS: readonly (readonly [name: string, before: string, after: string])[] = [
    ["rounds products up", PRODUCT, "return bitcast<f32>(bitcast<u32>(x * factor.inverse) + 1u);"],
    ["rounds products down", PRODUCT, "return bitcast<f32>(bitcast<u32>(x * factor.inverse) - 1u);"],
    ["rounds sums up", "u32(x + 8.5)", "u32(directed(x, 1.0))"],
    ["rounds sums down", "u32(x + 8.5)", "u32(directed(x, -1.0))"],
  ];
  for (const [name, before, after] of SPOILS) {
    Deno.test(`webgpu: a device that ${name} is found out`, async () => {
      using backend = await createBackend({ backend: "webgpu" }) as WebGpuBackend;
      const device = spoiled(backend.device, (text) => {
        assert(text.includes(before));
        return DIRECTED + text.replace(before, after);
      });
      assertEquals(await new WebGpuBlocks(device).exact(), false);
    });
  }

  Deno.test("webgpu: blocks do not depend on subnormal numbers that a device takes for zero", async () => {
    using backend = await createBackend({ backend: "webgpu" }) as WebGpuBackend;
    const flush = "fn flushed(x: f32) -> f32 { return select(x, 0.0, abs(x) < 1.17549435e-38); }\n";
    const device = spoiled(backend.device, (text) =>
      flush + text
        .replace("var x = bitcast<f32>(bits);", "var x = flushed(bitcast<f32>(bits));")
        .replace("x * factor.inverse)", "flushed(flushed(x) * flushed(factor.inverse)))"));
    const { gpu } = backend;
    const blocks = new WebGpuBlocks(device);
    const kernels = await openBlocks(
      new Proxy(backend, {
        get: (target, name) => {
          if (name === "gpu") return { ...gpu, blocks };
          const found = Reflect.get(target, name, target);
          return typeof found === "function" ? found.bind(target) : found;
        },
      }),
    );
    const x = awkwardBlocks(2001, 5);
    for (const type of TYPES) {
      assertEquals(firstDifference(await kernels.quantize(x, type), quantizeBlocks(x, type)), -1);
    }
  });
}
