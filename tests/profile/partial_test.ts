import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { calibratePartial } from "../../src/profile/calibrate.ts";
import { readPartial, writePartial } from "../../src/profile/partial.ts";
import type { Statistics } from "../../src/profile/statistics.ts";
import { syntheticCache } from "./synthetic.ts";

async function serialize(statistics: Statistics): Promise<Uint8Array> {
  const sink = new MemorySink();
  await writePartial(statistics, sink);
  return sink.bytes();
}

const gathered = calibratePartial([syntheticCache(80, 1), syntheticCache(40, 2)], {
  threads: 1,
  sampleRows: 20,
  seed: 3,
});

Deno.test("partial statistics come back from their file as they were", async () => {
  const statistics = await gathered;
  const bytes = await serialize(statistics);
  assertEquals(await readPartial(bytes), statistics);
  assertEquals(await readPartial(memorySource(bytes)), statistics);
  assertEquals(statistics.priorities.length, 20);
  assert(statistics.shingles.length > 2);
});

Deno.test("statistics of sequences that are all sinks are kept too", async () => {
  const empty = await calibratePartial([syntheticCache(3, 9)], { threads: 1 });
  assertEquals(empty.kinds.key.moments.count, 0);
  assertEquals(await readPartial(await serialize(empty)), empty);
});

Deno.test("every flipped bit and every truncation of a statistics file is found", async () => {
  const bytes = await serialize(await gathered);
  for (let at = 0; at < bytes.length; at += at < 1500 ? 1 : 43) {
    const flipped = bytes.slice();
    flipped[at] ^= 1 << (at % 8);
    await assertRejects(() => readPartial(flipped), KvzFormatError, undefined, `byte ${at}`);
  }
  for (let length = 0; length < bytes.length; length += 307) {
    await assertRejects(() => readPartial(bytes.subarray(0, length)), KvzFormatError);
  }
});

Deno.test("impossible statistics are refused", async () => {
  const statistics = await gathered;
  const { key } = statistics.kinds;
  const withKey = (change: Partial<typeof key>): Statistics => ({
    ...statistics,
    kinds: { ...statistics.kinds, key: { ...key, ...change } },
  });
  const bad: [Statistics, string][] = [
    [withKey({ sample: key.sample.with(4, 0x7e00) }), "NaN or infinity"],
    [withKey({ moments: { ...key.moments, mean: key.moments.mean.with(0, NaN) } }), "NaN or infinity"],
    [withKey({ moments: { ...key.moments, count: 5 } }), "sample is 20"],
    [{ ...statistics, priorities: statistics.priorities.with(3, 0) }, "priorities do not ascend"],
    [{ ...statistics, priorities: statistics.priorities.slice(1) }, "KSMP has 1920 bytes, expected 1824"],
    [{ ...statistics, sampleCapacity: 10 }, "sample is 20, expected an integer from 0 to 10"],
  ];
  for (const [broken, message] of bad) {
    const bytes = await serialize(broken);
    await assertRejects(() => readPartial(bytes), KvzFormatError, message);
  }
});
