import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import type { ModelSpec, RopeScaling } from "../../src/cache/types.ts";
import { canonicalJson, type JsonObject, type JsonValue } from "../../src/container/canonical_json.ts";
import { encodeHeader, type KvzHeader, parseHeader } from "../../src/container/header.ts";
import { modelToJson, parseModel } from "../../src/container/model_json.ts";
import { KvzFormatError } from "../../src/errors.ts";

const MODEL: ModelSpec = {
  architecture: "llama",
  id: "SmolLM2-135M-Instruct",
  layers: 30,
  kvHeads: 3,
  keyDim: 64,
  valueDim: 64,
  rope: { theta: 100000, dim: 64, pairing: "half-split" },
};

const HEADER: KvzHeader = {
  recipe: { name: "kvtc", version: 1, options: { ratio: 16, window: 128 } },
  model: MODEL,
  modelFingerprint: "0".repeat(64),
  profileFingerprint: "a1".repeat(32),
  dtype: "f16",
  chunkTokens: 256,
  firstPosition: 7,
  user: { note: "é", nested: { a: [1, null] } },
};

const positive = fc.double({ min: 1e-3, max: 1e9, noNaN: true });
const scaling: fc.Arbitrary<RopeScaling> = fc.oneof(
  fc.record({ type: fc.constant("linear" as const), factor: positive }),
  fc.record({
    type: fc.constant("llama3" as const),
    factor: positive,
    lowFreqFactor: fc.double({ min: 0.1, max: 1, noNaN: true }),
    highFreqFactor: fc.double({ min: 2, max: 8, noNaN: true }),
    originalMaxPosition: fc.integer({ min: 1, max: 1 << 20 }),
  }),
  fc.record({
    type: fc.constant("yarn" as const),
    factor: positive,
    originalMaxPosition: fc.integer({ min: 1, max: 1 << 20 }),
    betaFast: positive,
    betaSlow: positive,
    attentionFactor: positive,
    truncate: fc.boolean(),
  }),
);

Deno.test("header: what was encoded is parsed again, through text", () => {
  const same = (header: KvzHeader) => {
    assertEquals(parseHeader(JSON.parse(canonicalJson(encodeHeader(header)))), header);
  };
  same(HEADER);
  const { profileFingerprint: _, firstPosition: __, user: ___, ...least } = HEADER;
  same({ ...least, model: { layers: 1, kvHeads: 1, keyDim: 1, valueDim: 65536, rope: null } });
  fc.assert(fc.property(scaling, fc.constantFrom("half-split", "adjacent"), (scaling, pairing) => {
    same({ ...HEADER, model: { ...MODEL, rope: { theta: 1e6, dim: 32, pairing, scaling } } });
  }));
});

/** Sets the field at a path, or removes it. */
function change(object: JsonObject, path: string, value: JsonValue | undefined): JsonObject {
  const [name, ...rest] = path.split(".");
  const changed = rest.length === 0 ? value : change(object[name] as JsonObject, rest.join("."), value);
  return { ...object, [name]: changed };
}

Deno.test("header: each wrong field is refused with its name, value and what is wanted", () => {
  const yarn = { type: "yarn", factor: 4, originalMaxPosition: 4096, betaFast: 32, betaSlow: 1, attentionFactor: 1 };
  const cases: [string, JsonValue | undefined, string][] = [
    ["recipe", undefined, "recipe is absent, expected an object"],
    ["recipe.name", "", 'recipe.name is "", expected a text of 1 to 64 characters'],
    ["recipe.version", 0, "recipe.version is 0, expected an integer from 1 to 65535"],
    ["recipe.options", [], "recipe.options is [], expected an object"],
    ["recipe.more", 1, 'unknown field "recipe.more"'],
    ["model.layers", 4097, "model.layers is 4097, expected an integer from 1 to 4096"],
    ["model.kvHeads", 0, "model.kvHeads is 0, expected an integer from 1 to 4096"],
    ["model.keyDim", 65537, "model.keyDim is 65537, expected an integer from 1 to 65536"],
    ["model.valueDim", 1.5, "model.valueDim is 1.5, expected an integer from 1 to 65536"],
    ["model.id", 7, "model.id is 7, expected a text"],
    ["model.rope", undefined, "model.rope is absent, expected an object"],
    ["model.rope.theta", -1, "model.rope.theta is -1, expected a number above 0"],
    ["model.rope.theta", Infinity, "model.rope.theta is Infinity, expected a number above 0"],
    ["model.rope.dim", 66, "model.rope.dim is 66, expected an integer from 2 to 64"],
    ["model.rope.dim", 63, "model.rope.dim is 63, expected an even integer"],
    ["model.rope.pairing", "odd", 'model.rope.pairing is "odd", expected "half-split" or "adjacent"'],
    ["model.rope.scaling", { type: "su" }, 'model.rope.scaling.type is "su", expected "linear" or "llama3" or "yarn"'],
    ["model.rope.scaling", yarn, "model.rope.scaling.truncate is absent, expected true or false"],
    ["model.rope.scaling", { ...yarn, truncate: true, mscale: 1 }, 'unknown field "model.rope.scaling.mscale"'],
    ["model.extra", 1, 'unknown field "model.extra"'],
    ["modelFingerprint", "AA".repeat(32), "expected 64 lower-case hexadecimal digits"],
    ["profileFingerprint", null, "profileFingerprint is null, expected 64 lower-case hexadecimal digits"],
    ["dtype", "f8", 'dtype is "f8", expected "f32" or "f16" or "bf16"'],
    ["chunkTokens", 0, "chunkTokens is 0, expected an integer from 1 to 1048576"],
    ["firstPosition", -1, "firstPosition is -1, expected an integer from 0"],
    ["user", "x", 'user is "x", expected an object'],
    ["tokens", 5, 'unknown field "tokens"'],
  ];
  const json = encodeHeader(HEADER);
  for (const [path, value, message] of cases) {
    const error = assertThrows(() => parseHeader(change(json, path, value)), KvzFormatError);
    assert(error.message.startsWith("Cannot read cache header: ") && error.message.includes(message), error.message);
  }
});

Deno.test("header: arbitrary JSON gives a typed error only", () => {
  fc.assert(fc.property(fc.jsonValue(), fc.constantFrom(...Object.keys(HEADER)), (value, key) => {
    for (const json of [value, { ...encodeHeader(HEADER), [key]: value }] as JsonObject[]) {
      try {
        parseHeader(json);
      } catch (error) {
        assert(error instanceof KvzFormatError, `${error}`);
      }
    }
  }));
});

Deno.test("model: encoding checks what it encodes", () => {
  assertEquals(parseModel(modelToJson(MODEL)), MODEL);
  assertThrows(() => modelToJson({ ...MODEL, layers: 0 }), KvzFormatError, "layers is 0");
  const llama3 = { type: "llama3", factor: 8, lowFreqFactor: 4, highFreqFactor: 4, originalMaxPosition: 8192 } as const;
  const rope = { theta: 5e5, dim: 64, pairing: "adjacent", scaling: llama3 } as const;
  assertThrows(() => modelToJson({ ...MODEL, rope }), KvzFormatError, "a number above lowFreqFactor 4");
});
