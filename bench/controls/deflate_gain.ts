/**
 * What DEFLATE gains after the quantizer: bytes that plan and geometry dictate ÷ bytes stored.
 *
 * @module
 */
import type { Kind } from "../../src/cache/types.ts";
import { KINDS } from "../../src/cache/types.ts";
import { kvtc } from "../../src/recipes/kvtc.ts";
import { planFor } from "../../src/profile/plan.ts";
import type { KvtcProfile } from "../../src/profile/types.ts";
import { codeLengths } from "../../src/stages/quantize/code_streams.ts";

/** Bytes of codes, shifts and scales of coded tokens before DEFLATE. */
export function codedBytes(profile: KvtcProfile, ratio: number, coded: number): Record<Kind, number> {
  const bytes = (kind: Kind) => {
    const groups = planFor(profile, kind, ratio);
    let sum = coded * groups.length * 4;
    for (let begin = 0; begin < coded; begin += kvtc.chunkTokens) {
      for (const length of codeLengths(groups, Math.min(kvtc.chunkTokens, coded - begin))) sum += length;
    }
    return sum;
  };
  return { key: bytes("key"), value: bytes("value") };
}

/** Bytes before ÷ after DEFLATE of the coded tokens' streams, keys and values together and apart. */
export function deflateGain(
  profile: KvtcProfile,
  ratio: number,
  coded: number,
  streams: Readonly<Record<string, number>>,
): Record<Kind | "both", number> {
  const raw = codedBytes(profile, ratio, coded);
  const stored = (kind: Kind) =>
    ["Q2 ", "Q4 ", "Q8 ", "SLO", "SHI"].reduce(
      (sum, name) => sum + (streams[`${kind === "key" ? "K" : "V"}${name}`] ?? 0),
      0,
    );
  const [key, value] = KINDS.map((kind) => raw[kind] / stored(kind));
  return { key, value, both: (raw.key + raw.value) / (stored("key") + stored("value")) };
}
