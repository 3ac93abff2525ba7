import { assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { parseHfModel, parseHfRope } from "../../src/cache/hf_config.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../src/errors.ts";
import { SMOLLM2 } from "./sample.ts";

/** The fields of SmolLM2's config.json that matter, in the old form. */
const CONFIG = {
  model_type: "llama",
  hidden_size: 576,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  num_hidden_layers: 30,
  max_position_embeddings: 8192,
  rope_theta: 100000,
  rope_scaling: null,
};

Deno.test("parseHfModel reads geometry, RoPE and name", () => {
  assertEquals(parseHfModel(CONFIG, "SmolLM2-135M-Instruct"), SMOLLM2);
  assertEquals(parseHfModel({ ...CONFIG, _name_or_path: "SmolLM2-135M-Instruct" }), SMOLLM2);
  assertEquals(parseHfModel({ ...CONFIG, num_key_value_heads: null }).kvHeads, 9);
  assertEquals(parseHfModel({ ...CONFIG, head_dim: 128 }).keyDim, 128);
});

Deno.test("parseHfRope reads the old and the new form alike", () => {
  const scaling = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const old = parseHfRope({ ...CONFIG, rope_scaling: { ...scaling, rope_type: "llama3" } });
  assertEquals(old?.scaling, {
    type: "llama3",
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPosition: 8192,
  });
  const { rope_theta, rope_scaling: _, ...rest } = CONFIG;
  assertEquals(parseHfRope({ ...rest, rope_parameters: { ...scaling, rope_type: "llama3", rope_theta } }), old);
  assertEquals(parseHfRope({ ...CONFIG, rope_scaling: { type: "linear", factor: 2 } })?.scaling, {
    type: "linear",
    factor: 2,
  });
  const yarn = parseHfRope({
    ...CONFIG,
    rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 2048, truncate: false },
  })?.scaling;
  assertEquals(yarn?.type === "yarn" && [yarn.betaFast, yarn.betaSlow, yarn.truncate], [32, 1, false]);
  assertAlmostEquals(yarn?.type === "yarn" ? yarn.attentionFactor : 0, 0.1 * Math.log(4) + 1, 1e-15);
});

Deno.test("parseHfRope knows partial rotation, pairing and models without RoPE", () => {
  assertEquals(parseHfRope({ ...CONFIG, partial_rotary_factor: 0.5 })?.dim, 32);
  const { rope_theta: _, ...neox } = { ...CONFIG, model_type: "gpt_neox" };
  assertEquals(parseHfRope({ ...neox, rotary_pct: 0.25, rotary_emb_base: 10000 }), {
    theta: 10000,
    dim: 16,
    pairing: "half-split",
  });
  assertEquals(parseHfRope(neox)?.dim, 16);
  assertEquals(parseHfRope({ ...CONFIG, model_type: "gptj", rotary_dim: 48 })?.dim, 48);
  assertEquals(parseHfRope({ ...CONFIG, model_type: "cohere" })?.pairing, "adjacent");
  assertEquals(parseHfRope({ ...CONFIG, model_type: "gpt2" }), null);
});

Deno.test("parseHfRope and parseHfModel refuse by name what they do not support", () => {
  const refuse = (change: object, message: string) =>
    assertThrows(() => parseHfModel({ ...CONFIG, ...change }), KvzUnsupportedError, message);
  for (const type of ["dynamic", "longrope", "su", "proportional", "axial"]) {
    refuse({ rope_scaling: { type, factor: 2 } }, `RoPE scaling "${type}"`);
  }
  refuse({ rope_scaling: { type: "mrope", mrope_section: [16, 24, 24] } }, "M-RoPE");
  refuse({ rope_scaling: { rope_type: "default", mrope_section: [16, 24, 24] } }, "M-RoPE");
  refuse({ rope_local_base_freq: 10000 }, "differs between layers");
  refuse({ rope_parameters: { full_attention: {}, sliding_attention: {} } }, "differs between layers");
  refuse({ model_type: "smollm3" }, "layers without RoPE");
  refuse({ no_rope_layers: [1, 0] }, "layers without RoPE");
  refuse({ kv_lora_rank: 512 }, "latent attention (MLA)");
  refuse({ head_dim: 6, partial_rotary_factor: 0.5 }, "3 rotated dimensions");
});

Deno.test("parseHfModel says which field is missing or wrong", () => {
  const refuse = (change: object, message: string) =>
    assertThrows(() => parseHfModel({ ...CONFIG, ...change }), KvzFormatError, message);
  refuse({ rope_theta: "1e5" }, "rope_theta is of type string, expected number");
  refuse({ hidden_size: undefined }, "hidden_size is missing");
  refuse({ model_type: "new", rope_theta: null }, "rope_theta is missing");
  refuse({ rope_scaling: [1] }, "is not an object");
  refuse({ rope_scaling: { type: "linear" } }, "factor is missing");
  refuse({ num_hidden_layers: 0 }, "number of layers is 0");
  refuse({ rope_theta: -1 }, "RoPE theta is -1");
});

Deno.test("parseHfModel turns any JSON into a model or a typed error", () => {
  const names = [...Object.keys(CONFIG), "rope_parameters", "head_dim", "partial_rotary_factor", "rotary_dim"];
  const value = fc.oneof(fc.jsonValue(), fc.integer({ min: -2, max: 70 }));
  fc.assert(fc.property(fc.dictionary(fc.constantFrom(...names), value), (change) => {
    try {
      parseHfModel({ ...CONFIG, ...change });
    } catch (error) {
      if (!(error instanceof KvzFormatError || error instanceof KvzUnsupportedError)) throw error;
    }
  }));
});
