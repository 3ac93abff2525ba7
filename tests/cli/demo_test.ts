import { assert, assertEquals, assertMatch, assertStringIncludes } from "deno-std/assert";
import type { DemoData, QualityRun } from "../../cli/demo/data.ts";
import { renderPage } from "../../cli/demo/page.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { kvz, kvzJson, withFiles } from "./kvz.ts";

Deno.test("demo prints a table and writes one page without a network", () =>
  withFiles(async ({ at, input, profile }) => {
    const args = ["demo", "--cache", input, "-p", profile, "--ratios", "4,8", "--threads", "1"];
    const text = await kvz([...args, "-o", at("demo.html")]);
    assertEquals([text.code, text.err], [0, ""]);
    const rows = text.out.split("\n").filter((line) => /^[48]×/.test(line));
    assertEquals(rows.length, 2);
    assertMatch(text.out, /ratio +bytes +target +paper +file +K error +V error +compress tok\/s +restore tok\/s/);

    const page = Deno.readTextFileSync(at("demo.html"));
    const data = embeddedData(page);
    assertEquals(data.runs.map(({ ratio }) => ratio), [4, 8]);
    assertEquals([data.tokens, data.sinks, data.coded, data.window], [400, 4, 364, 32]);
    for (const run of data.runs) {
      assertEquals(run.parts.reduce((sum, part) => sum + part, 0), run.bytesOut);
      assert(run.parts.every((part) => part > 0), `no part is empty: ${run.parts}`);
      assert(run.stages.every((bytes, i) => i === 0 || bytes < run.stages[i - 1]));
      assertEquals([run.layers.key.length, run.tokens.value.length], [3, 400]);
      assertEquals(run.tokens.key.slice(-32).every((error) => error === 0), true);
      assertEquals(run.bits.key.at(-1)![1], 0);
    }
    // Nothing is fetched: no address in an attribute or style.
    assertEquals(/(src|href)\s*=|url\(|@import|fetch\(|XMLHttpRequest/i.test(page), false);
    assertEquals(page.match(/<script[\s>]/g)?.length, 3);
    assertEquals(page.match(/<\/script>/g)?.length, 3);
    for (const [, id] of page.matchAll(/plot\(`?"?(chart-[a-z]+)/g)) assertStringIncludes(page, `id="${id}`);

    assertEquals((await kvzJson([...args, "-o", at("demo.html")], 8)).error.name, "FileSystemError");
    const json = await kvzJson([...args, "-o", at("demo.html"), "--force"]);
    assertEquals(json.runs.length, 2);
    assertEquals(json.page, at("demo.html"));
  }));

Deno.test("the demo shows recipe kvz when it has its profile", () =>
  withFiles(async ({ at, input, profile }) => {
    await Deno.writeFile(at("kvz.kvzp"), await serializeProfile(await smallKvzProfile()));
    const common = ["--cache", input, "-p", profile, "--ratios", "8", "--threads", "1", "-o", at("demo.html")];
    const args = ["demo", "--kvz-profile", at("kvz.kvzp"), ...common];
    const { qualities } = await kvzJson(args);
    assertEquals(qualities.map((run: QualityRun) => [run.quality, run.predictedKl]), [
      ["small", null],
      ["balanced", null],
      ["high", null],
    ]);
    assert(qualities[0].bytesOut < qualities[1].bytesOut && qualities[1].bytesOut < qualities[2].bytesOut);
    assertStringIncludes(Deno.readTextFileSync(at("demo.html")), "Recipe kvz on the same cache");
    const text = await kvz([...args, "--force"]);
    assertMatch(text.out, /quality +bytes +file +KL on texts/);
  }));

Deno.test("without -o a page of an earlier demo is replaced, nothing else", () =>
  withFiles(async ({ folder, at, input, profile }) => {
    const args = ["demo", "--cache", input, "-p", profile, "--ratios", "4", "--threads", "1"];
    Deno.writeTextFileSync(at("demo.html"), "mine");
    await kvzJson(args, 8, { cwd: folder });
    assertEquals(Deno.readTextFileSync(at("demo.html")), "mine");
    Deno.removeSync(at("demo.html"));
    await kvzJson(args, 0, { cwd: folder });
    const { page } = await kvzJson(args, 0, { cwd: folder });
    assertEquals(page, "demo.html");
  }));

Deno.test("the page escapes what comes from files", async () => {
  await withFiles(async ({ at, input, profile }) => {
    await kvzJson(["demo", "--cache", input, "-p", profile, "--ratios", "4", "--threads", "1", "-o", at("demo.html")]);
    const data = embeddedData(Deno.readTextFileSync(at("demo.html")));
    const evil = '</script><img onerror="x">';
    const page = renderPage({ ...data, model: evil, geometry: evil }, { script: 'var a = "</script>";', style: "" });
    assertEquals(page.includes("<img"), false);
    assertEquals(page.match(/<\/script>/g)?.length, 3);
    assertEquals(embeddedData(page).model, evil);
  });
});

function embeddedData(page: string): DemoData {
  const match = /<script id="data" type="application\/json">([^]*?)<\/script>/.exec(page);
  return JSON.parse(match![1]);
}
