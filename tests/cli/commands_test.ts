import { assert, assertEquals, assertMatch, assertStringIncludes } from "deno-std/assert";
import { writeLlamaState } from "../../src/adapters/llama_state.ts";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { writeSafetensors } from "../../src/adapters/safetensors_sink.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { LayerBytes } from "../../src/cache/kv_cache.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { listRecipes } from "../../src/recipes/registry.ts";
import { SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { kvz, kvzJson, namesIn, withFiles } from "./kvz.ts";

Deno.test("verify reports errors by kind, region and layer", () =>
  withFiles(async ({ at, cache, input, profile }) => {
    const flags = ["-p", profile, "--threads", "1"];
    await kvzJson(["compress", input, "-o", at("a.kvz"), "--ratio", "4", "--window", "100", ...flags]);
    const v = await kvzJson(["verify", at("a.kvz"), input, ...flags]);
    assertEquals(v.regions, { sinks: 4, coded: 296, window: 100 });
    assertEquals(v.windowBitExact, true);
    assertEquals(v.key.regions.window, 0);
    assertEquals([v.key.layers.length, v.value.layers.length, v.key.tokens.length], [3, 3, 400]);
    for (const kind of ["key", "value"]) {
      const { regions, relative, layers, maxAbs } = v[kind];
      assert(regions.coded > 0 && regions.coded < 0.5 && relative < regions.coded && maxAbs > 0);
      assert(layers.every((error: number) => error > 0 && error < 0.5));
    }
    assertEquals([v.keyError, v.valueError], [v.key.relative, v.value.relative]);

    // Independently: the restored file against the original, in float64.
    await kvzJson(["decompress", at("a.kvz"), "-o", at("b.safetensors"), ...flags]);
    const restored = await readSafetensors(Deno.readFileSync(at("b.safetensors")));
    assertEquals(v.keyError.toPrecision(9), relativeError(cache, restored).toPrecision(9));

    const text = await kvz(["verify", at("a.kvz"), input, ...flags]);
    assertEquals([text.code, text.err], [0, ""]);
    assertStringIncludes(text.out, "raw window is bit-exact");
  }));

Deno.test("verify ends with 4 when the raw window differs", () =>
  withFiles(async ({ at, input, profile }) => {
    const flags = ["-p", profile, "--threads", "1"];
    await kvzJson(["compress", input, "-o", at("a.kvz"), ...flags]);
    Deno.writeFileSync(at("other.safetensors"), await writeSafetensors(syntheticCache(400, { seed: 2 })));
    const v = await kvzJson(["verify", at("a.kvz"), at("other.safetensors"), ...flags], 4);
    assertEquals(v.windowBitExact, false);
    assert(v.key.regions.window > 0.1);
  }));

Deno.test("append grows a file in place or into another", () =>
  withFiles(async ({ folder, at, cache, profile }) => {
    const flags = ["-p", profile, "--threads", "1"];
    Deno.writeFileSync(at("first.safetensors"), await writeSafetensors(cache.slice(0, 390)));
    Deno.writeFileSync(at("more.safetensors"), await writeSafetensors(cache.slice(390, 400)));
    await kvzJson(["compress", at("first.safetensors"), "-o", at("a.kvz"), "--ratio", "4", ...flags]);
    const old = Deno.readFileSync(at("a.kvz"));
    const a = await kvzJson(["append", at("a.kvz"), at("more.safetensors"), "-o", at("b.kvz"), ...flags]);
    assertEquals([a.tokens, a.tokensAdded, a.bytesOut], [400, 10, Deno.statSync(at("b.kvz")).size]);
    assert(a.keptBytes > 0 && a.keptBytes + a.writtenBytes === a.bytesOut);
    assertEquals(Deno.readFileSync(at("a.kvz")), old);
    assertEquals(Deno.readFileSync(at("b.kvz")).subarray(0, a.keptBytes), old.subarray(0, a.keptBytes));
    assertEquals((await inspect(Deno.readFileSync(at("b.kvz")), { verify: true })).tokens, 400);

    await kvzJson(["append", at("a.kvz"), at("more.safetensors"), ...flags]);
    assertEquals(Deno.readFileSync(at("a.kvz")), Deno.readFileSync(at("b.kvz")));
    await kvzJson(["append", at("a.kvz"), at("more.safetensors"), "-o", at("b.kvz"), ...flags], 4);
    assert(!namesIn(folder).some((name) => name.endsWith(".tmp")));
  }));

Deno.test("calibrate --recipe kvtc fits at once and in jobs, and keeps held-out texts out", () =>
  withFiles(async ({ at }) => {
    const caches: string[] = [];
    for (let i = 0; i < 3; i++) {
      caches.push(at(`c${i}.safetensors`));
      Deno.writeFileSync(caches[i], await writeSafetensors(syntheticCache(120, { seed: i + 1 })));
    }
    const held = at("held.safetensors");
    Deno.writeFileSync(held, await writeSafetensors(syntheticCache(90, { seed: 50 })));
    const kvtc = ["--recipe", "kvtc"];
    const fit = ["--rank", "16", "--svd", "exact", "--threads", "1"];
    const c = await kvzJson([
      "calibrate",
      ...kvtc,
      ...caches,
      "-o",
      at("p.kvzp"),
      "--force",
      "--held-out",
      held,
      ...fit,
    ]);
    assertEquals(c.calibration, { tokens: 348, sinks: 4, sequences: 3, svd: "exact", seed: 0, ratios: [] });
    assertEquals([c.key.rank, c.key.features, c.bytesOut], [16, 60, Deno.statSync(at("p.kvzp")).size]);
    assertMatch(c.fingerprint, /^[0-9a-f]{64}$/);
    assertEquals(c.model.id, "small-test-model");

    for (let i = 0; i < 3; i++) {
      const s = await kvzJson(["calibrate", ...kvtc, caches[i], "-o", at(`s${i}.kvzs`), "--partial", "--threads", "1"]);
      assertEquals([s.tokens, s.sequences], [116, 1]);
    }
    const parts = [0, 1, 2].map((i) => at(`s${i}.kvzs`));
    const m = await kvzJson(["calibrate", ...kvtc, "--merge", ...parts, "-o", at("m.kvzp"), ...fit]);
    assertEquals(m.calibration, c.calibration);
    assert(Math.abs(m.key.explainedVariance - c.key.explainedVariance) < 1e-6);

    const refused = await kvzJson([
      "calibrate",
      ...kvtc,
      ...caches,
      held,
      "-o",
      at("x.kvzp"),
      "--held-out",
      held,
      ...fit,
    ], 4);
    assertStringIncludes(refused.error.message, "held-out");
    const wrong = await kvzJson(["calibrate", ...kvtc, "--merge", ...parts, "-o", at("x.kvzp"), "--seed", "3"], 2);
    assertStringIncludes(wrong.error.message, "--seed");
    await kvzJson(["calibrate", ...kvtc, caches[0], "-o", at("x.kvzp"), "--partial", "--rank", "4"], 2);
    await kvzJson(["calibrate", ...kvtc, caches[0], caches[0], "-o", at("x.kvzp"), ...fit], 4);
  }));

Deno.test("calibrate makes profiles for recipe kvz, which compress then uses", () =>
  withFiles(async ({ at, input, profile }) => {
    const caches = [1, 2].map((seed) => at(`c${seed}.safetensors`));
    for (const [i, path] of caches.entries()) {
      Deno.writeFileSync(path, await writeSafetensors(syntheticCache(200, { seed: i + 1 })));
    }
    const fit = ["--rank", "24", "--svd", "exact", "--ratio", "12"];
    const c = await kvzJson(["calibrate", ...caches, "-o", at("z.kvzp"), ...fit]);
    assertEquals([c.method, c.sensitivity, c.features], ["kvz", "none", 96]);
    assertEquals(c.calibration, { tokens: 392, sinks: 4, sequences: 2, svd: "exact", seed: 0 });
    assert(c.components >= 1 && c.components <= 24);
    assertEquals(c.bytesOut, Deno.statSync(at("z.kvzp")).size);
    const text = await kvz(["profile", "info", at("z.kvzp")]);
    assertStringIncludes(text.out, `${c.fingerprint}, for recipe kvz`);

    const made = await kvzJson(["compress", input, "-o", at("a.kvz"), "-p", at("z.kvzp")]);
    assertEquals(made.recipe, "kvz");
    await kvzJson(["decompress", at("a.kvz"), "-o", at("b.safetensors"), "-p", at("z.kvzp")]);
    assertEquals((await readSafetensors(Deno.readFileSync(at("b.safetensors")))).tokens, 400);

    const weighted = await kvzJson(
      ["calibrate", ...caches, "-o", at("w.kvzp"), "--sensitivity", fisherFile(at("fisher.safetensors")), ...fit],
    );
    assertEquals(weighted.sensitivity, "fisher");
    assert(weighted.fingerprint !== c.fingerprint);
    // A profile is no sensitivity file, nor is there one where none is.
    await kvzJson(["calibrate", ...caches, "-o", at("x.kvzp"), "--sensitivity", profile, ...fit], 3);
    await kvzJson(["calibrate", ...caches, "-o", at("x.kvzp"), "--sensitivity", at("none"), ...fit], 8);
    await kvzJson(["calibrate", ...caches, "-o", at("x.kvzp"), "--held-out", caches[0], ...fit], 4);
    for (const flags of [["--partial"], ["--merge"], ["--ratios", "8"]]) {
      const { error } = await kvzJson(["calibrate", ...caches, "-o", at("x.kvzp"), ...flags], 2);
      assertStringIncludes(error.message, `Cannot use ${flags[0]} with --recipe kvz`);
    }
    for (const flags of [["--ratio", "8"], ["--sensitivity", "x"]]) {
      const { error } = await kvzJson(["calibrate", ...caches, "-o", at("x.kvzp"), "--recipe", "kvtc", ...flags], 2);
      assertStringIncludes(error.message, `Cannot use ${flags[0]} with --recipe kvtc`);
    }
    await kvzJson(["calibrate", ...caches, "-o", at("x.kvzp"), "--recipe", "zip"], 2);
  }));

Deno.test("calibrate --recipe kvquant makes profiles that compress then uses", () =>
  withFiles(async ({ at, input }) => {
    const caches = [1, 2].map((seed) => at(`c${seed}.safetensors`));
    for (const [i, path] of caches.entries()) {
      Deno.writeFileSync(path, await writeSafetensors(syntheticCache(200, { seed: i + 1 })));
    }
    const calibrate = ["calibrate", "--recipe", "kvquant", ...caches, "-o"];
    const plain = await kvzJson([...calibrate, at("q.kvzp")]);
    assertEquals([plain.method, plain.sensitivity, plain.outliers], ["kvquant", "none", [0, 0.1, 0.5, 1]]);
    assertEquals(plain.calibration, { tokens: 398, sinks: 1, sequences: 2, seed: 0 });
    assertEquals(plain.bytesOut, Deno.statSync(at("q.kvzp")).size);
    const { bytesOut: _, seconds: __, ...facts } = plain;
    assertEquals(await kvzJson(["profile", "info", at("q.kvzp")]), facts);
    const text = await kvz(["profile", "info", at("q.kvzp")]);
    assertStringIncludes(text.out, `${plain.fingerprint}, for recipe kvquant`);
    const fisher = ["--sensitivity", fisherFile(at("fisher.safetensors"))];
    const weighted = await kvzJson([...calibrate, at("w.kvzp"), "--sinks", "4", "--seed", "2", ...fisher]);
    assertEquals(weighted.sensitivity, "fisher");
    assertEquals(weighted.calibration, { tokens: 392, sinks: 4, sequences: 2, seed: 2 });

    const made = await kvzJson(["compress", input, "-o", at("a.kvz"), "-p", at("q.kvzp")]);
    assertEquals(made.recipe, "kvquant");
    await kvzJson(["decompress", at("a.kvz"), "-o", at("b.safetensors"), "-p", at("q.kvzp")]);
    assertEquals((await readSafetensors(Deno.readFileSync(at("b.safetensors")))).tokens, 400);
    const { error } = await kvzJson(["decompress", at("a.kvz"), "-o", at("c"), "-p", at("w.kvzp")], 4);
    assertStringIncludes(error.message, "was made with profile");
    for (const flags of [["--rank", "3"], ["--ratio", "8"], ["--ratios", "8"], ["--svd", "exact"], ["--partial"]]) {
      const { error } = await kvzJson([...calibrate, at("x.kvzp"), ...flags], 2);
      assertStringIncludes(error.message, `Cannot use ${flags[0]} with --recipe kvquant`);
    }
    await kvzJson([...calibrate, at("x.kvzp"), "--held-out", caches[0]], 4);
  }));

/** Blocks with a diagonal that rises along each head, as tools/sensitivity.py writes them. */
function fisherFile(path: string): string {
  const { layers, kvHeads, keyDim, valueDim } = SMALL_MODEL;
  const header: Record<string, unknown> = {};
  const data: number[] = [];
  for (let layer = 0; layer < layers; layer++) {
    for (const [kind, dim] of [["key", keyDim], ["value", valueDim]] as const) {
      const begin = data.length * 4;
      for (let i = 0; i < kvHeads * dim * dim; i++) {
        const [row, column] = [Math.floor(i / dim) % dim, i % dim];
        data.push(row === column ? 1 + row : 0);
      }
      header[`layers.${layer}.${kind}.fisher`] = {
        dtype: "F32",
        shape: [kvHeads, dim, dim],
        data_offsets: [begin, data.length * 4],
      };
    }
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + data.length * 4);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(new Uint8Array(Float32Array.from(data).buffer), 8 + json.length);
  Deno.writeFileSync(path, bytes);
  return path;
}

Deno.test("profile info, trim and export", () =>
  withFiles(async ({ at, input, profile }) => {
    const whole = await kvzJson(["profile", "info", profile]);
    assertEquals([whole.key.components, whole.key.rank], [60, 60]);
    const trimmed = await kvzJson(["profile", "trim", profile, "--ratios", "8,16", "-o", at("t.kvzp")]);
    assertEquals(trimmed.calibration.ratios, [8, 16]);
    assert(trimmed.key.components < 60 && trimmed.fingerprint === whole.fingerprint);
    await kvzJson(["compress", input, "-o", at("a.kvz"), "-p", at("t.kvzp"), "--ratio", "8"]);
    const refused = await kvzJson(["compress", input, "-o", at("b.kvz"), "-p", at("t.kvzp"), "--ratio", "1.5"], 4);
    assertStringIncludes(refused.error.message, "trimmed");
    const e = await kvzJson(["profile", "export", profile, "-o", at("p.safetensors"), "--ratio", "8"]);
    const bytes = Deno.readFileSync(at("p.safetensors"));
    assertEquals(e.bytesOut, bytes.length);
    const header = JSON.parse(
      new TextDecoder().decode(bytes.subarray(8, 8 + new DataView(bytes.buffer).getUint32(0, true))),
    );
    assertEquals(header["key.basis"].shape, [60, 60]);
    assertEquals(header["value.groups"].shape[1], 3);
  }));

Deno.test("profile import makes a profile of what tools/recalkv.py fitted; trim and export refuse it", () =>
  withFiles(async ({ at }) => {
    const { artefact } = JSON.parse(await Deno.readTextFile("tests/recipes/lowrank_golden.json"));
    Deno.writeFileSync(at("f.safetensors"), Uint8Array.from(atob(artefact), (c) => c.charCodeAt(0)));
    const made = await kvzJson(["profile", "import", at("f.safetensors"), "-o", at("f.kvzp")]);
    const { bytesOut, ...facts } = made;
    assertEquals(bytesOut, Deno.readFileSync(at("f.kvzp")).length);
    assertEquals(await kvzJson(["profile", "info", at("f.kvzp")]), facts);
    assertEquals(facts.method, "recalkv");
    assertEquals(facts.ranks.value.length, 2);
    for (const command of [["trim", at("f.kvzp"), "--ratios", "8"], ["export", at("f.kvzp")]]) {
      const { error } = await kvzJson(["profile", ...command, "-o", at("g")], 4);
      assertStringIncludes(error.message, "it is for recipe recalkv, expected one for recipe kvtc");
    }
    const { error } = await kvzJson(["profile", "import", at("f.kvzp"), "-o", at("g")], 3);
    assertStringIncludes(error.message, "safetensors");
  }));

Deno.test("recipes lists what the registry has", async () => {
  const { recipes } = await kvzJson(["recipes"]);
  assertEquals(recipes.map(({ name }: { name: string }) => name), (await listRecipes()).map(({ name }) => name));
  const kvtc = recipes.find(({ name }: { name: string }) => name === "kvtc");
  assertEquals(kvtc.needs, ["profile"]);
  assertEquals(kvtc.options.find(({ name }: { name: string }) => name === "ratio").default, 16);
  assert(kvtc.stages.includes("pca") && kvtc.description.length > 0);
  assertStringIncludes((await kvz(["recipes"])).out, "--key-ratio");
});

Deno.test("doctor says what works and why what does not", async () => {
  const d = await kvzJson(["doctor"]);
  assertEquals(d.healthy, true);
  assertEquals(d.runtime.deno, Deno.version.deno);
  assertEquals(d.cores, navigator.hardwareConcurrency);
  assertEquals(d.wasmBuilds.base, true);
  assert(d.compressionStream.ok && d.workers.ok && d.auto.ok);
  const names = d.backends.map(({ name }: { name: string }) => name);
  for (const name of ["wasm", "webgpu", "cuda", "reference"]) assert(names.includes(name), name);
  for (const { name, build, available, reason } of d.backends) {
    assert(reason.length > 0);
    if (name === "wasm") assertEquals(available, d.wasmBuilds[build]);
  }
});

Deno.test("bench gives every kernel's rate as a share of copying and of the product, and names what it left out", async () => {
  const { backends: [rates], left } = await kvzJson(["bench", "--backend", "reference", "--seconds", "0.001"]);
  assertEquals([rates.backend, left], ["reference", []]);
  for (const { kernel, milliseconds, ofCopy, ofProduct } of rates.kernels) {
    assert(milliseconds > 0 && ofCopy > 0, kernel);
    assertEquals(ofProduct !== undefined, /project|reconstruct/i.test(kernel), kernel);
  }
  assertEquals(Math.max(...rates.kernels.map((k: { ofProduct?: number }) => k.ofProduct ?? 0)), 1);
  const limit = rates.kernels.find((k: { kernel: string }) => k.kernel === rates.product.kernel);
  assertEquals([limit.ofProduct, limit.gigaOperationsPerSecond], [1, rates.product.gigaOperationsPerSecond]);
  for (const args of [["--backend", "abacus"], ["--seconds", "0"]]) {
    assertEquals((await kvz(["bench", ...args])).code, 2);
  }
});

Deno.test("a llama.cpp state goes in and comes back", () =>
  withFiles(async ({ at, profile }) => {
    const rope = { ...SMALL_MODEL.rope!, pairing: "adjacent" as const };
    const cache = withRope(syntheticCache(60), rope);
    const layout = {
      keyType: "f16",
      valueType: "f16",
      transposedValues: true,
      hadamard: false,
      streams: 1,
      stream: 0,
      sequence: 0,
    } as const;
    const state = writeLlamaState(cache, layout);
    Deno.writeFileSync(at("in.ggsq"), state);
    const flags = ["-p", profile, "--threads", "1"];
    const unknown = await kvzJson(["compress", at("in.ggsq"), "-o", at("a.kvz"), ...flags], 2);
    assertStringIncludes(unknown.error.message, "--gguf");
    const from = ["compress", at("in.ggsq"), "--rope", JSON.stringify(rope), "--window", "60", ...flags];
    await kvzJson([...from, "-o", at("a.kvz")]);
    const whole = await kvzJson(["decompress", at("a.kvz"), "-o", at("out.ggsq"), ...flags]);
    assertEquals(whole.bytesOut, state.length);
    assertEquals(Deno.readFileSync(at("out.ggsq")), state);

    await kvzJson(["decompress", at("a.kvz"), "-o", at("out.safetensors"), ...flags]);
    const plain = await readSafetensors(Deno.readFileSync(at("out.safetensors")));
    assert(plain.equals(syntheticCache(60)), "keys are half-split in safetensors");
    const v = await kvzJson(["verify", at("a.kvz"), at("in.ggsq"), "--rope", JSON.stringify(rope), ...flags]);
    assertEquals([v.keyError, v.windowBitExact], [0, true]);

    await kvzJson([...from, "-o", at("secret.kvz"), "--no-token-ids"]);
    const { header } = await inspect(Deno.readFileSync(at("secret.kvz")));
    assertEquals(Object.keys(header.user!.llamaState as object).includes("tokens"), false);
    await kvzJson(["decompress", at("secret.kvz"), "-o", at("x.ggsq"), "--layers", "0:1", ...flags], 2);
  }));

function withRope(cache: KvCache, rope: NonNullable<typeof SMALL_MODEL.rope>): KvCache {
  const { dtype, positions, inputIds, tokens } = cache;
  const layers: LayerBytes[] = Array.from({ length: cache.model.layers }, (_, layer) => {
    const part = cache.sliceLayers(layer, layer + 1);
    return { key: part.read("key", 0, tokens), value: part.read("value", 0, tokens) };
  });
  return new KvCache({ model: { ...cache.model, rope }, dtype, positions, inputIds, layers });
}

/** Relative error of all keys of f16 caches. */
function relativeError(original: KvCache, restored: KvCache): number {
  const read = (cache: KvCache) => new Float16Array(cache.read("key", 0, cache.tokens).buffer);
  const a = read(original);
  const b = read(restored);
  let error = 0;
  let norm = 0;
  a.forEach((x, i) => {
    error += (b[i] - x) ** 2;
    norm += x ** 2;
  });
  return Math.sqrt(error / norm);
}
