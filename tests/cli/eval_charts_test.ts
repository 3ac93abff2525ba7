import { assert, assertEquals } from "deno-std/assert";
import { chartScales } from "../../cli/eval/charts_scales.ts";
import { firstCurveSet, groupSettings, listCurveSets } from "../../cli/eval/settings.ts";
import { syntheticResult } from "./eval_result.ts";

Deno.test("settings become lines by method and variant, and sets by ratio", () => {
  const summary = syntheticResult().summaries[2];
  const settings = [["kvtc", "8×"], ["untouched", ""], ["kvtc", "8×, window 0"], ["kvtc", "16×"], ["kvtc", "file 6×"]];
  const others = [["evict", "8×"], ["evict", "keep 0.5"], ["lossless", ""]];
  const summaries = [...settings, ...others].map(([method, setting]) => ({ ...summary, method, setting }));
  const groups = groupSettings({ ...syntheticResult({ methods: [] }), summaries });
  assertEquals(groups.map(({ name, color, members }) => [name, color, members.map(({ label }) => label)]), [
    ["kvtc", 0, ["8×", "16×", "file 6×"]],
    ["kvtc, window 0", 1, ["8×"]],
    ["evict", 2, ["8×", "keep 0.5"]],
    ["lossless", 3, [""]],
  ]);
  const sets = listCurveSets(groups);
  assertEquals(sets.map(({ name, members }) => [name, members.map(({ curve, color }) => `${curve} ${color}`)]), [
    ["kvtc: all settings", ["8× 0", "16× 1", "file 6× 2"]],
    ["kvtc, window 0: all settings", ["8× 0"]],
    ["evict: all settings", ["8× 0", "keep 0.5 1"]],
    ["lossless: all settings", ["lossless 0"]],
    ["all methods at 8×", ["kvtc 0", "kvtc, window 0 1", "evict 2"]],
  ]);
  assertEquals(firstCurveSet(groups, sets), 4);
  assertEquals(firstCurveSet(groups.slice(0, 1), listCurveSets(groups.slice(0, 1))), 0);
});

Deno.test("scales have round marks inside their range, whatever the values", () => {
  const scales = chartScales();
  const format = (value: number) => `${value}`;
  const cases = [[], [1e-9], [0.5], [0, 1e-5, 3], [0.02, 0.021], [1, 2, 3], [-0.3, 0.001, 40], [7.9, 8.1], [1, 128]];
  for (const values of cases) {
    const positive = values.filter((value) => value >= 0.2);
    const made = {
      log: [scales.log(values, 1e-6, format), values],
      ratio: [scales.ratio(positive), positive],
      signed: [scales.signed(values), values],
      share: [scales.share(values, true), values],
      near: [scales.share(values, false), values],
      linear: [scales.linear(values), values],
    } as const;
    for (const [name, [scale, all]] of Object.entries(made)) {
      const [min, max] = scale.scale.range as [number, number];
      const place = `${name} of [${values}]: ${min} to ${max}, ${scale.ticks}`;
      for (const value of all) assert(scale.place(value) >= min && scale.place(value) <= max, place);
      assert(scale.ticks.length >= 1 && scale.ticks.length <= 40, place);
      assert(
        scale.ticks.every((tick, i) => tick >= min && tick <= max && (i === 0 || tick > scale.ticks[i - 1])),
        place,
      );
      const labels = scale.ticks.map((tick) => scale.label(tick));
      assertEquals(new Set(labels).size, labels.length, `${place}: ${labels}`);
    }
  }
  assertEquals(scales.signed([-0.2, 0.3]).label(-0.1), "−10 %");
  assertEquals(scales.signed([-0.2, 0.3]).label(0.1), "+10 %");
  assertEquals(scales.align([{ x: [3, 1], y: [30, null] }, { x: [2], y: [20] }]), [
    [1, 2, 3],
    [null, undefined, 30],
    [undefined, 20, undefined],
  ]);
});
