import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { appendFileAtomically, openFile, readFileStream, writeFileAtomically } from "../../fs.ts";
import { MemorySink } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { readFrames } from "../../src/container/frame_stream.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import { HEADER, raw, SAMPLES, writeFile } from "./samples.ts";

/** A folder that is gone after the test. */
async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
}

/** How many descriptors of this process are open on a file; only Linux tells. */
async function openDescriptors(path: string): Promise<number> {
  if (Deno.build.os !== "linux") return 0;
  let count = 0;
  for await (const { name } of Deno.readDir("/proc/self/fd")) {
    // The descriptor of the listing itself is gone by now.
    if (await Deno.readLink(`/proc/self/fd/${name}`).catch(() => "") === await Deno.realPath(path)) count++;
  }
  return count;
}

Deno.test("fs: ranged reads give exactly what is asked for, or RangeError", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a`;
    await Deno.writeFile(path, Uint8Array.from({ length: 100 }, (_, i) => i));
    await using file = await openFile(path);
    assertEquals(file.size, 100);
    assertEquals([...await file.read(98, 2)], [98, 99]);
    assertEquals((await file.read(100, 0)).length, 0);
    const parts = await Promise.all([file.read(0, 50), file.read(50, 50)]);
    assertEquals(parts.map((part) => part[0]), [0, 50]);
    for (const [at, length] of [[99, 2], [-1, 1], [0, 101], [NaN, 1], [0, -1]]) {
      await assertRejects(() => file.read(at, length), RangeError, "Cannot read");
    }
    await Deno.truncate(path, 10);
    await assertRejects(() => file.read(0, 100), RangeError, "has become shorter");
    await assertRejects(() => openFile(folder), TypeError, "not a regular file");
    await assertRejects(() => openFile(`${folder}/none`), Error, "ENOENT");
  });
});

Deno.test("fs: a file is written whole, appended and positioned, with the default mode", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/out`;
    const result = await writeFileAtomically(path, {}, async (sink) => {
      await sink.write(Uint8Array.of(1, 2));
      await sink.writeAt(4, Uint8Array.of(9));
      await sink.write(Uint8Array.of(3));
      assertEquals((await names(folder)).length, 1, "the bytes go into another file first");
      assert(!(await names(folder)).includes("out"));
      return "done";
    });
    assertEquals(result, "done");
    assertEquals([...await Deno.readFile(path)], [1, 2, 3, 0, 9]);
    assertEquals(await names(folder), ["out"]);
    assertEquals((await Deno.stat(path)).mode! & 0o777, 0o666 & ~Deno.umask());
  });
});

Deno.test("fs: nothing is replaced without force, even when the file appears meanwhile", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/out`;
    const write = (force: boolean, text: string, meanwhile?: () => Promise<void>) =>
      writeFileAtomically(path, { force }, async (sink) => {
        await sink.write(new TextEncoder().encode(text));
        await meanwhile?.();
      });
    const race = await assertRejects(
      () => write(false, "late", () => Deno.writeTextFile(path, "first")),
      Error,
      "exists",
    );
    assertEquals((race as Error & { code: string }).code, "EEXIST");
    const early = await assertRejects(() => write(false, "second"), Error, "the file exists");
    assertEquals((early as Error & { code: string }).code, "EEXIST");
    assertEquals(await Deno.readTextFile(path), "first");
    await Deno.chmod(path, 0o640);
    await write(true, "third");
    assertEquals(await Deno.readTextFile(path), "third");
    assertEquals((await Deno.stat(path)).mode! & 0o777, 0o640, "the mode stays");
    assertEquals(await names(folder), ["out"]);
  });
});

Deno.test("fs: a failure leaves the old file and nothing else", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/out`;
    await Deno.writeTextFile(path, "old");
    const fail = async (force: boolean, target: string) =>
      await writeFileAtomically(target, { force }, async (sink) => {
        await sink.write(Uint8Array.of(1));
        throw new Error("no more");
      });
    await assertRejects(() => fail(true, path), Error, "no more");
    await assertRejects(() => fail(false, `${folder}/new`), Error, "no more");
    await assertRejects(
      () => appendFileAtomically(path, 1, () => Promise.reject(new Error("no more"))),
      Error,
      "no more",
    );
    await assertRejects(() => appendFileAtomically(path, 4, () => Promise.resolve()), RangeError, "it has 3 bytes");
    await assertRejects(() => fail(true, folder), TypeError, "not a regular file");
    await assertRejects(() => fail(true, `${folder}/none/x`), Error, "ENOENT");
    assertEquals(await Deno.readTextFile(path), "old");
    assertEquals(await names(folder), ["out"]);
  });
});

Deno.test("fs: framed files through files: write, ranged read, stream, append", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.kvz`;
    await writeFileAtomically(path, {}, async (sink) => {
      const writer = new FrameWriter(sink, "cache", HEADER);
      await writer.start();
      for (const { head, stored } of SAMPLES) await writer.writeRecord(head, stored);
      await writer.finish();
    });
    assertEquals(await Deno.readFile(path), await writeFile("cache", HEADER, SAMPLES));

    const more = raw("MORE", 1, 2, [7, 7]);
    const { records, indexOffset } = await (async () => {
      await using file = await openFile(path);
      const reader = await FrameReader.open(file, "cache");
      await reader.verify();
      return reader;
    })();
    await appendFileAtomically(path, indexOffset, async (sink) => {
      const writer = new FrameWriter(sink, "cache", HEADER, { records, offset: indexOffset });
      await writer.start();
      await writer.writeRecord(more.head, more.stored);
      await writer.finish();
    });
    assertEquals(await Deno.readFile(path), await writeFile("cache", HEADER, [...SAMPLES, more]));
    const tags = [];
    for await (const frame of readFrames(readFileStream(path), "cache")) {
      if (frame.type === "record") tags.push(frame.info.tag);
    }
    assertEquals(tags, ["SINK", "KCOD", "IDS ", "MORE"]);
    assertEquals(await names(folder), ["a.kvz"]);
  });
});

Deno.test("fs: streams read all of a file, close it when cancelled, and report what cannot be opened", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/big`;
    const bytes = Uint8Array.from({ length: 600_001 }, (_, i) => i >> 3);
    await Deno.writeFile(path, bytes);
    const sink = new MemorySink();
    for await (const piece of readFileStream(path)) sink.write(piece);
    assertEquals(sink.bytes(), bytes);
    const reader = readFileStream(path).getReader();
    assertEquals((await reader.read()).value!.length, 1 << 18);
    assert(Deno.build.os !== "linux" || await openDescriptors(path) === 1);
    await reader.cancel();
    await readFileStream(path).cancel();
    assertEquals(await openDescriptors(path), 0);
    await assertRejects(() => readFileStream(`${folder}/none`).getReader().read(), Error, "ENOENT");
  });
});
