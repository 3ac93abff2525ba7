import { assertEquals, assertThrows } from "deno-std/assert";
import { InvalidArgumentError } from "commander";
import { measureErrors } from "../../src/eval/error_meter.ts";
import { formatBytes, formatCount, formatError, formatRatio, formatSeconds, formatTable } from "../../cli/format.ts";
import { byteSize, layerRange, positiveNumber, ratioList, wholeNumber } from "../../cli/options.ts";
import { describe } from "../../cli/progress.ts";
import { scoped } from "../../cli/scope.ts";
import type { CacheBlock } from "../../src/codec/decode.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { asUint16 } from "../../src/cache/elements.ts";
import { syntheticCache } from "../synthetic.ts";

Deno.test("numbers for readers", () => {
  assertEquals([formatCount(0), formatCount(999), formatCount(1234567.4)], ["0", "999", "1,234,567"]);
  assertEquals([formatBytes(1023), formatBytes(1474560)], ["1023 bytes", "1,474,560 bytes (1.41 MiB)"]);
  assertEquals([formatSeconds(0.416), formatSeconds(12.3), formatSeconds(200)], ["0.42 s", "12 s", "3 min 20 s"]);
  assertEquals(formatSeconds(3900), "1 h 5 min");
  assertEquals([formatRatio(17.618), formatRatio(null)], ["17.62×", "–"]);
  assertEquals([formatError(0.12345), formatError(0), formatError(1.5e-7), formatError(null)], [
    "0.1235",
    "0",
    "1.500e-7",
    "–",
  ]);
  assertEquals(formatTable(["a", "bb"], [["long", "1"], ["x", "22"]]), [
    "a     bb",
    "────────",
    "long   1",
    "x     22",
  ]);
});

Deno.test("progress says share and time left", () => {
  assertEquals(describe("compress", "tokens", 512, 2048, 3), "compress  512 of 2,048 tokens  25 %  9.00 s left");
  assertEquals(describe("compress", "tokens", 2048, 2048, 3), "compress  2,048 of 2,048 tokens  100 %");
  assertEquals(describe("reading", "tokens", 512, undefined, 3), "reading  512 tokens");
  assertEquals(describe("fitting", "", 500, 1000, 2), "fitting  50 %  2.00 s left");
});

Deno.test("option values are parsed strictly", () => {
  assertEquals([byteSize("1024"), byteSize("2KiB"), byteSize("1.5MB"), byteSize("4GiB")], [1024, 2048, 1.5e6, 2 ** 32]);
  assertEquals(layerRange("2:5"), [2, 5]);
  assertEquals(ratioList("--ratios")("8,16.5"), [8, 16.5]);
  assertEquals(wholeNumber("--n", 0, 9)("7"), 7);
  for (
    const parse of [
      () => byteSize("-1"),
      () => byteSize("1XB"),
      () => layerRange("5:5"),
      () => layerRange("a:b"),
      () => ratioList("--ratios")("8,"),
      () => wholeNumber("--n", 0, 9)("10"),
      () => wholeNumber("--n", 0, 9)("1e0"),
      () => wholeNumber("--n", 0, 9)(""),
      () => positiveNumber("--x")("Infinity"),
      () => positiveNumber("--x")(" "),
    ]
  ) {
    assertThrows(parse, InvalidArgumentError);
  }
});

Deno.test("scoped disposes in reverse, also on failure", async () => {
  const gone: string[] = [];
  const resource = (name: string) => ({ [Symbol.dispose]: () => void gone.push(name) });
  await scoped((scope) => {
    scope.use(resource("first"));
    scope.use({ [Symbol.asyncDispose]: () => Promise.resolve(void gone.push("second")) });
    return Promise.reject(new Error("broken"));
  }).catch(() => gone.push("caught"));
  assertEquals(gone, ["second", "first", "caught"]);
});

Deno.test("errors are measured by kind, region, layer and token", async () => {
  const cache = syntheticCache(20);
  const regions = { sinks: 4, coded: 10, window: 6 };
  const exact = await measureErrors(cache, blocksOf(cache), regions);
  assertEquals([exact.key.relative, exact.value.relative, exact.key.maxAbs, exact.windowBitExact], [0, 0, 0, true]);

  // Negating every element of token 5 in layer 1 is an error of twice its norm there.
  const flipped = await measureErrors(cache, blocksOf(cache, { layer: 1, token: 5 }), regions);
  assertEquals(flipped.key.layers.map((error) => error! > 0), [false, true, false]);
  assertEquals(flipped.value.tokens.map((error) => error! > 0).indexOf(true), 5);
  assertEquals(flipped.value.tokens.filter((error) => error! > 0).length, 1);
  assertEquals([flipped.key.regions.sinks, flipped.key.regions.window], [0, 0]);
  const { norm, part, largest } = squares(cache, 1, 5);
  assertEquals(flipped.key.relative!.toPrecision(6), Math.sqrt(4 * part / norm).toPrecision(6));
  assertEquals(flipped.key.maxAbs, 2 * largest);
  assertEquals(flipped.windowBitExact, true);

  const late = await measureErrors(cache, blocksOf(cache, { layer: 0, token: 15 }), regions);
  assertEquals(late.windowBitExact, false);
});

/** Both kinds in two blocks, as a codec yields them, with the signs of one token of one layer flipped. */
async function* blocksOf(cache: KvCache, flip?: { layer: number; token: number }): AsyncGenerator<CacheBlock> {
  const { model } = cache;
  for (const [begin, end] of [[0, 14], [14, 20]]) {
    for (const kind of ["key", "value"] as const) {
      const data = cache.read(kind, begin, end);
      const dim = kind === "key" ? model.keyDim : model.valueDim;
      if (flip && flip.token >= begin && flip.token < end) {
        const bits = asUint16(data);
        for (let head = 0; head < model.kvHeads; head++) {
          const row = (flip.layer * model.kvHeads + head) * (end - begin) + flip.token - begin;
          for (let i = 0; i < dim; i++) bits[row * dim + i] ^= 0x8000;
        }
      }
      await Promise.resolve();
      yield {
        kind,
        layerBegin: 0,
        layerEnd: model.layers,
        begin,
        tokens: end - begin,
        positions: cache.positions.slice(begin, end),
        inputIds: null,
        kept: null,
        data,
      };
    }
  }
}

function squares(cache: KvCache, layer: number, token: number): { norm: number; part: number; largest: number } {
  const { model, tokens } = cache;
  const keys = new Float16Array(cache.read("key", 0, tokens).buffer);
  let norm = 0;
  let part = 0;
  let largest = 0;
  keys.forEach((x, i) => {
    norm += x * x;
    const row = Math.floor(i / model.keyDim);
    if (Math.floor(row / tokens / model.kvHeads) !== layer || row % tokens !== token) return;
    part += x * x;
    largest = Math.max(largest, Math.abs(x));
  });
  return { norm, part, largest };
}
