import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { createWasmBackend } from "../../../src/backend/wasm/create.ts";
import { CalibrateKernels } from "../../../src/backend/wasm/calibrate_kernels.ts";
import type { ModelSpec } from "../../../src/cache/types.ts";
import type { RowBlock } from "../../../src/profile/kind_fitter.ts";
import { JointReader } from "../../../src/profile/kvz/joint_reader.ts";

const MODEL: ModelSpec = { architecture: "llama", id: "m", layers: 1, kvHeads: 1, keyDim: 2, valueDim: 2, rope: null };

/** A chunk of one token, which tells its number by its position. */
function chunk(n: number): RowBlock {
  const bytes = new Uint8Array(new Float32Array([n, 1]).buffer);
  const facts = { rotation: null, rotaryDim: 0, slots: Int32Array.of(-1), name: "cache", firstToken: 0 } as const;
  return { bytes, dtype: "f32", tokens: 1, positions: Int32Array.of(n), ...facts };
}

/** Numbers of the chunks that are kept of so many. */
async function keptOf(count: number, keep: number): Promise<number[]> {
  using reader = new JointReader(MODEL, await createWasmBackend(), await CalibrateKernels.open("auto"), keep);
  const { key, value } = reader.engines();
  for (let n = 0; n < count; n++) {
    await key.add(chunk(n));
    await value.add(chunk(n));
  }
  assertEquals(reader.gram.count, count);
  return reader.chunks.map(({ positions }) => positions[0]);
}

Deno.test("chunks to train on are taken evenly of all that is read, however much it is", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 1, max: 30 }), async (count, keep) => {
      const kept = await keptOf(count, keep);
      assertEquals(kept.length, Math.min(count, keep));
      assertEquals(kept, [...kept].sort((a, b) => a - b));
      // No stretch without one is longer than three times the mean distance: the golden ratio's three gaps.
      const gaps = [-1, ...kept, count].map((n, i, all) => i === 0 ? 0 : n - all[i - 1]);
      assert(count === 0 || Math.max(...gaps) <= Math.ceil(3 * count / Math.min(count, keep)), `gaps ${gaps}`);
    }),
    { numRuns: 60 },
  );
});
