/**
 * Errors and ratios of recipe kvtc beside those of the plain NumPy implementation (tools/kvtc_reference.py) with the same
 * profile, on one cache.
 *
 *     deno run -A bench/accuracy.ts --cache C.safetensors --profile P.kvzp [--ratios 8,16,32] [--window 128] [--json]
 *
 * @module
 */
import { toFloat32 } from "../src/cache/elements.ts";
import type { KvCache } from "../src/cache/kv_cache.ts";
import { openCodec } from "../src/codec/open.ts";
import { exportProfile } from "../src/profile/export.ts";
import { flag, loadInputs, option } from "./inputs.ts";

const { cache, profile } = await loadInputs();
const ratios = option("ratios", "32,64").split(",");
const window = Number(option("window", cache.tokens > 512 ? "128" : "32"));
const folder = await Deno.makeTempDir();

interface ReferenceRun {
  readonly targetRatio: { readonly key: number };
  readonly paperRatio: number;
  readonly key: { readonly relativeError: number };
  readonly value: { readonly relativeError: number };
}

async function reference(): Promise<ReferenceRun[]> {
  await Deno.writeFile(`${folder}/profile.safetensors`, exportProfile(profile));
  const { stdout, stderr, success } = await new Deno.Command("python3", {
    args: [
      "tools/kvtc_reference.py",
      "run",
      option("cache", "samples/smollm2-256.safetensors"),
      "--profile",
      `${folder}/profile.safetensors`,
      "--window",
      `${window}`,
      "--ratio",
      ...ratios,
    ],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
}

/** ‖x − x̂‖ ÷ ‖x‖ over the coded tokens. */
function error(kind: "key" | "value", restored: KvCache): number {
  const x = toFloat32(cache.read(kind, 4, cache.tokens - window), cache.dtype);
  const y = toFloat32(restored.read(kind, 4, cache.tokens - window), restored.dtype);
  let difference = 0;
  let energy = 0;
  for (let i = 0; i < x.length; i++) {
    difference += (x[i] - y[i]) ** 2;
    energy += x[i] ** 2;
  }
  return Math.sqrt(difference / energy);
}

try {
  const references = await reference();
  const codec = await openCodec(profile);
  const rows = [];
  for (const run of references) {
    const { bytes, report } = await codec.compress(cache, { ratio: run.targetRatio.key, window });
    const { cache: restored } = await codec.decompress(bytes);
    const [key, value] = [error("key", restored), error("value", restored)];
    rows.push({
      ratio: run.targetRatio.key,
      paperRatio: report.paperRatio,
      fileRatio: report.fileRatio,
      paperRatioNumPy: run.paperRatio,
      keyError: key,
      keyOfNumPy: key / run.key.relativeError,
      valueError: value,
      valueOfNumPy: value / run.value.relativeError,
    });
  }
  await codec.close();
  if (flag("json")) console.log(JSON.stringify(rows));
  else console.table(rows);
} finally {
  await Deno.remove(folder, { recursive: true });
}
