import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { measureCurve } from "../../cli/calibrate/curve.ts";
import { Journal } from "../../cli/eval/journal.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { toyIds, toyModel } from "../eval/toy_session.ts";
import { kvzJson, withFiles } from "./kvz.ts";

const CONTEXT = 120;
const CONTINUATION = 10;
const texts = [1, 2].map((seed) => ({ name: `toy ${seed}`, ids: toyIds(CONTEXT + CONTINUATION + 1, seed) }));

Deno.test("an interrupted curve goes on where it stopped, and other settings are measured anew", () =>
  withFiles(async ({ at }) => {
    const profile = await smallKvzProfile();
    const path = at("curve.jsonl");
    const run = async (changed: { context?: number; identity?: string } = {}) => {
      let tokens = 0;
      const result = await measureCurve({
        model: toyModel(),
        identity: "toy",
        profile,
        texts,
        steps: [-120, 0],
        context: CONTEXT,
        continuation: CONTINUATION,
        dtype: "f16",
        lanes: {},
        journal: await Journal.open(path, false),
        signal: new AbortController().signal,
        onProgress: ({ done, total }) => {
          assert(done <= total);
          tokens = done;
        },
        ...changed,
      });
      return { ...result, tokens };
    };
    const first = await run();
    assertEquals(first.tokens, 2 * (CONTEXT + 3 * CONTINUATION));
    assertEquals(first.measurements.length, 4);
    assert(first.profile.curve.length >= 1);
    assertEquals(first.profile.fingerprint, profile.fingerprint);

    // Cut as by an interruption: the last text lacks its second step.
    const lines = (await Deno.readTextFile(path)).trimEnd().split("\n");
    assertEquals(lines.length, 4);
    await Deno.writeTextFile(path, `${lines.slice(0, 3).join("\n")}\n${lines[3].slice(0, 30)}`);
    const again = await run();
    assertEquals(again.tokens, CONTEXT + 2 * CONTINUATION);
    assertEquals(again.measurements, first.measurements);
    assertEquals(again.profile.curve, first.profile.curve);
    assertEquals((await run()).tokens, 0);
    assert((await run({ identity: "another toy" })).tokens > 0);
    assert((await run({ context: CONTEXT - 1 })).tokens > 0);
  }));

Deno.test("kvz profile curve names what is wrong before any work", () =>
  withFiles(async ({ at, profile }) => {
    await Deno.writeTextFile(at("t.txt"), "some text");
    await Deno.writeFile(at("kvz.kvzp"), await serializeProfile(await smallKvzProfile()));
    const common = ["--model", at("nothing"), "--texts", at("t.txt")];
    const refused = async (code: number, args: readonly string[]): Promise<string> =>
      (await kvzJson(["profile", "curve", ...args], code)).error.message;
    assertStringIncludes(await refused(4, [profile, ...common, "-o", at("o.kvzp")]), "expected one for recipe kvz");
    const kvz = [at("kvz.kvzp"), ...common];
    assertStringIncludes(await refused(8, [...kvz, "-o", at("o.kvzp")]), "there is no such folder");
    assertStringIncludes(await refused(2, [...kvz, "-o", "-"]), "-o takes a file");
    assertStringIncludes(await refused(2, [...kvz, "-o", at("o.kvzp"), "--steps", "1,0"]), "--steps takes a number");
    assertStringIncludes(await refused(2, [...kvz, "-o", at("o.kvzp"), "--dtype", "f8"]), "Cannot use --dtype f8");
  }));
