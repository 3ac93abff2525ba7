/** `kvz eval` on the real model: its controls, its figures' order, resuming, and what it refuses. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import type { EvalPoint } from "../../src/eval/point.ts";
import { kvzJson } from "../cli/kvz.ts";

const MODEL = "models/smollm2";
const PROFILE = "samples/smollm2-demo.kvzp";

async function withFolder(work: (at: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kvz-eval-" });
  try {
    await work((name) => `${folder}/${name}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("controls hold, coarser is worse, an interrupted run resumes", () =>
  withFolder(async (at) => {
    const args = ["eval", "--model", MODEL, "--profile", PROFILE, "--texts", "README.md", "docs/format.md"];
    const common = ["--contexts", "384", "--continuation", "96", "-o", at("eval.html")];
    const { points, summaries, profile } = await kvzJson([...args, ...common]);
    assert(profile.heldOut);
    assertEquals(points.length, 8);
    const of = (text: string, method: string, setting: string): EvalPoint =>
      points.find((p: EvalPoint) => p.text === text && p.method === method && p.setting === setting);
    for (const text of ["README", "format"]) {
      const untouched = of(text, "untouched", "");
      assert(untouched.agreement.kl <= 1e-5, `KL of an untouched cache is ${untouched.agreement.kl}`);
      assert(of(text, "zeroed", "").agreement.kl > 1);
      const [coded, coarse] = [of(text, "kvtc", "32×"), of(text, "kvtc", "64×")];
      assert(coded.agreement.kl > 1e-5 && coded.agreement.kl < coarse.agreement.kl && coarse.agreement.kl < 0.5);
      assert(coded.agreement.topOne > 0.75);
      assert(coded.errors.key.coded! < coarse.errors.key.coded!);
      // The paper sees about twice the error in values.
      assert(coded.errors.value.coded! > 1.5 * coded.errors.key.coded!);
      assertEquals(coded.errors.key.layers.length, 30);
    }
    assertEquals(summaries.length, 4);
    assertStringIncludes(await Deno.readTextFile(at("eval.html")), "uPlot");

    // Cut the journal as an interruption would: the second text's last result and half a line are lost.
    const lines = (await Deno.readTextFile(at("eval.jsonl"))).trimEnd().split("\n");
    assertEquals(lines.length, 8);
    const kept = lines.slice(0, 7);
    await Deno.writeTextFile(at("eval.jsonl"), `${kept.join("\n")}\n${lines[7].slice(0, 200)}`);
    const again = await kvzJson([...args, ...common]);
    const after = (await Deno.readTextFile(at("eval.jsonl"))).trimEnd().split("\n");
    assertEquals(after.slice(0, 7), kept);
    assertEquals(after.length, 8);
    // Timings apart, the result is the same.
    const plain = (list: EvalPoint[]) => list.map(({ seconds: _, ...point }) => point);
    assertEquals(plain(again.points), plain(points));
  }));

Deno.test("another model, too long contexts and too short texts are named", () =>
  withFolder(async (at) => {
    const args = ["eval", "--profile", PROFILE, "--texts", "README.md", "-o", at("eval.html")];
    const long = await kvzJson([...args, "--model", MODEL, "--contexts", "8000", "--continuation", "512"], 2);
    assertStringIncludes(
      long.error.message,
      "Cannot evaluate context 8000: with 512 more tokens it needs 8512 positions, the model has 8192",
    );
    await Deno.writeTextFile(at("short.txt"), "Too short.");
    const short = await kvzJson(
      ["eval", "--profile", PROFILE, "--texts", at("short.txt"), "-o", at("eval.html"), "--model", MODEL],
      2,
    );
    assertStringIncludes(short.error.message, "Cannot evaluate on short: it has 3 tokens, expected at least 1537");

    // The same graph under another name: the profile is of other weights.
    await Deno.mkdir(at("other/onnx"), { recursive: true });
    for (const name of ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "onnx/model.onnx"]) {
      await Deno.symlink(await Deno.realPath(`${MODEL}/${name}`), at(`other/${name}`));
    }
    const config = JSON.parse(await Deno.readTextFile(`${MODEL}/config.json`));
    await Deno.writeTextFile(at("other/config.json"), JSON.stringify({ ...config, _name_or_path: "Another-135M" }));
    const other = await kvzJson([...args, "--model", at("other")], 4);
    assertStringIncludes(other.error.message, "Cannot use the model with the profile: they are of different models");
    assertStringIncludes(other.error.message, "Another-135M");
  }));
