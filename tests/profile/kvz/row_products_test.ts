/** Products of host matrices on every backend against sums in float64; more rows than go at a time, odd lengths. */
import { assert, assertEquals } from "deno-std/assert";
import { f16ToNumber, numberToF16 } from "../../../src/cache/elements.ts";
import { type HalfRows, RowProducts } from "../../../src/profile/kvz/row_products.ts";
import { withinDevice } from "../../../src/stages/transform/integer_basis.ts";
import { testBackends, uniform } from "../../backend/backends.ts";

/** Rows left, rows right, length of both; 256 rows go at a time. */
const SHAPES = [[1, 1, 1], [3, 5, 7], [256, 9, 16], [300, 17, 33], [513, 8, 72]] as const;

const valuesOf = ({ bits, gain }: HalfRows) => Array.from(bits, (pattern) => f16ToNumber(pattern) * gain);

/** Whether a float32 sum is what float64 gives, by the sum of magnitudes. */
function requireNear(found: number, wanted: number, magnitude: number, depth: number, what: string): void {
  assert(Math.abs(found - wanted) <= (depth + 2) * 2 ** -24 * magnitude, `${what}: ${found}, expected ${wanted}`);
}

testBackends("rows times rows, and what is left of rows when others are taken out", async (backend) => {
  for (const [rows, others, length] of SHAPES) {
    using device = new RowProducts(backend, Math.max(length, others));
    const left = uniform(rows * length, 1, 30);
    const right = await device.halves(uniform(others * length, 2, 900), length);
    const values = valuesOf(right);
    const product = await device.product(left, right);
    assertEquals(product.length, rows * others);
    for (let r = 0; r < rows; r++) {
      for (let s = 0; s < others; s++) {
        let [sum, magnitude] = [0, 0];
        for (let i = 0; i < length; i++) {
          const term = left[r * length + i] * values[s * length + i];
          sum += term, magnitude += Math.abs(term);
        }
        requireNear(product[r * others + s], sum, magnitude, length, `${rows} × ${others} × ${length}, ${r}, ${s}`);
      }
    }
    const shares = uniform(rows * others, 3, 1);
    const rest = await device.difference(left, shares, right);
    for (let r = 0; r < rows; r++) {
      for (let i = 0; i < length; i++) {
        let [sum, magnitude] = [left[r * length + i], Math.abs(left[r * length + i])];
        for (let s = 0; s < others; s++) {
          const term = shares[r * others + s] * values[s * length + i];
          sum -= term, magnitude += Math.abs(term);
        }
        const found = f16ToNumber(rest[r * length + i]);
        // Half a unit of binary16 as well.
        const slack = Math.max(Math.abs(sum), 2 ** -14) * 2 ** -11 / (others + 2) * 2 ** 24;
        requireNear(found, sum, magnitude + slack, others, `${rows} × ${others} × ${length}, ${r}, ${i}`);
      }
    }
  }
});

testBackends("rounding to binary16 is that of plain TypeScript, below 4", async (backend) => {
  using device = new RowProducts(backend, 40);
  for (const [scale, gain] of [[1, 1], [3.9, 2], [1000, 512], [2 ** -18, 1]]) {
    const rows = uniform(300 * 37, 4, scale);
    rows[5] = scale;
    const { bits, gain: found, length } = await device.halves(rows, 37);
    assertEquals([found, length], [gain, 37]);
    assertEquals(bits, Uint16Array.from(rows, (value) => numberToF16(value / gain)));
  }
});

Deno.test("patterns brought into the device's range are divided by a power of two", () => {
  const patterns = Uint16Array.from({ length: 1 << 16 }, (_, i) => i).filter((bits) => (bits & 0x7c00) !== 0x7c00);
  for (const largest of [0.5, 2, 2.5, 104.5, 65504]) {
    const source = patterns.filter((bits) => Math.abs(f16ToNumber(bits)) <= largest);
    const { bits, gain } = withinDevice(source);
    assertEquals(Math.log2(gain) % 1, 0);
    assert(largest / gain <= 2 && (gain === 1 || largest / gain > 1), `${largest} by ${gain}`);
    source.forEach((pattern, i) => {
      const wanted = f16ToNumber(pattern) / gain;
      // Half a unit of the smallest exponent is all that can be lost.
      assert(Math.abs(f16ToNumber(bits[i]) - wanted) <= 2 ** -25, `${pattern} by ${gain}`);
      if (Math.abs(wanted) >= 2 ** -14) assertEquals(f16ToNumber(bits[i]), wanted);
    });
  }
  // Infinities stay, for the device to refuse.
  assertEquals(withinDevice(Uint16Array.of(0x7c00, 1)), { bits: Uint16Array.of(0x7c00, 1), gain: 1 });
});
