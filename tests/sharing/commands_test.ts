import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { writeSharingMap } from "../../src/eval/sharing_map.ts";
import { kvz, kvzJson, withFiles } from "../cli/kvz.ts";
import { SMALL_MODEL } from "../synthetic.ts";

Deno.test("kvz calibrate --map makes a profile that kvsharer with kvtc takes, and nothing else", () =>
  withFiles(async ({ at, input, profile }) => {
    const settings = { sentences: 1, tokens: 32, threshold: 0.5, shared: 1, order: "dissimilar" as const, seed: 0 };
    const text = await writeSharingMap({ model: SMALL_MODEL, map: [0, 1, 0], settings, found: [] });
    Deno.writeTextFileSync(at("map.json"), text);
    const map = ["--map", at("map.json")];
    const fit = ["--recipe", "kvtc", "--rank", "20", "--svd", "exact"];
    const made = await kvzJson(["calibrate", input, "-o", at("s.kvzp"), ...map, ...fit]);
    assertEquals([made.layerMap, made.model.layers], ["2:0", 2]);
    assertStringIncludes((await kvz(["profile", "info", at("s.kvzp")])).out, "map 2:0 leaves, for recipe kvsharer");

    const inner = ["--recipe", "kvsharer", "--inner", "kvtc"];
    await kvzJson(["compress", input, "-o", at("s.kvz"), ...inner, ...map, "-p", at("s.kvzp")]);
    await kvzJson(["decompress", at("s.kvz"), "-o", at("s.safetensors"), "-p", at("s.kvzp")]);
    const back = await readSafetensors(Deno.readFileSync(at("s.safetensors")));
    assertEquals(back.sliceLayers(2, 3).read("value", 0, 400), back.sliceLayers(0, 1).read("value", 0, 400));
    assert(back.tokens === 400);

    const whole = await kvzJson(["compress", input, "-o", at("x.kvz"), ...inner, ...map, "-p", profile], 4);
    assertStringIncludes(whole.error.message, "it is of all layers, expected those that map 2:0 leaves");
    const alone = await kvzJson(["compress", input, "-o", at("x.kvz"), "-p", at("s.kvzp")], 4);
    assertStringIncludes(alone.error.message, "for recipe kvsharer with inner kvtc");
    await kvzJson(["calibrate", input, "-o", at("x.kvzs"), ...map, "--recipe", "kvtc", "--partial"], 2);
    await kvzJson(["calibrate", input, "-o", at("x.kvzp"), ...map, "--sensitivity", at("map.json")], 2);
  }));
