/**
 * Peak memory (VmHWM of a child process, Linux) of `kvz compress` on a synthetic cache file of 1 GiB, beside that of a
 * child that only loads the profile and compresses a small cache.
 *
 *     deno run -A bench/memory.ts [--profile P.kvzp] [--ratio 32] [--gib 1] [--threads 2]
 *
 * @module
 */
import { SafetensorsSink } from "../src/adapters/safetensors_sink.ts";
import { parseProfile } from "../src/profile/profile.ts";
import { option } from "./inputs.ts";

const profilePath = option("profile", "samples/smollm2-demo.kvzp");
const { model } = await parseProfile(await Deno.readFile(profilePath));
const perToken = model.layers * model.kvHeads * (model.keyDim + model.valueDim) * 2;
const folder = await Deno.makeTempDir();

/** Writes a cache of pseudo-random binary16 in (−2, 2), 256 tokens at a time. */
async function writeCache(path: string, tokens: number): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, read: true });
  const sink = new SafetensorsSink(
    {
      writeAt(offset, bytes) {
        file.seekSync(offset, Deno.SeekMode.Start);
        for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
      },
    },
    { model, dtype: "f16", positions: Int32Array.from({ length: tokens }, (_, i) => i) },
  );
  await sink.start();
  let state = 1;
  for (let begin = 0; begin < tokens; begin += 256) {
    const n = Math.min(256, tokens - begin);
    for (const kind of ["key", "value"] as const) {
      const dim = kind === "key" ? model.keyDim : model.valueDim;
      const bits = new Uint16Array(model.layers * model.kvHeads * n * dim);
      for (let i = 0; i < bits.length; i++) {
        state = Math.imul(state, 1664525) + 1013904223 | 0;
        bits[i] = (state >>> 16) & 0xbfff;
      }
      await sink.write(kind, 0, begin, n, new Uint8Array(bits.buffer));
    }
  }
  await sink.finish();
}

async function peak(cache: string): Promise<{ mib: number; report: string }> {
  const script = `
    await import(${JSON.stringify(new URL("../cli/main.ts", import.meta.url).href)});
    globalThis.addEventListener("unload", () => {
      const line = Deno.readTextFileSync("/proc/self/status").split("\\n").find((l) => l.startsWith("VmHWM"));
      console.error(line);
    });`;
  const entry = `${folder}/peak.ts`;
  await Deno.writeTextFile(entry, script);
  const args = [
    "compress",
    cache,
    "-o",
    `${folder}/out.kvz`,
    "--profile",
    profilePath,
    "--ratio",
    option("ratio", "32"),
  ];
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--config",
      "deno.json",
      entry,
      ...args,
      "--threads",
      option("threads", "2"),
      "--json",
      "--force",
    ],
  }).output();
  const text = new TextDecoder().decode(stderr);
  const match = /VmHWM:\s+(\d+) kB/.exec(text);
  if (!success || match === null) throw new Error(`The child failed: ${text}${new TextDecoder().decode(stdout)}`);
  return { mib: Number(match[1]) / 1024, report: new TextDecoder().decode(stdout) };
}

try {
  await writeCache(`${folder}/small.safetensors`, 8);
  await writeCache(`${folder}/large.safetensors`, Math.round(Number(option("gib", "1")) * 2 ** 30 / perToken));
  const small = await peak(`${folder}/small.safetensors`);
  const large = await peak(`${folder}/large.safetensors`);
  const profileMib = (await Deno.stat(profilePath)).size / 2 ** 20;
  console.log(JSON.stringify({
    profileMib,
    baselineMib: small.mib,
    peakMib: large.mib,
    aboveProfileMib: large.mib - profileMib,
    aboveBaselineMib: large.mib - small.mib,
    report: JSON.parse(large.report),
  }));
} finally {
  await Deno.remove(folder, { recursive: true });
}
