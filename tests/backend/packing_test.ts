import { assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { packedLength, type QuantGroup, TYPE_BITS } from "../../src/backend/backend.ts";
import { KvzLimitError } from "../../src/errors.ts";
import { dirty, generator, testBackends, upload } from "./backends.ts";
import { plansOf } from "./plans.ts";
import { casesFor } from "../cases.ts";

const plans = plansOf([1, 15, 16, 17, 64], 5, 5);

/** The packed form bit by bit: all bits of a component in one string, padded to bytes. */
function packByBits(symbols: Uint8Array, groups: readonly QuantGroup[], components: number, tokens: number): number[] {
  const bytes: number[] = [];
  for (const { first, size, type } of groups) {
    for (let c = first; c < first + size; c++) {
      const bits: number[] = [];
      for (let t = 0; t < tokens; t++) {
        for (let b = 0; b < TYPE_BITS[type]; b++) bits.push(symbols[t * components + c] >> b & 1);
      }
      while (bits.length % 8 !== 0) bits.push(0);
      for (let i = 0; i < bits.length; i += 8) {
        bytes.push(bits.slice(i, i + 8).reduce((byte, bit, b) => byte | bit << b, 0));
      }
    }
  }
  return bytes;
}

testBackends("pack writes the bits as specified and unpack reads them back", async (backend) => {
  const runs = fc.record({
    groups: plans,
    tokens: fc.oneof(fc.nat(9), fc.integer({ min: 10, max: 70 })),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(runs, async ({ groups, tokens, seed }) => {
      const plan = backend.uploadPlan(groups);
      const next = generator(seed);
      const symbols = new Uint8Array(tokens * plan.components);
      for (const { first, size, type } of groups) {
        for (let t = 0; t < tokens; t++) {
          for (let c = first; c < first + size; c++) symbols[t * plan.components + c] = next() * 2 ** TYPE_BITS[type];
        }
      }
      const wanted = packByBits(symbols, groups, plan.components, tokens);
      assertEquals(wanted.length, packedLength(groups, tokens));
      const packed = dirty(backend, wanted.length);
      backend.pack(upload(backend, symbols), plan, tokens, packed);
      assertEquals([...await backend.read(packed)], wanted);
      const back = dirty(backend, symbols.length);
      backend.unpack(packed, plan, tokens, back);
      assertEquals(await backend.read(back), symbols);
    }),
    { numRuns: casesFor(100) },
  );
});

testBackends("packed bytes that the kernels cannot count are refused", (backend) => {
  if (backend.name !== "webgpu") return;
  // No buffer of this size is made: the check comes first.
  const huge = { byteLength: 2 ** 50, free() {} };
  for (const [size, tokens] of [[64, 2 ** 28], [1, 2 ** 31]]) {
    const plan = backend.uploadPlan([{ first: 0, size, type: 3 }]);
    assertThrows(() => backend.pack(huge, plan, tokens, huge), KvzLimitError, "at most 4294963200 go in a call");
    assertThrows(() => backend.unpack(huge, plan, tokens, huge), KvzLimitError, "at most 4294963200 go in a call");
  }
});
