import { assert, assertThrows } from "deno-std/assert";
import { checkLlamaState, type LlamaContextFacts } from "../../src/adapters/llama_state.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { llamaState, type StateSpec } from "./llama_state_builder.ts";

const MODEL: ModelSpec = { layers: 2, kvHeads: 2, keyDim: 32, valueDim: 32, rope: null };
const CONTEXT: LlamaContextFacts = {
  model: MODEL,
  contextSize: 8,
  streams: 1,
  transposedValues: false,
  keyType: "f16",
  valueType: "f16",
  vocabulary: 2000,
};

function state(changes: Partial<StateSpec> = {}): Uint8Array {
  const field = (layer: number, head: number, t: number, i: number) => layer + head + t - i / 32;
  return llamaState({
    layers: MODEL.layers,
    heads: MODEL.kvHeads,
    keyDim: MODEL.keyDim,
    valueDim: MODEL.valueDim,
    positions: [0, 1, 2, 3, 4],
    keyType: "f16",
    valueType: "f16",
    key: field,
    value: field,
    ...changes,
  });
}

Deno.test("a state of the context's own kind passes, cells in any order", () => {
  checkLlamaState(state(), CONTEXT);
  checkLlamaState(state({ positions: [3, 0, 4, 2, 1] }), CONTEXT);
  checkLlamaState(state({ transposed: true }), { ...CONTEXT, transposedValues: true });
  checkLlamaState(state({ streams: 3, stream: 2, sequence: 2 }), { ...CONTEXT, streams: 3 });
  const codes = (_: number, __: number, t: number, i: number) => (i % 7 - t) * 0.125;
  checkLlamaState(state({ keyType: "q8_0", valueType: "q8_0", key: codes, value: codes }), {
    ...CONTEXT,
    keyType: "q8_0",
    valueType: "q8_0",
  });
  checkLlamaState(state({ positions: [0, 1, 2, 3, 4, 5, 6, 7] }), CONTEXT);
});

Deno.test("a state cut short anywhere, or followed by anything, is refused", () => {
  for (const transposed of [false, true]) {
    const bytes = state({ transposed });
    const context = { ...CONTEXT, transposedValues: transposed };
    for (let length = 0; length < bytes.length; length++) {
      const error = assertThrows(() => checkLlamaState(bytes.subarray(0, length), context));
      assert(
        error instanceof KvzFormatError || error instanceof KvzUnsupportedError,
        `cut at ${length}: ${error}`,
      );
    }
    for (const extra of [1, 4, 100]) {
      const longer = new Uint8Array(bytes.length + extra);
      longer.set(bytes);
      assertThrows(() => checkLlamaState(longer, context), KvzFormatError, `${extra} bytes follow the cache`);
    }
  }
});

Deno.test("a state of another kind of context is refused by name", () => {
  const refused = (changes: Partial<StateSpec>, facts: Partial<LlamaContextFacts>, message: string) =>
    assertThrows(() => checkLlamaState(state(changes), { ...CONTEXT, ...facts }), KvzMismatchError, message);
  refused({}, { keyType: "q8_0" }, "key of layer 0 is f16, expected q8_0");
  refused({}, { valueType: "bf16" }, "value of layer 0 is f16, expected bf16");
  refused({ keyType: "bf16" }, {}, "key of layer 0 is bf16, expected f16");
  refused({ transposed: true }, {}, "its values lie transposed (no flash attention), those of the context in rows");
  refused({}, { transposedValues: true }, "its values lie in rows (flash attention), those of the context transposed");
  refused({}, { streams: 2 }, "it is of a context of 1 streams, expected 2");
  refused({ streams: 2 }, {}, "it is of a context of 2 streams, expected 1");
});

Deno.test("a state of another model is refused by name", () => {
  const refused = (changes: Partial<ModelSpec>, message: string) =>
    assertThrows(
      () => checkLlamaState(state(), { ...CONTEXT, model: { ...MODEL, ...changes } }),
      KvzMismatchError,
      message,
    );
  refused({ layers: 3 }, "the file has 2 layers, the model 3");
  refused({ kvHeads: 1 }, "key of layer 0 has 128 bytes of f16 a cell in the file, 64 in the model (1 heads of 32)");
  refused({ valueDim: 64 }, "value of layer 0 has 128 bytes of f16 a cell in the file, 256 in the model");
  assertThrows(
    () => checkLlamaState(state({ tokens: [5, 6, 2000, 8, 9] }), CONTEXT),
    KvzMismatchError,
    "token 2 is 2000, expected 0 to 1999",
  );
  checkLlamaState(state({ tokens: [5, 6, 2000, 8, 9] }), { ...CONTEXT, vocabulary: undefined });
});

Deno.test("tokens that do not fit, or do not follow each other, are refused", () => {
  assertThrows(
    () => checkLlamaState(state(), { ...CONTEXT, contextSize: 4 }),
    KvzLimitError,
    "it has 5 tokens, the context takes at most 4",
  );
  for (const [positions, cell] of [[[0, 1, 2, 3, 5], 4], [[1, 2, 3, 4, 5], 4], [[0, 1, 1, 2, 3], 2]] as const) {
    assertThrows(
      () => checkLlamaState(state({ positions: [...positions] }), CONTEXT),
      KvzFormatError,
      `cell ${cell} has position ${positions[cell]}, expected each of 0 to 4 once`,
    );
  }
  assertThrows(
    () => checkLlamaState(state({ tokens: [5, 6, 7] }), CONTEXT),
    KvzFormatError,
    "it lists 3 tokens and holds 5 cells",
  );
});
