import { assertStringIncludes } from "deno-std/assert";
import { kvzJson, withFiles } from "./kvz.ts";

/** Runs `kvz eval` with what lies in the folder; returns the error's message. */
async function refused(code: number, args: readonly string[]): Promise<string> {
  const { error } = await kvzJson(["eval", ...args], code);
  return error.message;
}

Deno.test("kvz eval names what is wrong before any work", () =>
  withFiles(async ({ at, profile }) => {
    const common = ["--profile", profile, "--texts", at("t.txt"), "-o", at("eval.html")];
    await Deno.writeTextFile(at("t.txt"), "some text");
    const missing = await refused(8, [...common, "--model", at("nothing")]);
    assertStringIncludes(missing, "there is no such folder; in a clone of kvz `deno task model` makes models/smollm2");
    await Deno.mkdir(at("model"));
    assertStringIncludes(await refused(8, [...common, "--model", at("model")]), "it lacks config.json");
    for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"]) {
      await Deno.writeTextFile(at(`model/${name}`), "{}");
    }
    assertStringIncludes(await refused(8, [...common, "--model", at("model")]), "it lacks onnx/model.onnx");
    assertStringIncludes(
      await refused(8, [...common, "--model", at("model"), "--graph", "capture", "--weights", "q4"]),
      "it lacks onnx/capture_q4.onnx",
    );
    const bad: readonly (readonly [readonly string[], string])[] = [
      [["--weights", "int3"], 'Cannot use weights "int3": expected one of fp32'],
      [["--dtype", "f8"], "Cannot use --dtype f8: expected f16, bf16 or f32"],
      [["--method", "zip"], 'Cannot find recipe "zip"'],
      [["--method", "kvtc:speed=1"], 'Cannot use option "speed"'],
      [["--method", "kvtc:ratio"], '"ratio" is not option=value'],
      [["--method", "kvtc:decode=8"], "recipe kvtc does nothing while a model decodes; diffkv, streamingllm do"],
      [["--method", "diffkv:decode=0"], 'Cannot use option "decode": it is 0'],
      [["--contexts", "12,x"], "--contexts takes a whole number"],
      [["-o", "-"], "Cannot write the page to standard output"],
    ];
    for (const [args, message] of bad) {
      assertStringIncludes(await refused(2, [...common, "--model", at("model"), ...args]), message);
    }
  }));
