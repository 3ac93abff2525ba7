import { assert, assertEquals } from "deno-std/assert";
import type { Backend } from "../../src/backend/backend.ts";
import type { DType } from "../../src/cache/types.ts";
import {
  BACKENDS,
  bitsOfFloats,
  firstDifference,
  floatsOfBits,
  readFloats,
  readHalves,
  testBackends,
  upload,
} from "./backends.ts";
import { E4M3_CODES, E4M3_ROW, E4M3_VALUES, FLOATS, FLOATS_BF16, FLOATS_F16 } from "./golden.ts";

/** All 65536 patterns of 16 bits. */
const PATTERNS = Uint16Array.from({ length: 0x10000 }, (_, i) => i);

/** 16-bit elements → float32 through gather: as one long row (vector code) or as rows of one (scalar code). */
async function widen(backend: Backend, dtype: DType, bits: Uint16Array, row: boolean): Promise<Float32Array> {
  const [tokens, dim] = row ? [1, bits.length] : [bits.length, 1];
  const stride = row ? Math.ceil(dim / 8) * 8 : 8;
  const dst = backend.alloc(tokens * stride * 4);
  backend.gather(upload(backend, bits), { dtype, blocks: 1, tokens, dim, rotaryDim: 0 }, null, null, dst);
  const values = await readFloats(backend, dst);
  return row ? values.subarray(0, dim) : values.filter((_, i) => i % 8 === 0);
}

/** Float32 → 16-bit elements through scatter. */
async function narrow(backend: Backend, dtype: DType, values: Float32Array, row: boolean): Promise<Uint16Array> {
  const [tokens, dim] = row ? [1, values.length] : [values.length, 1];
  const stride = row ? Math.ceil(dim / 8) * 8 : 8;
  const src = new Float32Array(tokens * stride);
  values.forEach((value, i) => src[row ? i : i * 8] = value);
  const dst = backend.alloc(values.length * 2);
  backend.scatter(upload(backend, src), { dtype, blocks: 1, tokens, dim, rotaryDim: 0 }, null, null, dst);
  return await readHalves(backend, dst);
}

/** A 16-bit float as this platform's DataView (f16) or a float32 with 16 zero bits (bf16) has it. */
function valueOf(dtype: DType, bits: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint16(0, bits);
  return dtype === "f16" ? view.getFloat16(0) : view.getFloat32(0);
}

/** The pattern whose value lies nearest, ties to the even one, found by comparing distances in float64. */
function nearestPattern(dtype: DType, value: number, candidates: readonly number[]): number {
  return candidates.reduce((best, bits) => {
    // Past the largest number, infinity counts as the next step of the last binade.
    const at = (b: number) => {
      const found = valueOf(dtype, b);
      return Number.isFinite(found) ? found : Math.sign(found) * (dtype === "f16" ? 2 ** 16 : 2 ** 128);
    };
    const [d, e] = [Math.abs(at(bits) - value), Math.abs(at(best) - value)];
    return d < e || (d === e && bits % 2 === 0) ? bits : best;
  });
}

/** For neighbours of every finite pattern: their middle and the float32 beside it, with the expected pattern. */
function roundingCases(dtype: DType): { values: Float32Array; wanted: number[] } {
  const top = dtype === "f16" ? 0x7c00 : 0x7f80;
  const values: number[] = [];
  const wanted: number[] = [];
  const word = new DataView(new ArrayBuffer(4));
  for (let bits = 0; bits < top; bits++) {
    const upper = bits + 1 === top ? (dtype === "f16" ? 2 ** 16 : 2 ** 128) : valueOf(dtype, bits + 1);
    word.setFloat32(0, (valueOf(dtype, bits) + upper) / 2); // exact
    const middle = word.getUint32(0);
    for (const neighbour of [middle - 1, middle, middle + 1]) {
      for (const sign of [0, 0x8000]) {
        word.setUint32(0, neighbour + sign * 0x10000);
        const value = word.getFloat32(0);
        values.push(value);
        wanted.push(nearestPattern(dtype, value, [bits + sign, bits + 1 + sign]));
      }
    }
  }
  return { values: Float32Array.from(values), wanted };
}

