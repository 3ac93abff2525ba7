/** DiffKV on the real model: both of its rules in `kvz eval`, and `kvz thresholds`. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import type { EvalResult } from "../../src/eval/point.ts";
import { kvzJson, namesIn } from "../cli/kvz.ts";

const MODEL = ["--model", "models/smollm2"];

Deno.test("diffkv acts while the model reads on, and its thresholds are searched", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kvz-diffkv-" });
  try {
    const at = (name: string) => `${folder}/${name}`;
    const texts = ["--texts", "docs/format.md"];
    const settings = [
      "diffkv:alphaHigh=0,alphaLow=0,decode=8",
      "diffkv:alphaHigh=3,alphaLow=0",
      "streamingllm:capacity=64",
    ];
    const result: EvalResult = await kvzJson([
      ...[
        "eval",
        ...MODEL,
        "--graph",
        "capture",
        ...texts,
        "--contexts",
        "128",
        "--continuation",
        "32",
        "--threads",
        "1",
      ],
      ...[
        "-o",
        at("e.html"),
        "-m",
        ...settings,
        "diffkv:alphaHigh=3,alphaLow=0,decode=8",
        "streamingllm:capacity=64,decode=8",
      ],
    ]);
    const [untouched, , whole, prompt, stream, both, streaming] = result.summaries;
    assert(untouched.kl < 1e-5 && whole.kl < 0.02 && whole.kl < prompt.kl, `${whole.kl} ${prompt.kl}`);
    assertEquals([prompt.decodedRatio, stream.decodedRatio], [undefined, undefined]);
    // K8V4 of 64 elements a head: 112 bytes of 256, pages padded.
    assert(Math.abs(whole.decodedRatio! - 256 / 112) < 0.05);
    assert(both.decodedRatio! > whole.decodedRatio! && both.kl > whole.kl);
    // 160 tokens of which 64 are held.
    assertEquals(streaming.decodedRatio, 160 / 64);
    assert(streaming.kl > 1e-3 && stream.kl > 1e-3);

    const search = ["thresholds", ...MODEL, ...texts, "--context", "96", "--continuation", "16", "--threads", "1"];
    const grid = ["--alpha-high", "1", "--alpha-low", "0.5", "--decode", "8", "-o", at("t.json")];
    const found = await kvzJson([...search, ...grid, "--max-kl", "100"]);
    assertEquals(found.tried.length, 3);
    assertEquals([found.found.alphaHigh, found.found.alphaLow], [1, 0.5]);
    const file = JSON.parse(await Deno.readTextFile(at("t.json")));
    assertEquals(file.options, { alphaHigh: 1, alphaLow: 0.5 });
    assertEquals(file.measurements, found.measurements);
    // All is known: another bound only looks again.
    const lines = await Deno.readTextFile(at("t.jsonl"));
    const strict = await kvzJson([...search, ...grid, "-f", "--max-kl", `${found.tried[0].kl}`]);
    assertEquals(strict.found.alphaHigh === 0 || strict.found.kl <= found.tried[0].kl, true);
    assert((await Deno.readTextFile(at("t.jsonl"))).startsWith(lines));
    const refused = await kvzJson([...search, ...grid, "-f", "--max-kl", "1e-9"], 2);
    assertStringIncludes(refused.error.message, "everything in high precision costs a KL of");
    assertEquals(namesIn(folder), ["e.html", "e.jsonl", "t.json", "t.jsonl"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
