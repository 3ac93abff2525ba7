import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import { defaultSettings } from "../../cli/compare/defaults.ts";
import { artefactBytes, splitByNeeds } from "../../cli/compare/needs.ts";
import { isComparePage, renderComparePage } from "../../cli/compare/page.ts";
import type { CompareResult } from "../../cli/compare/result.ts";
import { contextsOf, heads, rowsOf } from "../../cli/compare/tables.ts";
import type { Artefacts } from "../../cli/eval/options.ts";
import { readPlotLibrary } from "../../cli/page/library.ts";
import { chooseRecipe } from "../../src/codec/encode.ts";
import { findRecipe, listRecipes } from "../../src/recipes/registry.ts";
import { kvzJson, withFiles } from "../cli/kvz.ts";
import { syntheticResult } from "../cli/eval_result.ts";
import { runPage } from "../cli/page_dom.ts";
import { syntheticProfile } from "../synthetic.ts";

const NOTHING: Artefacts = { profiles: [], sharing: null, bytes: { profiles: new Map(), sharing: null } };
const CAPTURE = { takesBias: true, takesLayerSource: true, givesQueries: true };
const PLAIN = { takesBias: false, takesLayerSource: false, givesQueries: false };

Deno.test("every recipe is compared, in settings that it takes", async () => {
  const settings = await defaultSettings([]);
  const names = (await listRecipes()).map(({ name }) => name);
  assertEquals([...new Set(settings.map(({ recipe }) => recipe))], names);
  for (const { recipe, options } of settings) await chooseRecipe({ ...options, recipe }, null);
  const keys = settings.map((setting) => JSON.stringify(setting));
  assertEquals(new Set(keys).size, keys.length);
  // A trimmed profile serves its own ratios alone.
  const profile = syntheticProfile();
  const trimmed = { ...profile, calibration: { ...profile.calibration, ratios: [12, 24] } };
  const kvtc = (await defaultSettings([trimmed])).filter(({ recipe }) => recipe === "kvtc");
  assertEquals(kvtc.map(({ options }) => options), [{ ratio: 12 }, { ratio: 24 }]);
});

Deno.test("what a recipe lacks is told, once a recipe; what needs nothing runs anywhere", async () => {
  const settings = await defaultSettings([]);
  const recipes = await listRecipes();
  const plain = await splitByNeeds(settings, NOTHING, PLAIN);
  const free = recipes.filter(({ needs }) => needs.length === 0).map(({ name }) => name);
  assertEquals([...new Set(plain.ready.map(({ recipe }) => recipe))], free);
  assertEquals(
    plain.leftOut.map(({ method }) => method),
    recipes.filter(({ needs }) => needs.length > 0).map(({ name }) => name),
  );
  const reason = (leftOut: typeof plain.leftOut, name: string) => leftOut.find(({ method }) => method === name)!.reason;
  assertStringIncludes(reason(plain.leftOut, "kvtc"), "kvz calibrate --recipe kvtc makes one");
  assertStringIncludes(reason(plain.leftOut, "kvsharer"), "kvz sharing makes one");

  const profile = syntheticProfile();
  const artefacts = { ...NOTHING, profiles: [profile] };
  const some = await splitByNeeds(settings, artefacts, CAPTURE);
  assert(some.ready.some(({ recipe }) => recipe === "kvtc"));
  // A profile of one recipe is none for another.
  assertStringIncludes(reason(some.leftOut, "kvz"), "it needs a profile");
  const mapped = [{ recipe: "kvsharer", options: { map: "1:0" } }];
  assertEquals((await splitByNeeds(mapped, NOTHING, CAPTURE)).ready, mapped);
  assertStringIncludes(
    reason((await splitByNeeds(mapped, NOTHING, PLAIN)).leftOut, "kvsharer"),
    "its layers share, which this graph cannot: --graph capture",
  );
});

Deno.test("the size of what was fitted is that of its own file", async () => {
  const bytes = { profiles: new Map([["kvtc", 123]]), sharing: 45 };
  const of = async (name: string) => artefactBytes(await findRecipe(name), bytes);
  assertEquals([await of("kvtc"), await of("kvsharer"), await of("kvz"), await of("q8_0")], [123, 45, null, null]);
});

function compared(): CompareResult {
  const result = syntheticResult();
  return {
    ...result,
    recipes: [
      { name: "kvtc", description: "d", needs: ["profile"], artefactBytes: 16_856_608 },
      { name: "quantize", description: "d", needs: [], artefactBytes: null },
      { name: "evict", description: "d", needs: ["queries"], artefactBytes: null },
    ],
    leftOut: [{ method: "kvz", setting: "", reason: "it needs a <profile>" }],
  };
}

