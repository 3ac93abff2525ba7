/** What WebAssembly computes beside a GPU is said: of the recipe in hand, in info and reports, and nothing else. */
import { assertEquals } from "deno-std/assert";
import { hostBuild } from "../../src/backend/host.ts";
import { hostWorkOf } from "../../src/backend/host_work.ts";
import type { GpuKernels } from "../../src/backend/gpu/kernels.ts";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";
import { createBackend } from "../../src/backend/select.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import { openBlocks, openGroups } from "../../src/stages/quantize/group_kernels.ts";
import { openNets } from "../../src/stages/transform/dense.ts";
import { BACKENDS } from "../backend/backends.ts";
import { BLOCK_MODEL } from "../recipes/models.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

/** The reference posing as a GPU whose arithmetic is not the host's. */
class OtherGpu extends ReferenceBackend {
  override readonly name = "webgpu" as "reference";
  override readonly gpu = {
    memory: null,
    entropy: null,
    codeStreams: null,
    huffman: null,
    integer: null,
    trellis: null,
    dense: { exact: () => Promise.resolve(false) },
    groups: { exact: () => Promise.resolve(false) },
  } as unknown as GpuKernels & null;
}

const model = BLOCK_MODEL;
const cache = syntheticCache(300, { model });

Deno.test("a GPU with other bits: dense layers, groups and what it has no kernels for are named", async () => {
  await using codec = new Codec(syntheticProfile(model), await Lanes.open({}, () => Promise.resolve(new OtherGpu())));
  assertEquals(codec.info.host, undefined);
  const named = {
    turboquant: ["dense layers"],
    quarot: ["groups"],
    q8_0: ["blocks"],
    lossless: ["lossless planes", "rANS"],
    kvtc: undefined,
  };
  for (const [recipe, host] of Object.entries(named)) {
    const { bytes, report } = await codec.compress(cache, { recipe });
    assertEquals([recipe, report.host], [recipe, host]);
    assertEquals(codec.info.host, host);
    assertEquals((await codec.decompress(bytes)).report.host, host);
  }
});

Deno.test("wasm and the reference have nothing beside them", async () => {
  for (const backend of ["wasm", "reference"] as const) {
    await using codec = await openCodec(null, { backend });
    const { report } = await codec.compress(cache, { recipe: "quarot" });
    assertEquals("host" in report, false);
  }
});

for (const [label, options] of BACKENDS.filter(([label]) => label === "webgpu" || label === "cuda")) {
  Deno.test(`${label}: the host's work is what the trials say`, async () => {
    using backend = await createBackend(options);
    const { dense, groups, blocks } = backend.gpu!;
    await openNets(backend);
    await openGroups(backend);
    await openBlocks(backend);
    const tried = [["dense layers", dense], ["groups", groups], ["blocks", blocks]] as const;
    const exact = await Promise.all(tried.map(([, kernels]) => kernels!.exact()));
    const wanted = tried.flatMap(([work], i) => exact[i] ? [] : [work]);
    assertEquals(hostWorkOf(backend) ?? [], wanted);
    // Shapes that the kernels do not take are the host's as well, from the first of them on.
    const shape = { outer: 1, length: 6, inner: 1, group: 6, bits: 4, leastRange: 0, rotated: false };
    await (await openGroups(backend)).quantize(new Float32Array(6), shape);
    assertEquals(hostWorkOf(backend)!.includes("groups"), true);
    hostBuild(backend, "something");
    assertEquals(hostWorkOf(backend)!.includes("something"), true);
  });
}
