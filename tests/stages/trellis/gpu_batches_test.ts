/** Chunks that come at once are coded together on a GPU: each gets the streams that it gets alone, and its own errors. */
import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { createBackend } from "../../../src/backend/select.ts";
import { KvzFormatError } from "../../../src/errors.ts";
import { Batches } from "../../../src/stages/batches.ts";
import { GpuLevelCoder } from "../../../src/stages/quantize/trellis/gpu_level_coder.ts";
import {
  type ChunkStreams,
  openHostLevelCoder,
  openLevelCoder,
} from "../../../src/stages/quantize/trellis/level_coder.ts";
import { MODES, type StepSet } from "../../../src/stages/quantize/trellis/model.ts";
import { toSubsteps } from "../../../src/stages/quantize/trellis/substeps.ts";
import { withScratch } from "../../../src/stages/scratch.ts";
import { BACKENDS } from "../../backend/backends.ts";
import { normal, TABLES } from "./cases.ts";

const [COMPONENTS, FEWER, TOKENS, STRIDE, S] = [40, 17, 37, 40, 120];
const sets: StepSet[] = [{
  s: S,
  rho32: new Int8Array(MODES * COMPONENTS).fill(20),
  logSigma: new Int16Array(MODES * COMPONENTS).map((_, i) => 100 - 5 * (i % COMPONENTS)),
}];

/** The leading coefficients of every token. */
function leading(rows: Float32Array, components: number): Float32Array {
  return rows.filter((_, i) => i % STRIDE < components);
}

for (const [name, options] of BACKENDS) {
  if (name !== "cuda" && name !== "webgpu") continue;
  // Together, and where the device binds the rows of two.
  for (const mostBytes of [null, 2 * TOKENS * 48 * 4]) {
    const parts = mostBytes === null ? "" : ", in parts";
    Deno.test(`${name}: chunks that come at once are coded as one by one${parts}`, async () => {
      using backend = await createBackend(options);
      if (mostBytes !== null) Object.defineProperty(backend.gpu!.trellis!.encoder, "mostBytes", { value: mostBytes });
      using coder = await openLevelCoder(backend, COMPONENTS, sets, TABLES);
      using host = await openHostLevelCoder(backend, COMPONENTS, sets, TABLES);
      if (!(coder instanceof GpuLevelCoder)) throw new Error("the coder is not the device's");
      const deviate = normal(3);
      // The third needs a coarser step, the fourth cannot be coded, the sixth is shorter, the last have fewer components.
      const tokens = [TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, 20, TOKENS, TOKENS];
      const components = tokens.map((_, i) => i < 6 ? COMPONENTS : FEWER);
      const chunks = tokens.map((n, i) => {
        const values = Float32Array.from({ length: n * STRIDE }, () => 3 * deviate());
        if (i === 2) values[70] = 5000;
        if (i === 3) values[71] = NaN;
        return values;
      });
      const files: { streams: ChunkStreams; tokens: number }[] = [];
      await withScratch(backend, async (scratch) => {
        const second = scratch.upload(new Float32Array(TOKENS * STRIDE));
        // One buffer for all, as the transform has it.
        const first = scratch.alloc(TOKENS * STRIDE * 4);
        const coded = chunks.map((values, i) => {
          backend.write(first, values);
          return coder.encodeCoefficients(
            { first, second, stride: STRIDE, gain: 1 },
            S,
            components[i],
            tokens[i],
            0.3,
            null,
          );
        });
        await assertRejects(() => coded[3], RangeError, "not finite");
        for (const i of [0, 1, 2, 4, 5, 6, 7]) {
          const { y, s } = toSubsteps(leading(chunks[i], components[i]), components[i], tokens[i], S);
          assertEquals(s < S, i === 2);
          const streams = await host.encode(y, s, components[i], tokens[i], 0.3, null);
          assertEquals(await coded[i], streams, `chunk ${i}`);
          files.push({ streams, tokens: tokens[i] });
        }
      });
      // And back, one of them damaged.
      const cut = { ...files[1].streams, symbols: files[1].streams.symbols.slice(0, -2) };
      const restored = [...files, { streams: cut, tokens: TOKENS }].map((file) =>
        coder.decode(file.streams, file.tokens)
      );
      await assertRejects(() => restored[files.length], KvzFormatError);
      for (const [i, file] of files.entries()) {
        assertEquals((await restored[i]).quarters.length, file.tokens * (i < 5 ? COMPONENTS : FEWER));
        assertEquals(await restored[i], await host.decode(file.streams, file.tokens), `chunk ${i}`);
      }
    });
  }
}

Deno.test("batches: jobs that come meanwhile are done together, those alike, in order; failures are their batch's", async () => {
  const ran: number[][] = [];
  const batches = new Batches<number, string>(3, (a, b) => a % 10 === b % 10, async (jobs) => {
    ran.push([...jobs]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (jobs.includes(22)) throw new RangeError("no 22");
    return jobs.map((job) => `${job}`);
  });
  const first = [1, 11, 2, 21, 31, 22].map((job) => batches.add(job));
  // Their failures are heard below.
  for (const one of first) one.catch(() => {});
  assertEquals(await first[0], "1");
  const late = batches.add(41);
  assertEquals(await Promise.all([first[1], first[3], late]), ["11", "21", "41"]);
  await assertRejects(() => first[2], RangeError, "no 22");
  await assertRejects(() => first[5], RangeError, "no 22");
  assertEquals(await first[4], "31");
  assertEquals(ran[0], [1, 11, 21]);
  assert(ran.some((jobs) => jobs.join() === "2,22") && ran.flat().length === 7);
});