Deno.test("the table has a row a setting and context, with needs, artefact, retrieval and times", () => {
  const result = compared();
  assertEquals(contextsOf(result), [512, 1024, 2048]);
  const rows = rowsOf(result, 1024);
  const settings = result.summaries.filter(({ context, ratios }) => context === 1024 && ratios.file !== null);
  assertEquals(rows.length, settings.length);
  const names = heads(result);
  assert(rows.every(({ cells }) => cells.length === names.length));
  const row = rows.find(({ cells }) => cells[0] === "kvtc" && cells[1] === "16×")!;
  const cell = (name: string) => row.cells[names.indexOf(name)];
  const summary = settings.find(({ method, setting }) => method === "kvtc" && setting === "16×")!;
  assertEquals([cell("needs"), cell("artefact")], ["profile", "16.9 MB"]);
  assertEquals(cell("file"), `${summary.ratios.file!.toFixed(2)}×`);
  assertEquals(rows.find(({ cells }) => cells[0] === "quantize")!.cells.slice(2, 4), ["nothing", "–"]);
  const [task] = result.retrieval;
  const score = result.retrieval.find((point) =>
    point.task === task.task && point.context === task.context && point.method === "kvtc" && point.setting === "16×"
  )!;
  assertEquals(cell(`${task.task} ${task.context}`), `${(100 * score.after).toFixed(1)} %`);
});

Deno.test("a method that acts while the model reads on has a ratio for what it then holds", () => {
  const plain = compared();
  assertEquals(heads(plain).includes("decoded"), false);
  const summaries = plain.summaries.map((row) => row.method === "evict" ? { ...row, decodedRatio: 3.5 } : row);
  const result = { ...plain, summaries };
  const at = heads(result).indexOf("decoded");
  assertEquals(heads(result)[at - 1], "file");
  const decoded = rowsOf(result, 1024).map(({ method, cells }) => [method, cells.length, cells[at]]);
  assert(decoded.length > 1);
  for (const row of decoded) assertEquals(row, [row[0], heads(result).length, row[0] === "evict" ? "3.50×" : "–"]);
  const page = runPage(renderComparePage(result, { script: "", style: "" }));
  page.change("context", "1024");
  const { ratios, kl } = summaries.find(({ context, method }) => context === 1024 && method === "evict")!;
  assertStringIncludes(page.charts.get("chart-compare")!.hover(ratios.file!, kl)!, "decoded 3.50×");
});

Deno.test("the page is one file; its plot follows the selects", async () => {
  const result = compared();
  const html = renderComparePage(result, await readPlotLibrary());
  assertEquals(/(src|href)\s*=|url\(|@import|fetch\(|XMLHttpRequest/i.test(html), false);
  assertStringIncludes(html, "it needs a &lt;profile&gt;");
  const page = runPage(renderComparePage(result, { script: "", style: "" }));
  const chart = () => page.charts.get("chart-compare")!;
  assertEquals([...page.charts.keys()], ["chart-compare"]);
  assertEquals(chart().labels, ["kvtc", "quantize", "evict"]);
  assertEquals(page.bodies.filter(({ hidden }) => !hidden).map(({ dataset }) => dataset.context), ["2048"]);
  page.change("context", "512");
  const row = result.summaries.find((row) => row.context === 512 && row.method === "evict" && row.setting === "4×")!;
  const hovered = chart().hover(row.ratios.file!, row.kl)!;
  assertStringIncludes(hovered, "evict 4×");
  assertStringIncludes(hovered, `file ${row.ratios.file!.toFixed(2)}×`);
  for (const [measure, label] of [["perplexity", "increase of perplexity"], ["top", "same top token"]]) {
    page.change("measure", measure);
    assertStringIncludes(`${chart().options.axes![1].label}`, label);
  }
  page.change("measure", "decode");
  assertStringIncludes(`${chart().options.axes![1].label}`, "seconds to decode");
  const [{ task, context }] = result.retrieval;
  page.change("measure", `retrieval ${task} ${context}`);
  assertEquals(chart().labels, ["kvtc", "quantize", "evict"]);
  assertStringIncludes(`${chart().options.axes![1].label}`, "answers found");

  const path = await Deno.makeTempFile();
  try {
    assertEquals(await isComparePage(path), false);
    await Deno.writeTextFile(path, html);
    assertEquals(await isComparePage(path), true);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("kvz compare names what is wrong before any work", () =>
  withFiles(async ({ at, profile }) => {
    await Deno.writeTextFile(at("t.txt"), "some text");
    const common = ["compare", "--model", at("nothing"), "--texts", at("t.txt"), "-o", at("compare.html")];
    const refused = async (code: number, args: readonly string[]): Promise<string> =>
      (await kvzJson([...common, ...args], code)).error.message;
    assertStringIncludes(await refused(8, []), "there is no such folder");
    const bad: readonly (readonly [readonly string[], string])[] = [
      [["-m", "zip"], 'Cannot find recipe "zip"'],
      [["-m", "kivi:speed=1"], 'Cannot use option "speed"'],
      [["-p", profile, "-p", profile], "Cannot use two profiles for recipe kvtc"],
      [["-p", "-"], "Cannot read profiles and maps from standard input"],
      [["-o", "-"], "Cannot write the page to standard output"],
    ];
    for (const [args, message] of bad) assertStringIncludes(await refused(2, args), message);
  }));
