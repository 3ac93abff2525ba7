/** Several promises under way. */
import { assertEquals, assertRejects } from "deno-std/assert";
import { allDone, mapOrdered } from "../../src/codec/ordered.ts";

const later = (ms: number, run: () => void) => new Promise<void>((resolve) => setTimeout(() => (run(), resolve()), ms));

Deno.test("a failure is told when nothing is under way any more, the first in order", async () => {
  const ended: string[] = [];
  const failing = async (name: string, ms: number) => {
    await later(ms, () => ended.push(name));
    throw new RangeError(name);
  };
  const slow = later(30, () => ended.push("slow"));
  await assertRejects(() => allDone([failing("late", 20), failing("early", 5), slow]), RangeError, "late");
  assertEquals(ended, ["early", "late", "slow"]);
  assertEquals(await allDone([Promise.resolve(1), later(5, () => {}).then(() => 2)]), [1, 2]);
});

Deno.test("results come in order, few are under way, and after a failure none is begun", async () => {
  let running = 0;
  let most = 0;
  const run = async (i: number) => {
    most = Math.max(most, ++running);
    await later((7 * i) % 5, () => running--);
    if (i === 6) throw new RangeError("six");
    return i;
  };
  const seen: number[] = [];
  for await (const i of mapOrdered([0, 1, 2, 3, 4, 5], 3, run)) seen.push(i);
  assertEquals(seen, [0, 1, 2, 3, 4, 5]);
  assertEquals(most, 3);
  const begun: number[] = [];
  await assertRejects(
    async () => {
      for await (const _ of mapOrdered([5, 6, 7, 8, 9, 10], 2, (i) => (begun.push(i), run(i)))) { /* to its end */ }
    },
    RangeError,
    "six",
  );
  assertEquals(running, 0);
  assertEquals(begun, [5, 6, 7]);
});
