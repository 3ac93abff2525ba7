/** `kvz sharing` and `kvz compare` on the real model: from sentences to a map, to a file, to one table. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import type { CompareResult } from "../../cli/compare/result.ts";
import { kvzJson, namesIn } from "../cli/kvz.ts";

const MODEL = "models/smollm2";

Deno.test("a map is searched, its file holds fewer layers, and it is compared with what needs nothing", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kvz-sharing-" });
  try {
    const at = (name: string) => `${folder}/${name}`;
    const search = ["sharing", "--model", MODEL, "--texts", "README.md", "--sentences", "2", "--length", "32"];
    const found = await kvzJson([...search, "--shared", "2", "-o", at("map.json")]);
    assertEquals(found.found.length, 2);
    assert(found.found.every(({ similarity }: { similarity: number }) => similarity > 0.5 && similarity < 1));
    // The most dissimilar pair is tried first, so its distance is the largest.
    assert(found.found[0].distance >= found.found[1].distance);

    const sample = "samples/smollm2-256.safetensors";
    const report = await kvzJson(
      ["compress", sample, "-o", at("c.kvz"), "--recipe", "kvsharer", "--map", at("map.json")],
    );
    assert(Math.abs(report.paperRatio - 30 / 28) < 1e-9);

    const compare = ["compare", "--model", MODEL, "--texts", "docs/format.md", "--map", at("map.json")];
    const small = ["--contexts", "96", "--continuation", "32", "-o", at("c.html"), "-m", "kvsharer"];
    // The window of the second is larger than what it may keep of so short a cache.
    const others = ["q8_0", "snapkv:keep=0.5,window=16/64", "kvz"];
    const result: CompareResult = await kvzJson([...compare, ...small, ...others]);
    const kl = (method: string) => result.summaries.find((row) => row.method === method)!.kl;
    assert(kl("untouched") < 1e-5 && kl("q8_0") < kl("kvsharer") && kl("kvsharer") < kl("zeroed"));
    assertEquals(result.recipes.map(({ name }) => name).sort(), ["kvsharer", "q8_0", "snapkv"]);
    const size = (await Deno.stat(at("map.json"))).size;
    assertEquals(result.recipes.find(({ name }) => name === "kvsharer")!.artefactBytes, size);
    assertEquals(result.leftOut.map(({ method }) => method), ["kvz", "snapkv"]);
    assertStringIncludes(result.leftOut[0].reason, "it needs a profile");
    assertStringIncludes(result.leftOut[1].setting, "window 64");
    assertEquals(namesIn(folder), ["c.html", "c.jsonl", "c.kvz", "map.json"]);

    // Without the capture graph nothing can share, and nothing is left.
    const plain = await kvzJson([...compare, ...small, "--graph", "model"], 2);
    assertStringIncludes(plain.error.message, "its layers share, which this graph cannot: --graph capture");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
