/**
 * How far the wasm builds agree: share of bytes of each stream, before DEFLATE, that differ between two builds when the
 * same cache is compressed, and the largest difference of caches restored from one file.
 *
 *     deno run -A bench/agreement.ts [--cache C.safetensors] [--profile P.kvzp] [--ratio 32]
 *
 * @module
 */
import { toFloat32 } from "../src/cache/elements.ts";
import { openFile, readGroup } from "../src/codec/groups.ts";
import { openCodec } from "../src/codec/open.ts";
import { decodeStream } from "../src/stages/entropy/deflate.ts";
import { loadInputs, option } from "./inputs.ts";

const { cache, profile } = await loadInputs();
const options = { ratio: Number(option("ratio", "32")), window: cache.tokens > 512 ? 128 : 32 };

/** All streams of a file by tag, chunks joined. */
async function streams(bytes: Uint8Array): Promise<Map<string, Uint8Array[]>> {
  const out = new Map<string, Uint8Array[]>();
  const file = await openFile(bytes);
  for (const info of file.groups) {
    for (const [tag, record] of (await readGroup(file, info)).records) {
      out.set(tag, [...out.get(tag) ?? [], await decodeStream(record, record.rawLength, tag)]);
    }
  }
  return out;
}

const builds = ["relaxed", "simd", "base"] as const;
const files = new Map<string, Uint8Array>();
for (const build of builds) {
  const codec = await openCodec(profile, { backend: "wasm", build });
  files.set(build, (await codec.compress(cache, options)).bytes);
  await codec.close();
}
const wanted = await streams(files.get("simd")!);
for (const build of ["relaxed", "base"]) {
  const found = await streams(files.get(build)!);
  const row: Record<string, string> = {};
  for (const [tag, chunks] of wanted) {
    let [bytes, different] = [0, 0];
    chunks.forEach((chunk, i) => {
      bytes += chunk.length;
      chunk.forEach((byte, at) => different += Number(byte !== found.get(tag)![i][at]));
    });
    if (bytes > 0) row[tag] = `${(100 * different / bytes).toFixed(4)} %`;
  }
  console.log(`bytes of ${build} that differ from simd:`, JSON.stringify(row));
}
const restored = [];
for (const build of builds) {
  const codec = await openCodec(profile, { backend: "wasm", build });
  restored.push((await codec.decompress(files.get("simd")!)).cache);
  await codec.close();
}
for (const kind of ["key", "value"] as const) {
  const [a, b, c] = restored.map((one) => toFloat32(one.read(kind, 0, one.tokens), one.dtype));
  let [differ, worst] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    differ += Number(a[i] !== b[i] || b[i] !== c[i]);
    const scale = Math.max(Math.abs(b[i]), 2 ** -14);
    worst = Math.max(worst, Math.abs(a[i] - b[i]) / scale, Math.abs(c[i] - b[i]) / scale);
  }
  const share = (100 * differ / a.length).toFixed(3);
  console.log(
    `restored ${kind}s that differ between builds: ${share} %, by at most ${worst.toExponential(1)} of the value`,
  );
}
