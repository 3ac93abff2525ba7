/** `kvz calibrate --model` on the real model with tiny settings: from texts to a profile, and on from where it stopped. */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { kvzJson, namesIn } from "../cli/kvz.ts";

const MODEL = "models/smollm2";

Deno.test("from a model to a profile that compresses; what was measured is kept", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kvz-calibrate-" });
  try {
    const at = (name: string) => `${folder}/${name}`;
    const args = ["calibrate", "--model", MODEL, "--texts", "README.md", "docs/format.md", "-o", at("p.kvzp")];
    const small = [
      "--length",
      "260",
      "--sequences",
      "2",
      "--bands",
      "1",
      "--rank",
      "64",
      "--context",
      "224",
      "--continuation",
      "32",
    ];
    const made = await kvzJson([...args, ...small]);
    assertEquals(made.sensitivity, "forward");
    assertEquals(made.calibration.sequences, 4);
    assertEquals(made.model.layers, 30);
    assert(made.components >= 1 && made.components <= 64);
    assert(
      made.curve.length >= 1 && made.curve.every(({ kl, bits }: { kl: number; bits: number }) => kl > 0 && bits > 0),
    );
    assertEquals(namesIn(folder), ["p.jsonl", "p.kvzp"]);

    // Everything but the fit, which is not kept once there is a profile, is known.
    const before = await Deno.readTextFile(at("p.jsonl"));
    const again = await kvzJson([...args, ...small, "--force"]);
    assertEquals([again.fingerprint, again.curve], [made.fingerprint, made.curve]);
    const after = await Deno.readTextFile(at("p.jsonl"));
    // One line more: the fit again.
    assertEquals(after.split("\n").length, before.split("\n").length + 1);

    // Its texts are refused by kvz eval, as those of any calibration.
    const evaluation = ["eval", "--model", MODEL, "-p", at("p.kvzp"), "--texts", "README.md", "-o", at("e.html")];
    const refused = await kvzJson([...evaluation, "--method", "kvz", "--contexts", "64", "--continuation", "16"], 4);
    assertStringIncludes(refused.error.message, "were used to calibrate profile");
    const short = await kvzJson([...args, "--force"], 2);
    assertStringIncludes(short.error.message, "expected at least 4096, 2048 to fit on and as many to measure");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
