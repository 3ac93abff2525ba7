import { assert, assertEquals, assertLessOrEqual } from "deno-std/assert";
import fc from "fast-check";
import { ArrayPool } from "../../src/stages/array_pool.ts";

Deno.test("array pool: an array is lent to one at a time, in its length, and what is kept is bounded", () => {
  const step = fc.record({ take: fc.boolean(), length: fc.nat(300), index: fc.nat() });
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), fc.nat(600), (steps, most) => {
    const pool = new ArrayPool(most);
    const lent: Uint8Array[] = [];
    const returned = new Set<ArrayBufferLike>();
    for (const { take, length, index } of steps) {
      if (take || lent.length === 0) {
        const array = pool.take(length);
        assertEquals(array.length, length);
        assert(lent.every(({ buffer }) => buffer !== array.buffer), "it is lent already");
        returned.delete(array.buffer);
        lent.push(array);
      } else {
        const [array] = lent.splice(index % lent.length, 1);
        // Any part of it will do, and twice is as once.
        pool.give(array.subarray(length % (array.length + 1)));
        pool.give(array);
        returned.add(array.buffer);
      }
    }
    // What the pool still has comes out again: no more than it may keep.
    let kept = 0;
    for (let i = 0; i <= steps.length; i++) {
      const { buffer } = pool.take(0);
      if (returned.delete(buffer)) kept += buffer.byteLength;
    }
    assertLessOrEqual(kept, most);
  }));
});

Deno.test("array pool: what came back is used again, what came from elsewhere is not", () => {
  const pool = new ArrayPool(1000);
  const first = pool.take(100);
  pool.give(first.subarray(10, 20));
  const second = pool.take(60);
  assertEquals(second.buffer, first.buffer);
  assertEquals(second.length, 60);
  pool.give(new Uint8Array(80));
  const third = pool.take(60);
  assert(third.buffer !== second.buffer);
  assertEquals(third.buffer.byteLength, 60);
  // Of several the shortest that will do.
  const [short, long] = [pool.take(200), pool.take(300)];
  pool.give(long);
  pool.give(short);
  assertEquals([pool.take(150).buffer, pool.take(150).buffer], [short.buffer, long.buffer]);
  // A longer one is wanted than there is.
  pool.give(second);
  assertEquals(pool.take(101).buffer.byteLength, 101);
});