for (const dtype of ["f16", "bf16"] as const) {
  const wanted = Float32Array.from(PATTERNS, (bits) => valueOf(dtype, bits));
  const cases = roundingCases(dtype);

  testBackends(`every ${dtype} pattern becomes its float32, and again itself`, async (backend) => {
    for (const row of [true, false]) {
      const found = await widen(backend, dtype, PATTERNS, row);
      assertEquals(firstDifference(found, wanted), -1);
      const back = await narrow(backend, dtype, found, row);
      const wrong = back.findIndex((bits, i) =>
        Number.isNaN(wanted[i]) ? !Number.isNaN(valueOf(dtype, bits)) : bits !== i
      );
      assertEquals(wrong, -1);
    }
  });

  testBackends(`float32 rounds to the nearest even ${dtype} at and beside every middle`, async (backend) => {
    for (const row of [true, false]) {
      const found = await narrow(backend, dtype, cases.values, row);
      assertEquals(firstDifference(found, cases.wanted), -1);
    }
  });

  testBackends(`float32 to ${dtype} gives the golden vectors`, async (backend) => {
    const golden = dtype === "f16" ? FLOATS_F16 : FLOATS_BF16;
    assertEquals([...await narrow(backend, dtype, floatsOfBits(FLOATS), true)], golden);
    assertEquals([...await narrow(backend, dtype, floatsOfBits(FLOATS), false)], golden);
  });
}

testBackends("float32 elements pass unchanged, NaN staying NaN", async (backend) => {
  const values = floatsOfBits([...FLOATS, 0x7fc00000, 0xffc00000]);
  const n = values.length;
  const shape = { dtype: "f32", blocks: 1, tokens: 1, dim: n, rotaryDim: 0 } as const;
  const rows = backend.alloc(Math.ceil(n / 8) * 32);
  backend.gather(upload(backend, values), shape, null, null, rows);
  const back = backend.alloc(n * 4);
  backend.scatter(rows, shape, null, null, back);
  assertEquals(firstDifference(await readFloats(backend, back), values), -1);
});

testBackends("every E4M3 code has its value, and NaN stays NaN", async (backend) => {
  const codes = upload(backend, Uint8Array.from({ length: 256 }, (_, i) => i));
  const scales = upload(backend, new Uint16Array(256).fill(0x3c00));
  const dst = backend.alloc(1024);
  for (const [rows, length] of [[1, 256], [256, 1]]) {
    backend.decodeFp8(codes, scales, rows, length, dst);
    assertEquals(firstDifference(await readFloats(backend, dst), floatsOfBits(E4M3_VALUES)), -1);
  }
});

/** E4M3 codes of values whose magnitudes reach at most 448, with scale 1: each in a row that also holds 448. */
async function toE4m3(backend: Backend, values: Float32Array, row: boolean): Promise<Uint8Array> {
  const rows = row ? 1 : values.length;
  const src = row ? Float32Array.of(...values, 448) : values.reduce((all, value, i) => {
    all[2 * i] = value;
    return all;
  }, new Float32Array(2 * rows).fill(448));
  const [codes, scales] = [backend.alloc(src.length), backend.alloc(2 * rows)];
  backend.encodeFp8(upload(backend, src), rows, src.length / rows, codes, scales);
  assert((await readHalves(backend, scales)).every((scale) => scale === 0x3c00));
  const bytes = await backend.read(codes);
  return row ? bytes.subarray(0, values.length) : bytes.filter((_, i) => i % 2 === 0);
}

testBackends("values round to the nearest even E4M3 code, subnormals and signed zeros too", async (backend) => {
  const value = floatsOfBits(E4M3_VALUES);
  const values: number[] = [];
  const wanted: number[] = [];
  for (let code = 0; code < 0x7f; code++) {
    for (const sign of [1, -1]) {
      values.push(sign * value[code]);
      wanted.push(code | (sign < 0 ? 0x80 : 0));
      if (code === 0x7e) continue;
      const middle = (value[code] + value[code + 1]) / 2;
      const even = code % 2 === 0 ? code : code + 1;
      const step = middle * 2 ** -23;
      for (const [x, c] of [[middle, even], [middle - step, code], [middle + step, code + 1]]) {
        values.push(sign * x);
        wanted.push(c | (sign < 0 ? 0x80 : 0));
      }
    }
  }
  values.push(1e-30, -1e-30, 1e-44);
  wanted.push(0, 0x80, 0);
  for (const row of [true, false]) {
    assertEquals(firstDifference(await toE4m3(backend, Float32Array.from(values), row), wanted), -1);
  }
});

testBackends("E4M3 gives the golden vector", async (backend) => {
  const src = floatsOfBits(E4M3_ROW);
  const [codes, scales] = [backend.alloc(src.length), backend.alloc(2)];
  backend.encodeFp8(upload(backend, src), 1, src.length, codes, scales);
  assertEquals([...await backend.read(codes)], E4M3_CODES);
  assertEquals([...await readHalves(backend, scales)], [0x3c00]);
});

Deno.test("the tests run on every build", () => {
  assertEquals(BACKENDS.slice(0, 4).map(([name]) => name), ["reference", "wasm base", "wasm simd", "wasm relaxed"]);
  assertEquals(bitsOfFloats(Float32Array.of(1))[0], 0x3f800000);
});
