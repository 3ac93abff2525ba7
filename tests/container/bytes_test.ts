import { assertEquals, assertRejects } from "deno-std/assert";
import { blobSource, MemorySink, memorySource } from "../../src/container/bytes.ts";

Deno.test("bytes: memory and blobs give exactly what is asked for, or RangeError", async () => {
  const bytes = Uint8Array.of(1, 2, 3, 4);
  for (const source of [memorySource(bytes), blobSource(new Blob([bytes]))]) {
    assertEquals(source.size, 4);
    assertEquals([...await source.read(1, 2)], [2, 3]);
    assertEquals([...await source.read(4, 0)], []);
    for (const [at, length] of [[3, 2], [-1, 1], [0, 5], [NaN, 1], [0, NaN], [0, -1]]) {
      await assertRejects(() => source.read(at, length), RangeError, "Cannot read");
    }
  }
});

Deno.test("bytes: a memory sink copies and joins what it is given", () => {
  const sink = new MemorySink();
  assertEquals(sink.bytes(), new Uint8Array(0));
  const piece = Uint8Array.of(1, 2);
  sink.write(piece);
  piece.fill(9);
  sink.write(Uint8Array.of(3));
  assertEquals([...sink.bytes()], [1, 2, 3]);
});
