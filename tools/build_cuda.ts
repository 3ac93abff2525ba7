/**
 * Compiles the CUDA modules of cuda/ to PTX, deflated as text in src/backend/cuda/ptx/. `--check` compares with what is
 * committed instead of writing.
 *
 * deno run -A tools/build_cuda.ts [--check] [MODULE …]
 *
 * @module
 */
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { cudaModules } from "./build_cuda_emulator.ts";
import { Nvrtc } from "./nvrtc.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const OUT = `${ROOT}src/backend/cuda/ptx`;

/** A module's PTX, without what is not part of it: the compiler's comments. */
function compile(nvrtc: Nvrtc, module: string, source: string): string {
  const ptx = nvrtc.compile(`${module}.cu`, source, `${ROOT}cuda`);
  const lines = ptx.split("\n").filter((line) => line.trim() !== "" && !line.trimStart().startsWith("//"));
  return `// kvz module ${module}\n${lines.join("\n")}\n`;
}

/** Compilations until one equals what is committed: NVRTC orders registers of large kernels in one of some ways. */
const MOST_TRIES = 16;
/** How often the text that is written has come: the most frequent one, mostly. */
const AGREEING = 3;

/** Compiles until a text has come often, which is written; what is committed stays when it has come at all. */
function frequentText(committed: string | null, compileOnce: () => string): string {
  const counts = new Map<string, number>();
  for (;;) {
    const ptx = compileOnce();
    const count = (counts.get(ptx) ?? 0) + 1;
    if (ptx === committed || count === AGREEING) return ptx;
    counts.set(ptx, count);
  }
}

/** Whether some compilation gives the text. */
function isReproducible(text: string | null, compileOnce: () => string): boolean {
  for (let i = 0; i < MOST_TRIES && text !== null; i++) if (compileOnce() === text) return true;
  return false;
}

function toSource(module: string, ptx: string): string {
  const deflated = deflateRawSync(new TextEncoder().encode(ptx), { level: 9 }).toString("base64");
  return `// Made by \`deno run -A tools/build_cuda.ts\` from cuda/${module}.cu. Do not edit.\n\n` +
    `/** PTX of cuda/${module}.cu: raw DEFLATE, base64. */\nexport const ptx: string =\n  "${deflated}";\n`;
}

function toIndex(modules: readonly string[]): string {
  const lines = modules.map((module) =>
    `  ${module}: (): Promise<{ readonly ptx: string }> => import("./${module}.ts"),\n`
  );
  return `// Made by \`deno run -A tools/build_cuda.ts\`. Do not edit.\n\n/** The modules of cuda/. */\n` +
    `export const MODULES = {\n${lines.join("")}} as const;\n`;
}

/** The text that is committed; compared after inflating, because DEFLATE differs between machines. */
async function committed(module: string): Promise<string | null> {
  try {
    const { ptx } = await import(`file://${OUT}/${module}.ts`) as { ptx: string };
    return inflateRawSync(Uint8Array.fromBase64(ptx)).toString();
  } catch {
    return null;
  }
}

const check = Deno.args.includes("--check");
const asked = Deno.args.filter((arg) => !arg.startsWith("--"));
const nvrtc = await Nvrtc.open(`${ROOT}.cache/cuda`);
const stale: string[] = [];
await Deno.mkdir(OUT, { recursive: true });
for (const module of await cudaModules()) {
  if (asked.length > 0 && !asked.includes(module)) continue;
  const source = await Deno.readTextFile(`${ROOT}cuda/${module}.cu`);
  const compileOnce = () => compile(nvrtc, module, source);
  const before = await committed(module);
  if (check) {
    if (!isReproducible(before, compileOnce)) stale.push(module);
    continue;
  }
  const ptx = frequentText(before, compileOnce);
  console.error(`${module}: ${ptx.length} bytes of PTX`);
  if (ptx === before) continue;
  nvrtc.assemble(`${module}.cu`, source, `${ROOT}cuda`);
  await Deno.writeTextFile(`${OUT}/${module}.ts`, toSource(module, ptx));
}
const index = toIndex(await cudaModules());
if (!check) await Deno.writeTextFile(`${OUT}/index.ts`, index);
else if (await Deno.readTextFile(`${OUT}/index.ts`).catch(() => "") !== index) stale.push("index");
if (stale.length > 0) {
  console.error(`Not what the sources give (run tools/build_cuda.ts and commit): ${stale.join(", ")}`);
  Deno.exit(1);
}
