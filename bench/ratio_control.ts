/**
 * How near recipe kvz comes to a ratio of the whole file: texts that calibration has not seen, at several lengths.
 *
 *     deno run -A bench/ratio_control.ts --profile P.kvzp --texts a.txt:0-9000,b.txt [--ratios 32,64,96]
 *         [--lengths 512,1536] [--model models/smollm2]
 *
 * @module
 */
import { checkHeldOut, loadTexts, parseTextSpec } from "../cli/eval/texts.ts";
import { loadModel } from "../cli/model_input.ts";
import { castCache } from "../src/cache/cast.ts";
import { openCodec } from "../src/codec/open.ts";
import { prefill } from "../src/eval/evaluate.ts";
import { parseProfile } from "../src/profile/profile.ts";
import { option } from "./inputs.ts";

const ratios = option("ratios", "32,64,96").split(",").map(Number);
const lengths = option("lengths", "512,1536").split(",").map(Number);
const profile = await parseProfile(await Deno.readFile(option("profile", "smollm2.kvzp")));
const { model } = await loadModel(option("model", "models/smollm2"));
await using _model = model;
const specs = option("texts", "").split(",").map(parseTextSpec);
const texts = await loadTexts(specs, model, Math.max(...lengths), 1);
if (!checkHeldOut(texts, profile)) throw new Error("Cannot keep texts apart: the profile holds no hashes of its texts");
await using codec = await openCodec(profile, { threads: 1 });
const off = new Map<string, number[]>();
for (const { name, ids } of texts) {
  for (const length of lengths) {
    const prompt = ids.slice(0, length);
    const cache = castCache(await model.unload(await prefill(model, prompt), prompt), "f16");
    const cells: string[] = [];
    for (const ratio of ratios) {
      const { report } = await codec.compress(cache, { recipe: "kvz", ratio });
      const key = `${length} tokens, ${ratio}×`;
      off.set(key, [...off.get(key) ?? [], report.fileRatio / ratio - 1]);
      cells.push(report.fileRatio.toFixed(2));
    }
    console.log(`${name}, ${length} tokens: ${cells.join("  ")}`);
  }
}
for (const [key, values] of off) {
  const worst = values.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a);
  const mean = values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
  console.log(`${key}: off by ${(100 * mean).toFixed(2)} % on average, ${(100 * worst).toFixed(2)} % at worst`);
}
