import { assertEquals, assertNotEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { canonicalModel, modelFingerprint, resolveModel } from "../../src/cache/fingerprint.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { SMOLLM2 } from "./sample.ts";

Deno.test("the fingerprint is SHA-256 of canonical JSON", async () => {
  assertEquals(
    canonicalModel(SMOLLM2),
    '{"architecture":"llama","id":"SmolLM2-135M-Instruct","keyDim":64,"kvHeads":3,"layers":30,' +
      '"rope":{"dim":64,"scaling":null,"theta":100000},"valueDim":64}',
  );
  // printf '%s' '<the JSON above>' | sha256sum
  assertEquals(
    await modelFingerprint(SMOLLM2),
    "99a40db588d490d4f88639d0122969f15d4fc0fffc4d2cbc243aded52a62181a",
  );
});

Deno.test("the fingerprint ignores pairing and order of fields, and sees every other fact", async () => {
  const rope = SMOLLM2.rope!;
  const base = await modelFingerprint(SMOLLM2);
  assertEquals(await modelFingerprint({ ...SMOLLM2, rope: { ...rope, pairing: "adjacent" } }), base);
  const reordered = Object.fromEntries(Object.entries(SMOLLM2).reverse()) as unknown as ModelSpec;
  assertEquals(await modelFingerprint(reordered), base);
  const yarn = {
    type: "yarn",
    factor: 4,
    originalMaxPosition: 4096,
    betaFast: 32,
    betaSlow: 1,
    attentionFactor: 1.1,
    truncate: true,
  } as const;
  const llama3 = { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPosition: 8192 } as const;
  const others: ModelSpec[] = [
    { ...SMOLLM2, id: "other" },
    { ...SMOLLM2, id: undefined },
    { ...SMOLLM2, architecture: "qwen2" },
    { ...SMOLLM2, layers: 29 },
    { ...SMOLLM2, kvHeads: 9 },
    { ...SMOLLM2, keyDim: 128 },
    { ...SMOLLM2, valueDim: 32 },
    { ...SMOLLM2, rope: null },
    { ...SMOLLM2, rope: { ...rope, theta: 10000 } },
    { ...SMOLLM2, rope: { ...rope, dim: 32 } },
    { ...SMOLLM2, rope: { ...rope, scaling: { type: "linear", factor: 2 } } },
    ...[llama3, { ...llama3, factor: 9 }, { ...llama3, lowFreqFactor: 2 }, { ...llama3, highFreqFactor: 5 }, {
      ...llama3,
      originalMaxPosition: 1,
    }].map((scaling) => ({ ...SMOLLM2, rope: { ...rope, scaling } })),
    ...[
      yarn,
      { ...yarn, factor: 5 },
      { ...yarn, originalMaxPosition: 1 },
      { ...yarn, betaFast: 31 },
      {
        ...yarn,
        betaSlow: 2,
      },
      { ...yarn, attentionFactor: 1 },
      { ...yarn, truncate: false },
    ].map((scaling) => ({
      ...SMOLLM2,
      rope: { ...rope, scaling },
    })),
  ];
  const prints = await Promise.all([SMOLLM2, ...others].map(modelFingerprint));
  assertEquals(new Set(prints).size, prints.length);
  assertNotEquals(prints[1], base);
});

Deno.test("resolveModel adopts what one side leaves out and keeps the source's pairing", () => {
  const names = { found: "the cache", wanted: "the profile" };
  const { architecture: _a, id: _i, ...bare } = SMOLLM2;
  const adjacent: ModelSpec = { ...bare, rope: { ...SMOLLM2.rope!, pairing: "adjacent" } };
  assertEquals(resolveModel(adjacent, SMOLLM2, names), { ...adjacent, architecture: "llama", id: SMOLLM2.id });
  assertEquals(resolveModel(SMOLLM2, bare, names), SMOLLM2);
  assertEquals(resolveModel(bare, bare, names), bare);
  fc.assert(fc.property(fc.boolean(), fc.boolean(), (id, architecture) => {
    const partial = { ...bare, ...(id ? { id: SMOLLM2.id } : {}), ...(architecture ? { architecture: "llama" } : {}) };
    assertEquals(resolveModel(partial, SMOLLM2, names), SMOLLM2);
  }));
});

Deno.test("resolveModel names both sides and all differences", () => {
  const names = { found: "a.safetensors", wanted: "b.kvzp" };
  assertThrows(
    () => resolveModel({ ...SMOLLM2, layers: 16, id: "Other" }, SMOLLM2, names),
    KvzMismatchError,
    'Cannot use a.safetensors with b.kvzp: they are of different models (id is "Other" in a.safetensors, ' +
      '"SmolLM2-135M-Instruct" in b.kvzp; layers is 16 in a.safetensors, 30 in b.kvzp)',
  );
  assertThrows(
    () => resolveModel({ ...SMOLLM2, rope: { ...SMOLLM2.rope!, theta: 1e4 } }, SMOLLM2, names),
    KvzMismatchError,
    'rope is {"dim":64,"scaling":null,"theta":10000} in a.safetensors, {"dim":64,"scaling":null,"theta":100000} in b.kvzp',
  );
  assertThrows(() => resolveModel({ ...SMOLLM2, rope: null }, SMOLLM2, names), KvzMismatchError, "rope is null");
});
