import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "deno-std/assert";
import { calibrateOnModel, type ModelCalibration } from "../../cli/calibrate/from_model.ts";
import { cutTexts } from "../../cli/calibrate/sequences.ts";
import { Journal } from "../../cli/eval/journal.ts";
import { checkHeldOut, parseTextSpec } from "../../cli/eval/texts.ts";
import { UsageError } from "../../cli/exit_codes.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { toyIds, toyModel } from "../eval/toy_session.ts";
import { kvzJson, namesIn, withFiles } from "./kvz.ts";

const model = toyModel();
const [CONTEXT, CONTINUATION] = [120, 20];
const cutting = { length: 160, sequences: 3, heldOut: CONTEXT + CONTINUATION + 1 };

/** Writes toy texts and cuts them. */
async function toyTexts(at: (name: string) => string, seeds: readonly number[]) {
  for (const seed of seeds) await Deno.writeTextFile(at(`t${seed}.txt`), model.detokenize(toyIds(700, seed)));
  return seeds.map((seed) => parseTextSpec(at(`t${seed}.txt`)));
}

Deno.test("texts are cut into sequences and a part that is kept", () =>
  withFiles(async ({ at }) => {
    const specs = await toyTexts(at, [1, 2]);
    const { training, heldOut, leftOut } = await cutTexts(specs, model, cutting);
    // 700 tokens are four windows of 160, of which the third is kept.
    assertEquals(training.map(({ name, ids }) => [name, ids.length]), [
      ...[1, 2, 4].map((n) => [`t1 #${n}`, 160]),
      ...[1, 2, 4].map((n) => [`t2 #${n}`, 160]),
    ]);
    assertEquals(heldOut.map(({ name, ids }) => [name, ids.length]), [["t1", 141], ["t2", 141]]);
    assertEquals(heldOut[0].ids, toyIds(700, 1).slice(320, 461));
    assertEquals(leftOut, []);
    const all = await cutTexts(specs, model, { ...cutting, heldOut: 0 });
    assertEquals([all.training.length, all.heldOut.length], [6, 0]);
    // A text that comes twice: what is kept of one is not fitted on in the other.
    await Deno.copyFile(at("t1.txt"), at("copy.txt"));
    const twice = await cutTexts([specs[0], parseTextSpec(at("copy.txt"))], model, cutting);
    assertEquals(twice.leftOut, []);
    const shifted = model.detokenize(toyIds(700, 1).slice(80));
    await Deno.writeTextFile(at("shifted.txt"), shifted);
    const overlapping = await cutTexts([specs[0], parseTextSpec(at("shifted.txt"))], model, cutting);
    assertEquals(overlapping.leftOut, ["t1 #2", "shifted #3"]);
    await Deno.writeTextFile(at("short.txt"), "abc".repeat(100));
    await assertRejects(
      () => cutTexts([parseTextSpec(at("short.txt"))], model, cutting),
      RangeError,
      "Cannot calibrate on short: it has 300 tokens, expected at least 320, 160 to fit on and as many",
    );
    await Deno.writeTextFile(at("same.txt"), "a".repeat(640));
    await assertRejects(
      () => cutTexts([parseTextSpec(at("same.txt"))], model, cutting),
      UsageError,
      "every sequence shares tokens",
    );
  }));

Deno.test("from a model to a profile; an interrupted run goes on with the same result", () =>
  withFiles(async ({ at, folder }) => {
    const before = namesIn(folder);
    const texts = await cutTexts(await toyTexts(at, [1, 2]), model, cutting);
    /** Runs until a stage begins that is to be interrupted. */
    const run = async (name: string, options: { until?: string; sensitivity?: "none" | "forward" } = {}) => {
      const controller = new AbortController();
      const stages: string[] = [];
      const request: ModelCalibration = {
        model,
        identity: "toy",
        texts,
        sensitivity: options.sensitivity ?? "forward",
        bands: 2,
        context: CONTEXT,
        continuation: CONTINUATION,
        dtype: "f16",
        fit: { rank: 64, svd: "exact" },
        lanes: {},
        journal: await Journal.open(at(`${name}.jsonl`), false),
        fitFile: at(`${name}.fit`),
        signal: controller.signal,
        onProgress: ({ done, total, stage }) => {
          assert(done <= total!);
          if (stages.at(-1) !== stage) stages.push(stage!);
          if (stage === options.until && done > 0) controller.abort(new Error("interrupted"));
        },
      };
      return { stages, profile: await calibrateOnModel(request) };
    };
    const whole = await run("whole");
    const curve = "curve of KL by step, tokens:";
    assertEquals(whole.stages, ["sensitivity", "prefill", "fitting", curve]);
    const { profile } = whole;
    assertEquals(profile.sensitivity, "forward");
    assertEquals(profile.calibration.sequences, 6);
    assert(profile.curve.length >= 1);
    assertEquals(profile.model.layers, model.spec.layers);
    // Its texts are known by it, the held-out ones are not.
    assertThrows(() => checkHeldOut(texts.training, profile), KvzMismatchError);
    assert(checkHeldOut(texts.heldOut, profile));

    for (const until of ["sensitivity", "prefill", "fitting", curve]) {
      await assertRejects(() => run("broken", { until }), Error, "interrupted");
    }
    const lines = (await Deno.readTextFile(at("broken.jsonl"))).trimEnd().split("\n");
    assert(lines.some((line) => line.includes(profile.fingerprint)), "the fit is kept");
    const last = await run("broken");
    // Sensitivity and the fit are there: only their last word is heard.
    assertEquals(last.stages.includes("prefill") || last.stages.includes("fitting"), false);
    assertEquals(last.profile, profile);
    assertEquals(namesIn(folder).filter((name) => !before.includes(name)), [
      "broken.jsonl",
      "t1.txt",
      "t2.txt",
      "whole.jsonl",
    ]);

    const plain = await run("whole", { sensitivity: "none" });
    assertEquals(plain.stages, ["prefill", "fitting", curve]);
    assertEquals(plain.profile.sensitivity, "none");
  }));

Deno.test("kvz calibrate --model names what is wrong before any work", () =>
  withFiles(async ({ at, input }) => {
    await Deno.writeTextFile(at("t.txt"), "some text");
    const out = ["-o", at("o.kvzp")];
    const common = ["--model", at("nothing"), "--texts", at("t.txt")];
    const bad: readonly (readonly [number, readonly string[], string])[] = [
      [8, [...common, ...out], "there is no such folder"],
      [2, [...common, "-o", "-"], "standard output"],
      [2, ["--model", at("nothing"), ...out], "without texts"],
      [2, [input, "--model", at("nothing"), ...out], "caches and on --model at once"],
      [2, [...common, ...out, "--recipe", "kvtc"], "Cannot use --model with --recipe kvtc"],
      [2, [...common, ...out, "--held-out", input], "Cannot use --held-out with --model"],
      [2, [...common, ...out, "--dtype", "f8"], "Cannot use --dtype f8"],
      [2, out, "Cannot calibrate on nothing"],
      [2, [input, ...out, "--length", "100"], "Cannot use --length with caches from files"],
      [2, [input, ...out, "--sensitivity", "forward"], "--sensitivity forward without --model"],
      [2, [input, ...out, "--no-curve"], "Cannot use --no-curve without --model"],
    ];
    for (const [code, args, message] of bad) {
      assertStringIncludes((await kvzJson(["calibrate", ...args], code)).error.message, message);
    }
  }));
