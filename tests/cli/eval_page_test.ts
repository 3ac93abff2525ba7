import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "deno-std/assert";
import { isEvalPage, renderEvalPage } from "../../cli/eval/page.ts";
import { readPlotLibrary } from "../../cli/page/library.ts";
import type { EvalPoint, EvalResult } from "../../src/eval/point.ts";
import { summarize } from "../../src/eval/summary.ts";
import { syntheticResult } from "./eval_result.ts";
import { runPage } from "./page_dom.ts";

const LIBRARY = { script: "", style: "" };
const KVTC = { name: "kvtc", kl: 0.01, ratios: [16], window: 128, usesProfile: true };
const ERROR_PLOTS = ["layers", "positions", "components"].flatMap((plot) => [
  `chart-${plot}-key`,
  `chart-${plot}-value`,
]);

Deno.test("the page is one file with all results inside", async () => {
  const result = syntheticResult();
  const page = renderEvalPage(result, await readPlotLibrary());
  assertEquals(/(src|href)\s*=|url\(|@import|fetch\(|XMLHttpRequest/i.test(page), false);
  assertEquals(page.match(/<script[\s>]/g)?.length, 3);
  assertEquals(page.match(/<\/script>/g)?.length, 3);
  const { result: data } = embeddedData(page);
  assertEquals(data.points.length, result.points.length);
  assertEquals(data.summaries.map(({ worst }) => worst.text), result.summaries.map(({ worst }) => worst.text));
  for (const [i, point] of data.points.entries()) {
    assertAlmostEquals(point.agreement.kl, result.points[i].agreement.kl, 1e-4 * result.points[i].agreement.kl);
    assertEquals(point.errors.key.positions.length, 128);
  }

  const path = await Deno.makeTempFile();
  try {
    assertEquals(await isEvalPage(path), false);
    await Deno.writeTextFile(path, page);
    assertEquals(await isEvalPage(path), true);
  } finally {
    await Deno.remove(path);
  }
  assertEquals(await isEvalPage(path), false);
});

Deno.test("the tables hold every setting, text, control and task", () => {
  const result = syntheticResult();
  const page = renderEvalPage(result, LIBRARY);
  const compressed = result.summaries.filter(({ ratios }) => ratios.file !== null);
  const rows = (title: string) => tableOf(page, title).match(/<tr[ >]/g)!.length;
  // One row of heads; a title for each of three contexts.
  assertEquals(rows("Results"), 1 + 3 + compressed.length);
  assertEquals(rows("Every text"), 1 + 3 + compressed.length * result.texts.length);
  assertEquals(rows("Controls"), 1 + result.summaries.length - compressed.length);
  assertEquals(rows("Retrieval"), 1 + result.retrieval.length);
  assertStringIncludes(tableOf(page, "Results"), "Python code");
  assertEquals(page.match(/class="hits"/g)?.length, result.retrieval.length);

  const row = tableOf(page, "Retrieval").split("<tr").find((row) => row.includes("key-value"))!;
  assertStringIncludes(row, "95.3 % → 90.6 %");
  assertStringIncludes(row, "width:95.3%");
  assertStringIncludes(row, "width:90.6%");
});

Deno.test("a control that does not hold is called so in the table and in the heading", () => {
  const good = renderEvalPage(syntheticResult(), LIBRARY);
  assertEquals([good.match(/✓ holds/g)?.length, good.includes("not hold<")], [6, false]);
  const result = syntheticResult();
  const points = result.points.map((point) => {
    const wrong = point.method === "untouched" && point.context === 512;
    return wrong ? { ...point, agreement: { ...point.agreement, kl: 2e-5 } } : point;
  });
  const bad = renderEvalPage({ ...result, points, summaries: summarize(points) }, LIBRARY);
  assertEquals(bad.match(/✗ does not hold/g)?.length, 1);
  assertStringIncludes(bad, 'Controls <b class="bad">1 does not hold</b>');
  const none = renderEvalPage(syntheticResult({ controls: false }), LIBRARY);
  assertStringIncludes(none, "Controls <b>not run</b>");
  assertStringIncludes(none, "No controls were run");
});

Deno.test("the script draws every plot and follows the selects", () => {
  const result = syntheticResult();
  const page = runPage(renderEvalPage(result, LIBRARY));
  const wanted = ["kl", "perplexity", "top", "continuation", "retrieval-0", "retrieval-1"].map((id) => `chart-${id}`);
  assertEquals([...page.charts.keys()].sort(), [...wanted, ...ERROR_PLOTS].sort());

  const groups = ["kvtc", "kvtc, window 0", "quantize", "evict"];
  const kl = () => page.charts.get("chart-kl")!;
  assertEquals(kl().labels, groups);
  // Fifteen settings of four texts.
  assertEquals(kl().points, 60);
  for (const label of ["64×", "5.3×"]) assert(kl().texts.includes(label), `${label} stands in ${kl().texts}`);
  assertEquals(page.element("context").value, "2048");
  assertEquals(page.bodies.filter(({ hidden }) => !hidden).map(({ dataset }) => dataset.context), ["2048", "2048"]);

  const at = (context: number) =>
    result.summaries.find((row) => row.context === context && row.method === "kvtc" && row.setting === "16×")!;
  const hovered = kl().hover(at(2048).ratios.file!, at(2048).kl);
  assertStringIncludes(hovered!, "kvtc 16×: mean of 4 texts");
  assertStringIncludes(hovered!, `file ${at(2048).ratios.file!.toFixed(2)}×`);
  assertEquals(kl().hover(60, 0.006), null);

  page.change("context", "512");
  assertEquals(page.bodies.filter(({ hidden }) => !hidden).map(({ dataset }) => dataset.context), ["512", "512"]);
  assertStringIncludes(kl().hover(at(512).ratios.file!, at(512).kl)!, "kvtc 16×");
  page.change("ratio-paper", true);
  assertStringIncludes(kl().hover(at(512).ratios.paper!, at(512).kl)!, "kvtc 16×");
  assertStringIncludes(`${kl().options.axes![0].label}`, "paper ratio");

  // First the ratio that all methods have, then the settings of one.
  const layers = () => page.charts.get("chart-layers-value")!;
  assertEquals(layers().labels, groups);
  assertEquals(page.charts.get("chart-components-key")!.labels, ["kvtc", "kvtc, window 0"]);
  page.change("curves", "0");
  assertEquals(layers().labels, ["8×", "16×", "32×", "64×"]);
  const point = (text: string) =>
    result.points.find((row) =>
      row.text === text && row.context === 512 && row.method === "kvtc" && row.setting === "16×"
    )!;
  const third = (values: readonly (number | null)[]) => values[3]!;
  const texts = result.texts.map(({ name }) => third(point(name).errors.value.layers));
  assertAlmostEquals(layers().columns[2][3]!, texts.reduce((a, b) => a + b) / texts.length, 1e-5);
  page.change("text", "Python code");
  assertAlmostEquals(layers().columns[2][3]!, texts[3], 1e-5);
});

Deno.test("names cannot leave their place", () => {
  const evil = `</script><img onerror="x">'&`;
  const result = syntheticResult({ texts: [evil, "b"], methods: [{ ...KVTC, name: evil, variant: evil }] });
  const html = renderEvalPage(
    { ...result, model: evil, geometry: evil, backend: evil, version: evil, dtype: evil },
    { script: 'var a = "</script>";', style: "" },
  );
  assertEquals(html.includes("<img"), false);
  assertEquals(html.match(/<\/script>/g)?.length, 3);
  assertEquals(embeddedData(html).result.model, evil);
  const page = runPage(html);
  page.change("text", evil);
  assertEquals(page.charts.get("chart-kl")!.labels, [`${evil}, ${evil}`]);
  assertEquals(page.charts.get("chart-layers-key")!.labels, ["16×"]);
});

Deno.test("one text, one setting and no controls are a page too", () => {
  const result = syntheticResult({
    texts: ["only"],
    contexts: [512],
    controls: false,
    retrieval: false,
    methods: [KVTC],
  });
  const html = renderEvalPage({ ...result, profile: null }, LIBRARY);
  assertEquals(html.includes("<h2>Retrieval"), false);
  const page = runPage(html);
  assertEquals(page.charts.size, 4 + ERROR_PLOTS.length);
  assertEquals(page.charts.get("chart-kl")!.points, 0);
  assertEquals(page.charts.get("chart-kl")!.texts, ["16×"]);
  for (const { ticks } of page.charts.values()) assert(ticks.every((axis) => axis.length >= 3 && axis.length <= 12));
});

Deno.test("a page without any compressed cache says so in place of plots", () => {
  for (const result of [syntheticResult({ methods: [] }), syntheticResult({ methods: [], controls: false })]) {
    const html = renderEvalPage({ ...result, retrieval: [] }, LIBRARY);
    assertStringIncludes(html, "No method was measured");
    const page = runPage(html);
    assertEquals(page.charts.size, 0);
    for (const id of ["chart-kl", ...ERROR_PLOTS]) {
      assertStringIncludes(page.element(id).textContent, "Nothing to plot");
    }
  }
});

Deno.test("a lossless setting stands at the lower edge of a logarithmic plot", () => {
  const result = changed(syntheticResult(), (point) =>
    point.method !== "kvtc" ? point : {
      ...point,
      agreement: { ...point.agreement, kl: 0, klByPosition: point.agreement.klByPosition.map(() => 0), topOne: 1 },
      errors: { key: withoutErrors(point.errors.key), value: withoutErrors(point.errors.value) },
    });
  const page = runPage(renderEvalPage(result, LIBRARY));
  const chart = page.charts.get("chart-kl")!;
  assertEquals(chart.ticks[1][0], "≤ 1e-6");
  const lossless = result.summaries.find((row) => row.context === 2048 && row.method === "kvtc")!;
  assertEquals(lossless.kl, 0);
  assertStringIncludes(chart.hover(lossless.ratios.file!, 1e-6)!, "KL 0 nats");
  page.change("curves", "0");
  assertEquals(page.charts.get("chart-continuation")!.columns[1][0], 1e-6);
  assertEquals(page.charts.get("chart-layers-key")!.columns[1][0], 0);
});

Deno.test("missing and infinite values leave gaps", () => {
  const result = changed(syntheticResult(), (point) => ({
    ...point,
    agreement: point.setting === "64×"
      ? { ...point.agreement, perplexityAfter: Infinity, kl: Infinity }
      : point.agreement,
    errors: {
      key: { ...point.errors.key, coded: null, layers: point.errors.key.layers.map((v, i) => i === 4 ? null : v) },
      value: { coded: null, layers: [null, null], positions: [null], components: null },
    },
  }));
  const html = renderEvalPage(result, LIBRARY);
  assertStringIncludes(html, "→ ∞</td>");
  const page = runPage(html);
  page.change("curves", "0");
  for (const id of ["chart-kl", "chart-perplexity"]) {
    assertEquals([...page.charts.get(id)!.columns[1]].filter((y) => typeof y === "number").length, 3);
  }
  assertEquals(page.charts.get("chart-layers-key")!.columns[1][4], null);
  assertEquals(page.charts.has("chart-layers-value"), false);
  assertStringIncludes(page.element("chart-layers-value").textContent, "Nothing to plot");
});

Deno.test("many methods with settings of their own keep their lines and labels apart", () => {
  const methods = Array.from(
    { length: 14 },
    (_, i) => ({ ...KVTC, name: `method ${i}`, ratios: [2, 4, 8, 16, 32, 64] }),
  );
  const result = syntheticResult({ methods });
  assert(result.points.length > 1000);
  const page = runPage(renderEvalPage(result, LIBRARY));
  const chart = page.charts.get("chart-kl")!;
  assertEquals(chart.labels.length, 14);
  const looks = chart.options.series.slice(1).map(({ stroke, dash }) => JSON.stringify([stroke, dash]));
  assertEquals(new Set(looks).size, 14);
});

function changed(result: EvalResult, change: (point: EvalPoint) => EvalPoint): EvalResult {
  const points = result.points.map(change);
  return { ...result, points, summaries: summarize(points) };
}

function withoutErrors(errors: EvalPoint["errors"]["key"]): EvalPoint["errors"]["key"] {
  const none = (values: readonly (number | null)[]) => values.map(() => 0);
  return {
    coded: 0,
    layers: none(errors.layers),
    positions: none(errors.positions),
    components: errors.components && { first: errors.components.first, errors: none(errors.components.errors) },
  };
}

/** The table of the section with a title. */
function tableOf(page: string, title: string): string {
  const section = page.slice(page.indexOf(`<h2>${title}</h2>`));
  return section.slice(section.indexOf("<table"), section.indexOf("</table>"));
}

function embeddedData(page: string): { readonly result: EvalResult } {
  const match = /<script id="data" type="application\/json">([^]*?)<\/script>/.exec(page);
  return JSON.parse(match![1]);
}
