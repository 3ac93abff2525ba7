import { assertEquals, assertRejects } from "deno-std/assert";
import { memorySource } from "../../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError } from "../../../src/errors.ts";
import { fromTriangles, readSensitivity, toTriangles, trianglesLength } from "../../../src/profile/kvz/sensitivity.ts";
import { random, SMALL_MODEL } from "../../synthetic.ts";
import { sensitivityFile } from "./sensitivity_file.ts";

Deno.test("sensitivity: a good file is read, others are refused by name", async () => {
  const read = (bytes: Uint8Array) => readSensitivity(memorySource(bytes), SMALL_MODEL);
  const { source, key, value } = await read(sensitivityFile({ entry: 3 }));
  assertEquals([source, key.length, value.length], ["fisher", 3 * 2 * 100, 3 * 2 * 36]);
  assertEquals([key[0], key[1], key[11], value[7]], [3, 0, 3, 3]);
  const good = sensitivityFile();
  for (const length of [0, 7, 100, good.length - 1]) {
    await assertRejects(() => read(good.subarray(0, length)), KvzFormatError, undefined, `${length} bytes`);
  }
  await assertRejects(() => read(sensitivityFile({ layers: 4 })), KvzMismatchError, "more than the model's 3 layers");
  await assertRejects(() => read(sensitivityFile({ layers: 2 })), KvzFormatError, "layers.2.key.fisher");
  await assertRejects(() => read(sensitivityFile({ keyDim: 8 })), KvzMismatchError, "has the shape [2, 8, 8]");
  await assertRejects(() => read(sensitivityFile({ entry: NaN })), KvzFormatError, "NaN or infinity");
  await assertRejects(() => read(sensitivityFile({ entry: Infinity })), KvzFormatError, "NaN or infinity");
});

Deno.test("triangles hold symmetric blocks", () => {
  const next = random(3);
  const triangles = Uint16Array.from({ length: trianglesLength(SMALL_MODEL) }, () => 60000 * next());
  const blocks = fromTriangles(triangles, SMALL_MODEL);
  assertEquals(toTriangles(blocks, SMALL_MODEL), triangles);
  for (let i = 0; i < 10; i++) for (let j = 0; j < 10; j++) assertEquals(blocks[i * 10 + j], blocks[j * 10 + i]);
});
