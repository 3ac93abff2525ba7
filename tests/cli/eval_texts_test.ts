import { assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { Journal, resultKey } from "../../cli/eval/journal.ts";
import { checkHeldOut, cutWindows, loadTexts, parseTextSpec, readText } from "../../cli/eval/texts.ts";
import { UsageError } from "../../cli/exit_codes.ts";
import { KvzFormatError, KvzMismatchError } from "../../src/errors.ts";
import { shingleHashes } from "../../src/profile/shingles.ts";
import { toyIds, toyModel } from "../eval/toy_session.ts";
import { syntheticProfile } from "../synthetic.ts";

async function withFolder(work: (at: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kvz-eval-" });
  try {
    await work((name) => `${folder}/${name}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("texts are whole files or regions of them", () =>
  withFolder(async (at) => {
    await Deno.writeTextFile(at("a.txt"), "one\r\ntwo\r\nthree");
    const lines = [{ text: "first" }, { question: "q", answer: "a" }, { text: "third" }].map((x) => JSON.stringify(x));
    await Deno.writeTextFile(at("b.jsonl"), `${lines.join("\n")}\n`);
    assertEquals(await readText(parseTextSpec(at("a.txt"))), "one\ntwo\nthree");
    assertEquals(await readText(parseTextSpec(`${at("a.txt")}:4-7`)), "two");
    assertEquals(await readText(parseTextSpec(at("b.jsonl"))), "first\n\nQuestion: q\nAnswer: a\n\nthird");
    assertEquals(await readText(parseTextSpec(`${at("b.jsonl")}:2-3`)), "Question: q\nAnswer: a\n\nthird");
    assertThrows(() => parseTextSpec("a.txt:9-4"), UsageError, "its region ends before it begins");
    await Deno.writeFile(at("c.txt"), Uint8Array.of(0xff, 0xfe, 0));
    await assertRejects(() => readText(parseTextSpec(at("c.txt"))), KvzFormatError, "it is not UTF-8");
    await Deno.writeTextFile(at("d.jsonl"), '{"text":"x"}\n[\n');
    await assertRejects(() => readText(parseTextSpec(at("d.jsonl"))), KvzFormatError, "line 2 is not a JSON object");
    await Deno.writeTextFile(at("e.jsonl"), '{"body":"x"}\n');
    await assertRejects(() => readText(parseTextSpec(at("e.jsonl"))), KvzFormatError, 'line 1 has neither "text"');
  }));

Deno.test("windows are spread evenly and never overlap", () => {
  const ids = Int32Array.from({ length: 100 }, (_, i) => i);
  assertEquals(cutWindows("t", ids, 30, 1), [{ name: "t", ids: ids.slice(0, 30) }]);
  const cut = cutWindows("t", ids, 20, 3);
  assertEquals(cut.map(({ name, ids }) => [name, ids[0], ids.length]), [["t #1", 0, 20], ["t #2", 40, 20], [
    "t #3",
    80,
    20,
  ]]);
  assertThrows(
    () => cutWindows("t", ids, 40, 3),
    RangeError,
    "t: it has 100 tokens, expected at least 120 for 3 windows",
  );
});

Deno.test("regions of one file get names of their own", () =>
  withFolder(async (at) => {
    await Deno.writeTextFile(at("t.txt"), "abcdefghij".repeat(10));
    const specs = [`${at("t.txt")}:0-40`, `${at("t.txt")}:40-80`].map(parseTextSpec);
    const texts = await loadTexts(specs, toyModel(), 20, 1);
    assertEquals(texts.map(({ name, ids }) => [name, ids.length]), [["t:0-40", 20], ["t:40-80", 20]]);
  }));

Deno.test("texts of the calibration are refused, wherever they begin", () => {
  const used = toyIds(400, 5);
  const profile = { ...syntheticProfile(), shingles: shingleHashes(used) };
  assertEquals(checkHeldOut([{ name: "new", ids: toyIds(300, 6) }], profile), true);
  assertEquals(checkHeldOut([{ name: "new", ids: used }], syntheticProfile()), false);
  const shifted = Int32Array.from([...toyIds(13, 7), ...used.subarray(101, 250)]);
  assertThrows(
    () => checkHeldOut([{ name: "old", ids: shifted }], profile),
    KvzMismatchError,
    "Cannot evaluate on old: its tokens from",
  );
});

Deno.test("a journal remembers results over an interruption", () =>
  withFolder(async (at) => {
    const path = at("eval.jsonl");
    const journal = await Journal.open(path, false);
    assertEquals(journal.get("a"), undefined);
    await journal.add("a", { kl: 0.5 });
    await journal.add("b", { kl: 1 });
    // The last line broke off.
    await Deno.writeTextFile(path, '{"key":"c","resu', { append: true });
    const again = await Journal.open(path, false);
    assertEquals([again.get("a"), again.get("b"), again.get("c")], [{ kl: 0.5 }, { kl: 1 }, undefined]);
    await again.add("c", { kl: 2 });
    assertEquals((await Journal.open(path, false)).get("c"), { kl: 2 });
    assertEquals((await Journal.open(path, true)).get("a"), undefined);
    await Deno.writeTextFile(path, "some text\n");
    await assertRejects(() => Journal.open(path, false), KvzFormatError, "line 1 is no result kept by kvz");
  }));

Deno.test("keys differ with every fact", () => {
  const key = resultKey({ context: 1, options: { ratio: 8 } });
  assertEquals(key, resultKey({ context: 1, options: { ratio: 8 } }));
  assertEquals(key.length, 32);
  assertEquals(key === resultKey({ context: 1, options: { ratio: 16 } }), false);
});
