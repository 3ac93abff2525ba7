import { assert, assertAlmostEquals, assertEquals, assertRejects } from "deno-std/assert";
import { openCodec } from "../../src/codec/open.ts";
import {
  searchThresholds,
  type ThresholdMeasurement,
  type ThresholdOptions,
  thresholdPairs,
  type ThresholdSearch,
} from "../../src/eval/diffkv_thresholds.ts";
import { evaluateText } from "../../src/eval/evaluate.ts";
import { recipeMethod } from "../../src/eval/method.ts";
import { SMALL_MODEL } from "../synthetic.ts";
import { toyIds, toyModel } from "./toy_session.ts";

const [CONTEXT, CONTINUATION, DECODE] = [60, 16, 8];
const TEXTS = [1, 2].map((seed) => ({ name: `t${seed}`, ids: toyIds(CONTEXT + CONTINUATION + 1, seed) }));
const GRID = { alphaHighs: [1.5, 0.8, 1.1], alphaLows: [0.9, 0.6] };
const OPTIONS = { ...GRID, context: CONTEXT, continuation: CONTINUATION, decode: DECODE, recipe: { buffer: 12 } };

/** Heads so large that a page of low precision is smaller than one of high. */
const model = () => toyModel({ bias: true, spec: { ...SMALL_MODEL, layers: 1, keyDim: 64, valueDim: 64 } });

const search = (options: ThresholdOptions = {}, texts = TEXTS) =>
  searchThresholds(model(), texts, { ...OPTIONS, ...options });

const pairs = ({ tried }: ThresholdSearch) => tried.map(({ alphaHigh, alphaLow }) => [alphaHigh, alphaLow]);

/** The choice as its authors' scripts lay it out, over all measurements at once. */
function chosen({ tried }: ThresholdSearch, maxKl: number): number[] {
  const good = tried.filter(({ kl }) => kl <= maxKl).sort((a, b) => b.ratio - a.ratio);
  return [good[0].alphaHigh, good[0].alphaLow];
}

Deno.test("thresholds: alphaHigh with nothing pruned, then alphaLow under it; the smallest that loses little enough", async () => {
  const loose = await search({ maxKl: 100 });
  assertEquals(pairs(loose), [[0, 0], [0.8, 0], [1.1, 0], [1.5, 0], [1.5, 0.6], [1.5, 0.9]]);
  assertEquals([loose.found.alphaHigh, loose.found.alphaLow], [1.5, 0.9]);
  // More in low precision, or pruned, holds less.
  const ratios = loose.tried.map(({ ratio }) => ratio);
  assert(ratios.every((ratio, i) => i === 0 || ratio > ratios[i - 1]), ratios.join());
  const [whole, first, second] = loose.tried.map(({ kl }) => kl);
  assert(whole < first && first < second);

  // Between two of the grid.
  const maxKl = (first + second) / 2;
  const strict = await search({ maxKl });
  assertEquals(pairs(strict), [[0, 0], [0.8, 0], [1.1, 0], [1.5, 0], [0.8, 0.6]]);
  assertEquals([strict.found.alphaHigh, strict.found.alphaLow], chosen(strict, maxKl));
  assert(strict.found.kl <= maxKl);

  // Not even the lowest one: low precision is left out, what is not high is pruned.
  for (const [alphaHigh, alphaLow] of pairs(strict)) {
    assert(thresholdPairs(GRID).some((pair) => pair.alphaHigh === alphaHigh && pair.alphaLow === alphaLow));
  }
  assertEquals(thresholdPairs(GRID).length, 1 + 3 * 3 + 2);
  const none = await search({ maxKl: (whole + first) / 2 });
  assertEquals(pairs(none).slice(4), [[0.6, 0.6], [0.9, 0.9]]);
  assertEquals([none.found.alphaHigh, none.found.alphaLow], chosen(none, (whole + first) / 2));
  await assertRejects(() => search({ maxKl: whole / 2 }), RangeError, "everything in high precision costs a KL of");
});

Deno.test("thresholds: measurements are those of the evaluation, both rules acting", async () => {
  const { measurements, tried } = await search({ maxKl: 100 });
  assertEquals(measurements.length, 12);
  const own = measurements.filter(({ alphaHigh, alphaLow }) => alphaHigh === 1.5 && alphaLow === 0.6);
  await using codec = await openCodec(null, { threads: 1 });
  for (const { name, ids } of TEXTS) {
    await evaluateText(model(), name, ids, {
      ...{ context: CONTEXT, continuation: CONTINUATION, dtype: "f16" },
      methods: [recipeMethod(codec, "diffkv", { buffer: 12, alphaHigh: 1.5, alphaLow: 0.6, decode: DECODE })],
      onPoint: ({ agreement, decoded }) => {
        const { kl, ratio } = own.find(({ text }) => text === name)!;
        assertEquals([kl, ratio], [agreement.kl, decoded!.ratio]);
      },
    });
  }
  const mean = tried.find(({ alphaHigh, alphaLow }) => alphaHigh === 1.5 && alphaLow === 0.6)!;
  assertAlmostEquals(mean.kl, (own[0].kl + own[1].kl) / 2, 1e-12);
  assertAlmostEquals(mean.ratio, Math.sqrt(own[0].ratio * own[1].ratio), 1e-12);
});

Deno.test("thresholds: an interrupted search goes on where it stopped, and finds the same", async () => {
  const whole = await search({ maxKl: 100 });
  const kept: ThresholdMeasurement[] = [];
  const stop = new AbortController();
  const options: ThresholdOptions = { maxKl: 100, signal: stop.signal };
  await assertRejects(() =>
    search({
      ...options,
      onMeasured: (measurement) => {
        kept.push(measurement);
        if (kept.length === 6) stop.abort();
      },
    })
  );
  assertEquals(kept.length, 6);
  const progress: number[] = [];
  let more = 0;
  const again = await search({
    maxKl: 100,
    known: kept,
    onMeasured: () => void more++,
    onProgress: ({ done, total }) => {
      assertEquals(total, 12);
      progress.push(done);
    },
  });
  assertEquals([more, progress.length, progress.at(-1)], [6, 12, 12]);
  assertEquals(again.found, whole.found);
  assertEquals(again.tried, whole.tried);
});

Deno.test("thresholds: texts and grids that are none are refused", async () => {
  for (
    const [options, texts, words] of [
      [{}, [], "found 0 texts"],
      [{}, [TEXTS[0], TEXTS[0]], "different names"],
      [{ alphaHighs: [1, -1] }, TEXTS, "alphaHigh is one of 1, -1"],
      [{ alphaLows: [NaN] }, TEXTS, "alphaLow is one of NaN"],
      [{ context: 80 }, TEXTS, "t1 has 77 tokens"],
    ] as const
  ) {
    await assertRejects(() => search(options, [...texts]), RangeError, words);
  }
});
