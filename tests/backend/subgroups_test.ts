/** The kernels' variants with subgroups, emulated: every size, and no order of lanes that kernels could rely on. */
import { assertEquals } from "deno-std/assert";
import type { Backend } from "../../src/backend/backend.ts";
import { variantText } from "../../src/backend/webgpu/variants.ts";
import { BACKENDS, generator, upload } from "./backends.ts";
import { openEmulated } from "./emulated_subgroups.ts";
import { checkKernels } from "./kernel_suite.ts";

Deno.test("variants are taken from one text", () => {
  const text = "a\n//!subgroups\nb\nc\n//!else\nd\n//!end\ne\n//!subgroups\nf\n//!end\n";
  assertEquals(variantText({ name: "x", text }, true), "enable subgroups;\na\nb\nc\ne\nf\n");
  assertEquals(variantText({ name: "x", text }, false), "a\nd\ne\n");
  // One without parts does not ask for what it does not use.
  assertEquals(variantText({ name: "x", text: "a\n" }, true), "a\n");
});

const PRESENT = BACKENDS.some(([label]) => label === "webgpu");
// Some kernels have a shorter way where a subgroup's lanes are side by side, as devices mostly have them.
for (const [size, order] of PRESENT ? [[4, ""], [32, ""], [128, ""], [32, " in order"]] as const : []) {
  Deno.test(`webgpu: every kernel is right with subgroups of ${size}${order}, emulated`, async () => {
    using backend = await openEmulated(size, order !== "");
    assertEquals(backend.build, "subgroups");
    const checked = await checkKernels(backend);
    assertEquals(checked.filter(({ difference }) => difference !== ""), []);
    await checkLargest(backend);
  });
}

/** The largest sum of magnitudes, among sums of which many agree in the higher word of a float64. */
async function checkLargest(backend: Backend): Promise<void> {
  const [components, tokens, next] = [3, 190, generator(3)];
  for (let round = 0; round < 8; round++) {
    const values = Float32Array.from({ length: components * tokens }, () => 2 ** -20 * next());
    for (let t = 0; t < tokens; t++) values[components * t] = next() < 0.5 ? 1000 : -1000;
    if (round > 4) values[components * round] = 1001;
    const [first, second] = [values, new Float32Array(values.length)].map((data) => upload(backend, data));
    const largest = backend.alloc(16);
    const batch = { chunks: 1, components, tokens };
    backend.gpu!.trellis!.encoder.magnitudes({ first, second, stride: components, gain: 1 }, batch, largest);
    const sums = Array.from({ length: tokens }, (_, t) => {
      const [a, b, c] = values.subarray(components * t).map(Math.abs);
      return a + b + c;
    });
    const found = [...new Float64Array((await backend.read(largest, 0, 16)).buffer)];
    assertEquals(found, [round > 4 ? 1001 : 1000, Math.max(...sums)]);
    for (const buffer of [first, second, largest]) buffer.free();
  }
}
