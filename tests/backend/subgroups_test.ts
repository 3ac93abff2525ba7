/** The kernels' variants with subgroups, emulated: every size, and no order of lanes that kernels could rely on. */
import { assertEquals } from "deno-std/assert";
import { variantText } from "../../src/backend/webgpu/variants.ts";
import { BACKENDS } from "./backends.ts";
import { openEmulated } from "./emulated_subgroups.ts";
import { checkKernels } from "./kernel_suite.ts";

Deno.test("variants are taken from one text", () => {
  const text = "a\n//!subgroups\nb\nc\n//!else\nd\n//!end\ne\n//!subgroups\nf\n//!end\n";
  assertEquals(variantText({ name: "x", text }, true), "enable subgroups;\na\nb\nc\ne\nf\n");
  assertEquals(variantText({ name: "x", text }, false), "a\nd\ne\n");
  // One without parts does not ask for what it does not use.
  assertEquals(variantText({ name: "x", text: "a\n" }, true), "a\n");
});

for (const size of BACKENDS.some(([label]) => label === "webgpu") ? [4, 32, 128] : []) {
  Deno.test(`webgpu: every kernel is right with subgroups of ${size}, emulated`, async () => {
    using backend = await openEmulated(size);
    assertEquals(backend.build, "subgroups");
    const checked = await checkKernels(backend);
    assertEquals(checked.filter(({ difference }) => difference !== ""), []);
  });
}
