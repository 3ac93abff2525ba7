/**
 * What rANS gains over DEFLATE on KVTC's own codes: bytes of the coded chunks' streams, side information included. Both
 * files restore the same cache, which is checked.
 *
 *     deno run -A bench/kvtc_rans.ts --profile P.kvzp [--cache C.safetensors] [--ratios 8,16,32]
 *
 * @module
 */
import { openCodec } from "../src/codec/open.ts";
import { loadInputs, option } from "./inputs.ts";

/** Tags of codes and of shifts with scales, keys and values together. */
const PARTS: readonly (readonly [string, RegExp])[] = [
  ["int2", /^[KV]Q2 $/],
  ["int4", /^[KV]Q4 $/],
  ["fp8", /^[KV]Q8 $/],
  ["scales, low", /^[KV]SLO$/],
  ["scales, high", /^[KV]SHI$/],
  ["all", /^[KV](Q\d |SLO|SHI)$/],
];

const { cache, profile } = await loadInputs();
await using codec = await openCodec(profile);
console.log("| target | streams | DEFLATE | rANS | ratio |\n| --- | --- | --- | --- | --- |");
for (const ratio of option("ratios", "32,64").split(",").map(Number)) {
  const deflated = await codec.compress(cache, { ratio });
  const coded = await codec.compress(cache, { ratio, entropy: "rans" });
  const [a, b] = [(await codec.decompress(deflated.bytes)).cache, (await codec.decompress(coded.bytes)).cache];
  if (!a.equals(b)) throw new Error(`the caches restored at ratio ${ratio} differ`);
  for (const [name, tags] of PARTS) {
    const bytes = ({ streams }: typeof coded.report) =>
      Object.entries(streams).reduce((sum, [tag, n]) => tags.test(tag) ? sum + n : sum, 0);
    const [before, after] = [bytes(deflated.report), bytes(coded.report)];
    console.log(`| ${ratio} | ${name} | ${before} | ${after} | ${(before / after).toFixed(4)} |`);
  }
}
