/** What of the library rests on functions that ECMAScript leaves to the engine, and why it may. */
import { assert, assertEquals } from "deno-std/assert";

/** Folders and files that may, by what their results decide. */
const ALLOWED: Record<string, string> = {
  "src/eval/": "figures about caches, no bytes",
  "src/profile/eigen.ts": "calibration: what it fits is stored, and coding uses what is stored",
  "src/profile/kvz/int7.ts": "calibration",
  "src/profile/kvz/train.ts": "calibration",
  "src/stages/quantize/trellis/initial_tables.ts": "calibration: tables before training",
  "src/profile/kvz/rate.ts": "calibration and trimming: how many components a profile keeps",
  "src/stages/quantize/trellis/model.ts": "costs are rounded far from ties (below); class middles for calibration",
  "src/stages/entropy/row_classes.ts": "code lengths are rounded far from ties (below)",
  "src/stages/entropy/rans_counts.ts": "code lengths that reports and benchmarks tell",
  "src/adapters/gguf.ts": "factors of a file compared with the formula's within 10^-3",
  "src/cache/power.ts": "logarithms of 0, negative numbers, infinity and NaN, which ECMAScript settles",
};

/** Functions that are implementation-approximated; powers of literals (2 ** 32, 2 ** -24) have gone before. */
const FUNCTIONS = /Math\.(a?(sin|cos|tan)h?|atan2|exp|expm1|log|log2|log10|log1p|pow|hypot|cbrt)\(|\*\*/;

async function* sources(dir: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(`../${dir}`, import.meta.url))) {
    if (isDirectory) yield* sources(`${dir}${name}/`);
    else if (name.endsWith(".ts")) yield dir + name;
  }
}

Deno.test("bytes and restored values rest on exact arithmetic only", async () => {
  const used = new Set<string>();
  for await (const path of sources("src/")) {
    const text = await Deno.readTextFile(new URL(`../${path}`, import.meta.url));
    const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "").replace(/\b2 \*\* -?\d+/g, "");
    const found = code.match(FUNCTIONS);
    if (found === null) continue;
    const reason = Object.keys(ALLOWED).find((allowed) => path.startsWith(allowed));
    assert(reason !== undefined, `${path} uses ${found[0]}, which engines may compute differently: src/cache/power.ts`);
    used.add(reason!);
  }
  assertEquals([...used].sort(), Object.keys(ALLOWED).sort(), "a reason that is no longer needed");
});

Deno.test("rounded code lengths are far from ties: a logarithm off by 10^-9 gives the same", () => {
  for (const [bits, unit] of [[11, 256], [11, 4096], [12, 256]]) {
    for (let frequency = 1; frequency <= 1 << bits; frequency++) {
      const length = unit * (bits - Math.log2(frequency));
      assert(Math.abs(length - Math.floor(length) - 0.5) > 1e-5, `${unit} · log2(${frequency})`);
    }
  }
});
