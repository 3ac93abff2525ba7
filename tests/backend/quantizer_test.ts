import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type Backend, packedLength, type QuantGroup } from "../../src/backend/backend.ts";
import { f16ToNumber } from "../../src/cache/elements.ts";
import {
  bitsOfFloats,
  dirty,
  firstDifference,
  floatsOfBits,
  generator,
  readFloats,
  readHalves,
  testBackends,
  upload,
  withBackends,
} from "./backends.ts";
import { plansOf } from "./plans.ts";
import { COEFFICIENTS, E4M3_VALUES, PACKED, PARAMS, PLAN, RESTORED, SYMBOLS } from "./golden.ts";
import { casesFor } from "../cases.ts";

/** Groups with gaps, of the recipe's sizes and of others. */
const plans = plansOf([1, 16, 64], 6, 9);

/** Coefficients as they are, and those at which roundings, signs and ranges go wrong. */
const coefficients = fc.oneof(
  { weight: 4, arbitrary: fc.float({ min: -40, max: 40, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(0, -0, 1, -1, 0.5, 1.5, 2.5, 448, 2 ** -24, -(2 ** -26), 1e-40, 65504) },
  { weight: 1, arbitrary: fc.float({ noNaN: true, noDefaultInfinity: true }) },
).map(Math.fround);

interface Case {
  readonly groups: QuantGroup[];
  readonly tokens: number;
  readonly slack: number;
  readonly values: number[];
}

const cases: fc.Arbitrary<Case> = fc.record({
  groups: plans,
  tokens: fc.oneof(fc.nat(5), fc.integer({ min: 6, max: 37 })),
  slack: fc.nat(9),
  values: fc.array(coefficients, { minLength: 1, maxLength: 60 }),
});

function end(groups: readonly QuantGroup[]): number {
  const last = groups.at(-1);
  return last === undefined ? 0 : last.first + last.size;
}

/** Row-major coefficients: the values over and over, sometimes constant over a row. */
function fill({ groups, tokens, slack, values }: Case): { x: Float32Array; stride: number } {
  const stride = end(groups) + slack;
  const x = Float32Array.from({ length: tokens * stride }, (_, i) => values[(i * 7 + (i >> 5)) % values.length]);
  return { x, stride };
}

async function quantize(backend: Backend, one: Case): Promise<{ symbols: Uint8Array; params: Uint16Array }> {
  const { x, stride } = fill(one);
  const { groups, tokens } = one;
  const plan = backend.uploadPlan(groups);
  const symbols = dirty(backend, tokens * plan.components);
  const params = dirty(backend, tokens * groups.length * 4);
  const from = upload(backend, x);
  backend.quantize(from, stride, tokens, plan, symbols, params);
  const [codes, pairs] = await Promise.all([backend.read(symbols), readHalves(backend, params)]);
  for (const it of [plan, symbols, params, from]) it.free();
  return { symbols: codes, params: pairs };
}

/** Runs on the reference and on all others; results must be the same bits. */
async function onAll<T>(
  backends: readonly (readonly [string, Backend])[],
  run: (backend: Backend) => Promise<T>,
): Promise<[string, T][]> {
  return await Promise.all(backends.map(async ([name, backend]): Promise<[string, T]> => [name, await run(backend)]));
}

Deno.test("equal coefficients give equal codes, shifts and scales on every backend", async () => {
  await withBackends((backends) =>
    fc.assert(
      fc.asyncProperty(cases, async (one) => {
        const [[, wanted], ...others] = await onAll(backends, (backend) => quantize(backend, one));
        for (const [name, found] of others) {
          assertEquals(firstDifference(found.params, wanted.params), -1, `${name}: params`);
          assertEquals(firstDifference(found.symbols, wanted.symbols), -1, `${name}: symbols`);
        }
      }),
      { numRuns: casesFor(300) },
    )
  );
});

Deno.test("equal codes give equal coefficients on every backend", async () => {
  const runs = fc.record({
    one: cases,
    codes: fc.array(fc.nat(255), { minLength: 1 }),
    scales: fc.array(fc.nat(0xffff), { minLength: 1 }),
  });
  await withBackends((backends) =>
    fc.assert(
      fc.asyncProperty(runs, async ({ one: { groups, tokens, slack }, codes, scales }) => {
        const stride = end(groups) + slack;
        const restored = await onAll(backends, async (backend) => {
          const plan = backend.uploadPlan(groups);
          const symbols = Uint8Array.from({ length: tokens * plan.components }, (_, i) => codes[i % codes.length]);
          const params = Uint16Array.from({ length: tokens * groups.length * 2 }, (_, i) => scales[i % scales.length]);
          const out = dirty(backend, tokens * stride * 4);
          const [from, pairs] = [upload(backend, symbols), upload(backend, params)];
          backend.dequantize(from, pairs, plan, tokens, out, stride);
          const found = await readFloats(backend, out);
          for (const it of [plan, from, pairs, out]) it.free();
          return found;
        });
        for (const [name, found] of restored) assertEquals(firstDifference(found, restored[0][1]), -1, name);
      }),
      { numRuns: casesFor(100) },
    )
  );
});

testBackends(
  "codes err by at most half a step and what rounding shift and scale adds; the rest is zero",
  async (backend) => {
    await fc.assert(
      fc.asyncProperty(cases, async (one) => {
        const { groups, tokens } = one;
        const { x, stride } = fill({ ...one, values: one.values.filter((v) => Math.abs(v) <= 1000).concat(1) });
        const plan = backend.uploadPlan(groups);
        const symbols = backend.alloc(tokens * plan.components);
        const params = backend.alloc(tokens * groups.length * 4);
        const out = dirty(backend, tokens * stride * 4);
        backend.quantize(upload(backend, x), stride, tokens, plan, symbols, params);
        backend.dequantize(symbols, params, plan, tokens, out, stride);
        const found = await readFloats(backend, out);
        const pairs = await readHalves(backend, params, tokens * groups.length * 2);
        const inGroup = new Uint8Array(stride);
        for (let t = 0; t < tokens; t++) {
          groups.forEach(({ first, size, type }, g) => {
            const row = x.subarray(t * stride + first, t * stride + first + size);
            const [low, high] = [Math.min(...row), Math.max(...row)];
            const largest = Math.max(Math.abs(low), Math.abs(high));
            const scale = f16ToNumber(pairs[(t * groups.length + g) * 2 + 1]);
            const levels = type === 1 ? 3 : 15;
            inGroup.fill(1, first, first + size);
            row.forEach((value, i) => {
              const error = Math.abs(found[t * stride + first + i] - value);
              // Half a step; f16 rounding of the shift (2^-11 of it or 2^-25), and of the scale, at every level.
              const bound = type === 3
                ? largest * 2 ** -4 + 449 * (2 ** -25 + scale * 2 ** -10)
                : scale / 2 + largest * 2 ** -10 + (levels + 1) * (2 ** -25 + scale * 2 ** -11);
              assert(error <= bound, `type ${type}: ${value} comes back off by ${error}, bound ${bound}`);
            });
          });
          for (let c = 0; c < stride; c++) if (!inGroup[c]) assertEquals(found[t * stride + c], 0);
        }
      }),
      { numRuns: casesFor(100) },
    );
  },
);

testBackends("the golden vectors: codes, shifts, scales, packed bytes, and back", async (backend) => {
  const groups = Array.from(
    { length: PLAN.length / 3 },
    (_, g) => ({ first: PLAN[3 * g], size: PLAN[3 * g + 1], type: PLAN[3 * g + 2] }) as QuantGroup,
  );
  const plan = backend.uploadPlan(groups);
  const stride = plan.components;
  const tokens = COEFFICIENTS.length / stride;
  const symbols = dirty(backend, SYMBOLS.length);
  const params = dirty(backend, PARAMS.length * 2);
  backend.quantize(upload(backend, floatsOfBits(COEFFICIENTS)), stride, tokens, plan, symbols, params);
  assertEquals([...await backend.read(symbols)], SYMBOLS);
  assertEquals([...await readHalves(backend, params)], PARAMS);
  const packed = dirty(backend, packedLength(groups, tokens));
  backend.pack(symbols, plan, tokens, packed);
  assertEquals([...await backend.read(packed)], PACKED);
  const again = dirty(backend, SYMBOLS.length);
  backend.unpack(packed, plan, tokens, again);
  assertEquals([...await backend.read(again)], SYMBOLS);
  const restored = dirty(backend, RESTORED.length * 4);
  backend.dequantize(again, params, plan, tokens, restored, stride);
  assertEquals([...bitsOfFloats(await readFloats(backend, restored))], RESTORED);
});

testBackends("an fp8 code that is NaN gives NaN, a minimum of −0 the shift 0", async (backend) => {
  const plan = backend.uploadPlan([{ first: 0, size: 2, type: 3 }]);
  const out = backend.alloc(8);
  backend.dequantize(
    upload(backend, Uint8Array.of(0x7f, 0xff)),
    upload(backend, Uint16Array.of(0, 0x3c00)),
    plan,
    1,
    out,
    2,
  );
  assertEquals([...await readFloats(backend, out)], [NaN, NaN]);
  for (const values of [[-0, 0], [0, -0], [-0, 3], [3, -0]]) {
    const one = { groups: [{ first: 0, size: 2, type: 2 as const }], tokens: 1, slack: 0, values };
    const { params } = await quantize(backend, one);
    assertEquals(params[0], 0);
  }
});

testBackends("plans and quantizers refuse what does not fit", (backend) => {
  const group = { first: 0, size: 4, type: 2 } as const;
  assertThrows(() => backend.uploadPlan([group, { ...group, first: 3 }]), RangeError, "begins at 3, expected 4");
  assertThrows(() => backend.uploadPlan([{ ...group, size: 0 }]), RangeError, "is empty");
  assertThrows(() => backend.uploadPlan([{ ...group, type: 4 as 1 }]), RangeError, "type 4");
  assertThrows(() => backend.uploadPlan([{ ...group, first: -1 }]), RangeError, '"first" is -1');
  const plan = backend.uploadPlan([group]);
  const [x, symbols, params, packed] = [64, 16, 16, 8].map((bytes) => backend.alloc(bytes));
  backend.quantize(x, 4, 4, plan, symbols, params);
  backend.dequantize(symbols, params, plan, 4, x, 4);
  backend.pack(symbols, plan, 4, packed);
  backend.unpack(packed, plan, 4, symbols);
  assertThrows(() => backend.quantize(x, 3, 4, plan, symbols, params), RangeError, '"stride" is 3');
  assertThrows(() => backend.dequantize(symbols, params, plan, 4, x, 3), RangeError, '"stride" is 3');
  assertThrows(() => backend.quantize(x, 5, 4, plan, symbols, params), RangeError);
  assertThrows(() => backend.quantize(x, 4, 4, plan, params, packed), RangeError);
  assertThrows(() => backend.quantize(x, 4, 4, plan, packed, params), RangeError);
  assertThrows(() => backend.pack(symbols, plan, 5, x), RangeError);
  assertThrows(() => backend.unpack(params, plan, 5, symbols), RangeError);
  assertThrows(() => backend.pack(x, plan, 5, packed), RangeError);
});

Deno.test("at and beside every middle between codes, whatever the scale, all backends round as the reference", async () => {
  const next = generator(7);
  const word = new Float32Array(1);
  const bits = new Uint32Array(word.buffer);
  const beside = (value: number): number[] => {
    word[0] = value;
    const at = bits[0];
    return [-1, 0, 1].map((step) => {
      bits[0] = at + step;
      return word[0];
    });
  };
  const e4m3 = floatsOfBits(E4M3_VALUES);
  const rows: { readonly type: 1 | 2 | 3; readonly values: number[] }[] = [];
  for (let i = 0; i < 400; i++) {
    // Scales of all exponents, subnormal ones and the smallest among them.
    const scale = f16ToNumber(i < 40 ? i + 1 : Math.floor(next() * 0x7800) + 1);
    for (const [type, levels] of [[1, 3], [2, 15]] as const) {
      const middles = Array.from({ length: levels }, (_, q) => beside((q + 0.5) * scale)).flat();
      rows.push({ type, values: [0, levels * scale, ...middles] });
    }
    const middles = Array.from({ length: 0x7e }, (_, code) => beside((e4m3[code] + e4m3[code + 1]) / 2 * scale)).flat();
    rows.push({ type: 3, values: [448 * scale, ...middles.map((x) => next() < 0.5 ? -x : x)] });
  }
  await withBackends(async (backends) => {
    for (const type of [1, 2, 3] as const) {
      const ofType = rows.filter((row) => row.type === type);
      const size = ofType[0].values.length;
      const x = Float32Array.from(ofType.flatMap(({ values }) => values));
      const found = await onAll(backends, async (backend) => {
        const plan = backend.uploadPlan([{ first: 0, size, type }]);
        const [symbols, params] = [dirty(backend, x.length), dirty(backend, ofType.length * 4)];
        backend.quantize(upload(backend, x), size, ofType.length, plan, symbols, params);
        return await Promise.all([backend.read(symbols), backend.read(params)]);
      });
      for (const [name, [symbols, params]] of found) {
        assertEquals(firstDifference(params, found[0][1][1]), -1, `${name}: parameters of type ${type}`);
        assertEquals(firstDifference(symbols, found[0][1][0]), -1, `${name}: codes of type ${type}`);
      }
    }
  });
});
