import { assert, assertEquals } from "deno-std/assert";
import * as edge from "../edge.ts";
import * as main from "../mod.ts";

Deno.test("all names of the edge entry are in the main entry, the codec in both", () => {
  assertEquals(Object.keys(edge).filter((name) => !(name in main)), []);
  for (const name of ["KvCache", "compress", "decompress", "inspect", "loadProfile", "openCodec"]) {
    assert(name in edge, name);
  }
});

/** Modules that an entry imports at run time, statically or, unless they are not wanted, by `import()`. */
async function modulesOf(entry: string, lazy: boolean): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json", entry] }).output();
  const { modules, roots } = JSON.parse(new TextDecoder().decode(stdout)) as {
    roots: string[];
    modules: { specifier: string; dependencies?: { code?: { specifier?: string }; isDynamic?: boolean }[] }[];
  };
  const reached = new Set<string>();
  const visit = (specifier: string) => {
    if (reached.has(specifier)) return;
    reached.add(specifier);
    // Imports of types have no `code`.
    for (const { code, isDynamic } of modules.find((one) => one.specifier === specifier)?.dependencies ?? []) {
      if (code?.specifier && (lazy || !isDynamic)) visit(code.specifier);
    }
  };
  roots.forEach(visit);
  return [...reached];
}

Deno.test("the main entry carries the codec's kernels; the edge entry none, and loads only other recipes'", async () => {
  const kernels = async (entry: string, lazy: boolean) =>
    (await modulesOf(entry, lazy)).map((specifier) => specifier.split("/wasm/bytes/")[1]).filter(Boolean).sort();
  assert((await kernels("mod.ts", true)).includes("codec.ts"));
  assertEquals(await kernels("edge.ts", false), []);
  assertEquals(await kernels("edge.ts", true), [
    "calibrate.ts",
    "dense.ts",
    "entropy.ts",
    "groups.ts",
    "huffman.ts",
    "integer.ts",
    "lossless.ts",
    "trellis.ts",
  ]);
});
