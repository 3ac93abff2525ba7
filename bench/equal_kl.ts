/**
 * How much smaller one recipe is than another at equal KL, from the result files of `kvz eval` (the .jsonl beside the
 * page): for every text and every setting of the second recipe, the bytes of the first at the same KL, by straight lines
 * of log bytes over log KL between the settings that bracket it. Settings that are not bracketed are told, not guessed.
 *
 *     deno run -A bench/equal_kl.ts kvz.jsonl kvtc.jsonl [--context 1536] [--ratio paper|file]
 *
 * @module
 */
import { option } from "./inputs.ts";

interface Point {
  readonly text: string;
  readonly setting: string;
  readonly kl: number;
  readonly ratio: number;
}

const [first, second] = Deno.args.filter((arg, i) => !arg.startsWith("--") && !Deno.args[i - 1]?.startsWith("--"));
if (first === undefined || second === undefined) {
  throw new TypeError("Cannot compare: give two result files of kvz eval (.jsonl)");
}
const context = Number(option("context", "1536"));
const which = option("ratio", "paper") as "paper" | "file";

async function load(path: string): Promise<Point[]> {
  const lines = (await Deno.readTextFile(path)).trim().split("\n").map((line) => JSON.parse(line).result);
  return lines
    .filter((r) => r.context === context && r.ratios[which] !== null)
    .map((r) => ({ text: r.text, setting: r.setting, kl: r.agreement.kl, ratio: r.ratios[which] }));
}

/** Ratio at a KL, null outside the points. */
function ratioAt(points: readonly Point[], kl: number): number | null {
  const sorted = [...points].sort((a, b) => a.kl - b.kl);
  for (let i = 1; i < sorted.length; i++) {
    const [a, b] = [sorted[i - 1], sorted[i]];
    if (a.kl <= kl && kl <= b.kl) {
      const share = a.kl === b.kl ? 0 : Math.log(kl / a.kl) / Math.log(b.kl / a.kl);
      return Math.exp(Math.log(a.ratio) + share * Math.log(b.ratio / a.ratio));
    }
  }
  return null;
}

const [ours, theirs] = [await load(first), await load(second)];
const settings = [...new Set(theirs.map(({ setting }) => setting))];
for (const setting of settings) {
  const gains: { text: string; gain: number }[] = [];
  const missing: string[] = [];
  const kls: number[] = [];
  for (const { text, kl, ratio } of theirs.filter((point) => point.setting === setting)) {
    kls.push(kl);
    const own = ratioAt(ours.filter((point) => point.text === text), kl);
    if (own === null) missing.push(`${text} (KL ${kl.toFixed(4)})`);
    else gains.push({ text, gain: own / ratio });
  }
  const mean = Math.exp(gains.reduce((sum, { gain }) => sum + Math.log(gain), 0) / gains.length);
  const worst = gains.reduce((a, b) => b.gain < a.gain ? b : a, gains[0]);
  const kl = Math.exp(kls.reduce((sum, value) => sum + Math.log(value), 0) / kls.length);
  console.log(
    `${setting.padEnd(28)} KL ${kl.toFixed(4)}  ` +
      (gains.length === 0
        ? "no text bracketed"
        : `gain ${mean.toFixed(2)} (${gains.length} texts), worst ${worst.gain.toFixed(2)} (${worst.text})`) +
      (missing.length === 0 ? "" : `; not bracketed: ${missing.join(", ")}`),
  );
  for (const { text, gain } of gains) console.log(`    ${gain.toFixed(2)}  ${text}`);
}
