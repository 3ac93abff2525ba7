import { assert, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { isGguf, readGgufModel } from "../../src/adapters/gguf.ts";
import { readGgufMetadata } from "../../src/adapters/gguf_metadata.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError, KvzLimitError, KvzUnsupportedError } from "../../src/errors.ts";
import { yarnAttentionFactor } from "../../src/cache/rope.ts";
import { ARRAY, F32, gguf, llamaEntries, STRING, U32 } from "./gguf_builder.ts";

type Change = Parameters<typeof llamaEntries>[0];
type Tensors = Parameters<typeof gguf>[1];

function read(change: Change = {}, tensors: Tensors = [], options = {}) {
  return readGgufModel(memorySource(gguf(llamaEntries(change), tensors)), options);
}

/** Entries of another architecture instead of llama's. */
function of(architecture: string, change: Change = {}): Change {
  const renamed = llamaEntries().flatMap(([key, type, value]): [string, [number, unknown] | undefined][] =>
    key.startsWith("llama.") ? [[key, undefined], [key.replace("llama", architecture), [type, value]]] : []
  );
  return { ...Object.fromEntries(renamed), "general.architecture": [STRING, architecture], ...change };
}

Deno.test("a GGUF file tells geometry, RoPE, pairing, name and context", async () => {
  assertEquals(await read(), {
    model: {
      architecture: "llama",
      layers: 30,
      kvHeads: 3,
      keyDim: 64,
      valueDim: 64,
      rope: { theta: 100000, dim: 64, pairing: "adjacent" },
    },
    name: "Smollm2 135M 8k Lc100K Mix1 Ep2",
    contextLength: 8192,
  });
});

Deno.test("GGUF metadata of every value type are read, vocabularies are passed over", async () => {
  const bytes = gguf(
    llamaEntries({
      "x.i8": [1, -3],
      "x.u16": [2, 65535],
      "x.i16": [3, -2],
      "x.big": [ARRAY, [U32, Array.from({ length: 5000 }, (_, i) => i)]],
      "x.after": [U32, 7],
      "x.template": [STRING, "é".repeat(40000)],
      "x.last": [STRING, "é"],
    }),
    [{ name: "a", data: new Float32Array(3) }, { name: "b", data: Float32Array.of(1, 2) }],
  );
  const { values, tensors, version } = await readGgufMetadata(memorySource(bytes));
  assertEquals(version, 3);
  assertEquals(["x.i8", "x.u16", "x.i16", "x.after", "x.last"].map((k) => values.get(k)), [-3, 65535, -2, 7, "é"]);
  assertEquals(["x.big", "x.template", "tokenizer.ggml.tokens"].map((k) => values.has(k)), [false, false, false]);
  assertEquals(values.get("tokenizer.ggml.token_type"), [1, 3, -1]);
  assertEquals(values.get("tokenizer.ggml.add_bos_token"), false);
  assertEquals([values.get("some.long"), values.get("some.negative")], [2 ** 40, -5]);
  assertEquals(values.get("some.double"), 0.1);
  assertEquals(tensors.map(({ name }) => name), ["a", "b"]);
  const data = new Float32Array(bytes.slice(tensors[1].offset, tensors[1].offset + 8).buffer);
  assertEquals(data, Float32Array.of(1, 2));
});

Deno.test("GGUF: key and value lengths, missing KV heads, missing dimension count", async () => {
  const { model } = await read({
    "llama.attention.key_length": [U32, 128],
    "llama.attention.value_length": [U32, 96],
    "llama.rope.dimension_count": [U32, 32],
    "llama.attention.head_count_kv": undefined,
  });
  assertEquals([model.keyDim, model.valueDim, model.kvHeads, model.rope?.dim], [128, 96, 9, 32]);
  assertEquals((await read({ "llama.rope.dimension_count": undefined })).model.rope?.dim, 64);
  assertEquals((await read({ "llama.rope.freq_base": undefined })).model.rope?.theta, 10000);
});

Deno.test("GGUF: pairing follows the architecture, unknown ones ask for the option", async () => {
  assertEquals((await read(of("qwen2"))).model.rope?.pairing, "half-split");
  assertEquals((await read(of("gemma2"))).model.rope?.pairing, "half-split");
  assertEquals((await read(of("granite"))).model.rope?.pairing, "adjacent");
  assertEquals((await read(of("gpt2"))).model.rope, null);
  await assertRejects(
    () => read(of("newcomer")),
    KvzUnsupportedError,
    'RoPE pairing of architecture "newcomer" is not known',
  );
  assertEquals((await read(of("newcomer"), [], { pairing: "adjacent" })).model.rope?.pairing, "adjacent");
});

Deno.test("GGUF: linear and YaRN scaling", async () => {
  const scaling = async (change: Change) => (await read(change)).model.rope?.scaling;
  const factor: [number, number] = [F32, 4];
  const type = (name: string): [number, string] => [STRING, name];
  assertEquals(await scaling({ "llama.rope.scaling.factor": factor }), { type: "linear", factor: 4 });
  assertEquals(await scaling({ "llama.rope.scale_linear": factor }), { type: "linear", factor: 4 });
  assertEquals(
    await scaling({ "llama.rope.scaling.factor": factor, "llama.rope.scaling.type": type("none") }),
    undefined,
  );
  assertEquals(await scaling({ "llama.rope.scaling.factor": [F32, 1] }), undefined);
  const yarn: Change = { "llama.rope.scaling.factor": factor, "llama.rope.scaling.type": type("yarn") };
  assertEquals(await scaling({ ...yarn, "llama.rope.scaling.original_context_length": [U32, 2048] }), {
    type: "yarn",
    factor: 4,
    originalMaxPosition: 2048,
    betaFast: 32,
    betaSlow: 1,
    attentionFactor: yarnAttentionFactor(4),
    truncate: true,
  });
  const stated = await scaling({ ...yarn, "llama.rope.scaling.attn_factor": [F32, 0.5] });
  assertEquals(stated?.type === "yarn" && stated.attentionFactor, yarnAttentionFactor(4) / 2);
  await assertRejects(
    () => scaling({ ...yarn, "llama.rope.scaling.factor": undefined }),
    KvzFormatError,
    "scaling.factor is missing",
  );
  await assertRejects(
    () => scaling({ ...yarn, "llama.rope.scaling.yarn_ext_factor": [F32, 0.5] }),
    KvzUnsupportedError,
    "yarn_ext_factor is 0.5",
  );
  await assertRejects(
    () => scaling({ "llama.rope.scaling.type": type("longrope") }),
    KvzUnsupportedError,
    '"longrope" is not supported',
  );
});

/** The divisors that llama.cpp's converter computes from Llama 3.x's config.json. */
function llama3Divisors(theta: number, dim: number, factor: number): Float32Array {
  return Float32Array.from({ length: dim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / dim);
    if (wavelength < 8192 / 4) return 1;
    if (wavelength > 8192 / 1) return factor;
    const smooth = (8192 / wavelength - 1) / (4 - 1);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

Deno.test("GGUF: Llama 3 scaling is recognized by its tensor of divisors", async () => {
  const change: Change = { "llama.rope.freq_base": [F32, 500000] };
  const divisors = llama3Divisors(500000, 64, 32);
  const other = { name: "token_embd.weight", data: new Float32Array(5) };
  assertEquals((await read(change, [other, { name: "rope_freqs.weight", data: divisors }])).model.rope?.scaling, {
    type: "llama3",
    factor: 32,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPosition: 8192,
  });
  const ones = new Float32Array(32).fill(1);
  assertEquals((await read(change, [{ name: "rope_freqs.weight", data: ones }])).model.rope?.scaling, undefined);
  const bent = divisors.slice();
  bent[17] *= 1.01;
  const refuse = (data: Float32Array, type: new (...args: never[]) => Error, message: string, more: Change = {}) =>
    assertRejects(() => read({ ...change, ...more }, [{ name: "rope_freqs.weight", data }]), type, message);
  await refuse(bent, KvzUnsupportedError, "rope_freqs.weight[17] is");
  await refuse(divisors.slice(1), KvzFormatError, "has type 0 and 31 elements");
  await refuse(divisors, KvzUnsupportedError, "linear RoPE scaling and rope_freqs", {
    "llama.rope.scaling.factor": [F32, 2],
  });
  await assertRejects(
    () => read({}, [{ name: "rope_factors_long.weight", data: ones }]),
    KvzUnsupportedError,
    "longrope",
  );
});

Deno.test("GGUF: models that one geometry cannot describe are refused by name", async () => {
  const refuse = (change: Change, message: string) => assertRejects(() => read(change), KvzUnsupportedError, message);
  await refuse(
    { "llama.attention.head_count_kv": [ARRAY, [U32, [3, 4]]] },
    "llama.attention.head_count_kv differs between layers ([3, 4])",
  );
  await refuse(of("deepseek2"), "deepseek2 has latent attention (MLA)");
  await refuse(of("jamba"), "jamba has recurrent layers");
  await refuse(of("qwen2vl"), "qwen2vl has M-RoPE");
  await refuse(of("smollm3"), "smollm3 has layers without RoPE");
  await refuse(of("gemma3"), "gemma3 has RoPE that differs between layers");
  await refuse({ "llama.attention.kv_lora_rank": [U32, 512] }, "latent attention (MLA)");
  await refuse({ "llama.ssm.state_size": [U32, 16] }, "recurrent layers");
  await refuse({ "llama.rope.dimension_sections": [ARRAY, [5, [16, 24, 24, 0]]] }, "M-RoPE");
  const uniform = await read({
    "llama.attention.head_count_kv": [ARRAY, [U32, [3, 3]]],
    "llama.rope.dimension_sections": [ARRAY, [5, [0, 0, 0, 0]]],
  });
  assertEquals(uniform.model.kvHeads, 3);
});

Deno.test("GGUF: damaged files are refused", async () => {
  const refuse = (bytes: Uint8Array, message: string) =>
    assertRejects(() => readGgufModel(memorySource(bytes)), KvzFormatError, message);
  const good = gguf(llamaEntries());
  assert(isGguf(good));
  const magic = good.slice();
  magic[0] = 0;
  assert(!isGguf(magic));
  await refuse(magic, "magic is 0x46554700");
  await refuse(gguf(llamaEntries(), [], 1), "version is 1, expected 2 or 3");
  assertEquals((await readGgufModel(memorySource(gguf(llamaEntries(), [], 2)))).model.layers, 30);
  const many = good.slice();
  many.fill(255, 16, 24);
  await refuse(many, "number of metadata entries is 18446744073709551615");
  await refuse(gguf([...llamaEntries(), ["llama.block_count", U32, 3]]), "llama.block_count appears twice");
  await refuse(gguf(llamaEntries({ "llama.block_count": undefined })), "llama.block_count is missing");
  await refuse(gguf(llamaEntries({ "llama.block_count": [STRING, "x"] })), "llama.block_count is x, expected a number");
  await refuse(gguf(llamaEntries({ "llama.block_count": [U32, 0] })), "number of layers is 0");
  await refuse(gguf(llamaEntries({ "general.architecture": undefined })), "general.architecture is missing");
  await refuse(gguf(llamaEntries({ "x.bool": [7, 2] })), "x.bool is 2, expected a boolean");
  await refuse(gguf(llamaEntries({ "general.alignment": [U32, 3] })), "general.alignment is 3");
  await refuse(gguf(llamaEntries({ "llama.embedding_length": [U32, 577] })), "key dimension is 64.1");
});

Deno.test("GGUF: every truncation of the front is refused", async () => {
  const good = gguf(llamaEntries(), [{ name: "rope_freqs.weight", data: llama3Divisors(100000, 64, 8) }]);
  await readGgufModel(memorySource(good));
  for (let length = 0; length < good.length; length++) {
    await assertRejects(() => readGgufModel(memorySource(good.subarray(0, length))), KvzFormatError);
  }
});

Deno.test("GGUF: arbitrary bytes and bit flips give a model or a typed error", async () => {
  const typed = async (bytes: Uint8Array) => {
    try {
      await readGgufModel(memorySource(bytes));
    } catch (error) {
      const known = [KvzFormatError, KvzUnsupportedError, KvzLimitError];
      if (!known.some((type) => error instanceof type)) throw error;
    }
  };
  const good = gguf(llamaEntries(), [{ name: "rope_freqs.weight", data: llama3Divisors(100000, 64, 8) }]);
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), typed));
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 100 }),
      (tail) => typed(Uint8Array.of(...good.subarray(0, 24), ...tail)),
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), fc.nat(7), (at, bit) => {
      const bytes = good.slice();
      bytes[at] ^= 1 << bit;
      return typed(bytes);
    }),
    { numRuns: 500 },
  );
});
