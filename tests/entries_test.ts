import { assert, assertEquals } from "deno-std/assert";
import * as edge from "../edge.ts";
import * as main from "../mod.ts";

/** Names of the main entry that need kernels compiled from bytes. */
const MAIN_ONLY = ["calibrate", "calibratePartial", "mergeCalibration", "listBackends"];

Deno.test("the edge entry has the names of the main entry, but those that compile kernels from bytes", () => {
  const wanted = Object.keys(main).filter((name) => !MAIN_ONLY.includes(name));
  assertEquals(Object.keys(edge).sort(), wanted.sort());
});

/** Modules that an entry imports at run time, statically or by `import()`. */
async function modulesOf(entry: string): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json", entry] }).output();
  const { modules, roots } = JSON.parse(new TextDecoder().decode(stdout)) as {
    roots: string[];
    modules: { specifier: string; dependencies?: { code?: { specifier?: string } }[] }[];
  };
  const reached = new Set<string>();
  const visit = (specifier: string) => {
    if (reached.has(specifier)) return;
    reached.add(specifier);
    // Imports of types have no `code`.
    for (const { code } of modules.find((module) => module.specifier === specifier)?.dependencies ?? []) {
      if (code?.specifier) visit(code.specifier);
    }
  };
  roots.forEach(visit);
  return [...reached];
}

Deno.test("the main entry carries the codec's kernels, the edge entry none", async () => {
  const kernels = async (entry: string) =>
    (await modulesOf(entry)).map((specifier) => specifier.split("/wasm/bytes/")[1]).filter(Boolean);
  assert((await kernels("mod.ts")).includes("codec.ts"));
  assertEquals(await kernels("edge.ts"), []);
});
