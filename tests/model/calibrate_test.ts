/** `kvz calibrate --model` on the real model with tiny settings. Resuming is tested on a toy model in tests/cli. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { kvzJson, namesIn } from "../cli/kvz.ts";

const MODEL = "models/smollm2";

Deno.test("from a model to a profile that compresses; what was measured is kept", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kvz-calibrate-" });
  try {
    const at = (name: string) => `${folder}/${name}`;
    // Some 1500 tokens: enough for the small settings, too few for the usual ones.
    const text = at("prose.txt");
    await Deno.writeTextFile(text, (await Deno.readTextFile("README.md")).slice(0, 5000));
    const args = ["calibrate", "--model", MODEL, "--texts", text, "-o", at("p.kvzp")];
    const small = [
      ...["--length", "96", "--sequences", "1", "--bands", "1", "--rank", "32", "--context", "64"],
      ...["--continuation", "16"],
    ];
    const made = await kvzJson([...args, ...small]);
    assertEquals(made.sensitivity, "forward");
    assertEquals(made.calibration.sequences, 1);
    assertEquals(made.model.layers, 30);
    assert(made.components >= 1 && made.components <= 32);
    assert(
      made.curve.length >= 1 && made.curve.every(({ kl, bits }: { kl: number; bits: number }) => kl > 0 && bits > 0),
    );
    assertEquals(namesIn(folder), ["p.jsonl", "p.kvzp", "prose.txt"]);

    // Of 60 parts on one sequence, the fit, and the steps on the part that was kept.
    const lines = (await Deno.readTextFile(at("p.jsonl"))).trimEnd().split("\n").map((line) => JSON.parse(line).result);
    assertEquals(lines.filter(({ weight }) => weight >= 0).length, 60);
    assertEquals(lines.filter(({ fingerprint }) => fingerprint === made.fingerprint).length, 1);
    assertEquals(lines.filter(({ bits, text }) => bits > 0 && text === "prose").length, lines.length - 61);

    // Its texts are refused by kvz eval, as those of any calibration.
    const evaluation = ["eval", "--model", MODEL, "-p", at("p.kvzp"), "--texts", text, "-o", at("e.html")];
    const refused = await kvzJson([...evaluation, "--method", "kvz", "--contexts", "1200", "--continuation", "16"], 4);
    assertStringIncludes(refused.error.message, "were used to calibrate profile");
    const short = await kvzJson([...args, "--force"], 2);
    assertStringIncludes(short.error.message, "expected at least 4096, 2048 to fit on and as many to measure");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
