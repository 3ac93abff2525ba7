/** DiffKV on the real model: both of its rules in `kvz eval`, and `kvz thresholds`. */
import { assert, assertEquals } from "deno-std/assert";
import type { EvalResult } from "../../src/eval/point.ts";
import { kvzJson } from "../cli/kvz.ts";

const MODEL = ["--model", "models/smollm2"];
const texts = ["--texts", "docs/format.md"];

async function inFolder(work: (at: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kvz-diffkv-" });
  try {
    await work((name) => `${folder}/${name}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("diffkv and streamingllm act while the model reads on", async () => {
  await inFolder(async (at) => {
    const settings = [
      "diffkv:alphaHigh=0,alphaLow=0,decode=8",
      "diffkv:alphaHigh=3,alphaLow=0",
      "streamingllm:capacity=64",
    ];
    const run = ["eval", ...MODEL, "--graph", "capture", ...texts, "--threads", "1", "-o", at("e.html")];
    const sizes = ["--contexts", "128", "--continuation", "32"];
    const both = ["diffkv:alphaHigh=3,alphaLow=0,decode=8", "streamingllm:capacity=64,decode=8"];
    const result: EvalResult = await kvzJson([...run, ...sizes, "-m", ...settings, ...both]);
    const [untouched, , whole, prompt, stream, decoding, streaming] = result.summaries;
    assert(untouched.kl < 1e-5 && whole.kl < 0.02 && whole.kl < prompt.kl, `${whole.kl} ${prompt.kl}`);
    assertEquals([prompt.decodedRatio, stream.decodedRatio], [undefined, undefined]);
    // K8V4 of 64 elements a head: 112 bytes of 256, pages padded.
    assert(Math.abs(whole.decodedRatio! - 256 / 112) < 0.05);
    assert(decoding.decodedRatio! > whole.decodedRatio! && decoding.kl > whole.kl);
    // 160 tokens of which 64 are held.
    assertEquals(streaming.decodedRatio, 160 / 64);
    assert(streaming.kl > 1e-3 && stream.kl > 1e-3);
  });
});

Deno.test("kvz thresholds searches those of diffkv, keeps what it measured, and measures it once", async () => {
  await inFolder(async (at) => {
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
  });
});
