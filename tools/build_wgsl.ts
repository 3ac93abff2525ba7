/**
 * Embeds the WGSL kernels: each file of wgsl/ (with what it includes, without comments and indentation) as text in
 * src/backend/webgpu/shaders/. `--check` compares with what is committed instead of writing.
 *
 * deno task wgsl [--check]
 */
const SOURCES = "wgsl";
const OUT = "src/backend/webgpu/shaders";

/** The text of a file with `//!include <file>` lines replaced, each file once. */
async function withIncludes(path: string, seen: Set<string>): Promise<string> {
  if (seen.has(path)) return "";
  seen.add(path);
  const lines: string[] = [];
  for (const line of (await Deno.readTextFile(path)).split("\n")) {
    const include = /^\/\/!include (\S+)$/.exec(line);
    lines.push(include === null ? line : await withIncludes(`${SOURCES}/${include[1]}`, seen));
  }
  return lines.join("\n");
}

/** Without comments, indentation and empty lines; what marks variants (src/backend/webgpu/variants.ts) stays. */
function minify(text: string): string {
  return text.replace(/\/\/(?!!(?:subgroups|else|end)$).*/gm, "").split("\n").map((line) => line.trim()).filter((
    line,
  ) => line !== "").join("\n");
}

/** gather_any → gatherAny. */
function constantName(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function toSource(name: string, text: string): string {
  if (/[`\\$]/.test(text)) throw new Error(`${name}: backticks, backslashes and dollar signs cannot be embedded`);
  return `// Made by \`deno run -A tools/build_wgsl.ts\` from wgsl/${name}.wgsl. Do not edit.\n` +
    `import type { Shader } from "../pipelines.ts";\n\n` +
    `/** wgsl/${name}.wgsl. */\nexport const ${constantName(name)}: Shader = {\n` +
    `  name: "${name}",\n  text: \`${text}\`,\n};\n`;
}

const check = Deno.args.includes("--check");
const stale: string[] = [];
const wanted = new Map<string, string>();
for await (const { name: file, isFile } of Deno.readDir(SOURCES)) {
  if (!isFile || !file.endsWith(".wgsl")) continue;
  const name = file.slice(0, -".wgsl".length);
  wanted.set(`${name}.ts`, toSource(name, minify(await withIncludes(`${SOURCES}/${file}`, new Set()))));
}
await Deno.mkdir(OUT, { recursive: true });
for (const [file, text] of wanted) {
  const committed = await Deno.readTextFile(`${OUT}/${file}`).catch(() => null);
  if (committed === text) continue;
  if (check) stale.push(file);
  else await Deno.writeTextFile(`${OUT}/${file}`, text);
}
for await (const { name } of Deno.readDir(OUT)) {
  if (wanted.has(name)) continue;
  if (check) stale.push(`${name} (without a source)`);
  else await Deno.remove(`${OUT}/${name}`);
}
if (stale.length > 0) {
  console.error(`Not what wgsl/ gives (run deno task wgsl and commit): ${stale.join(", ")}`);
  Deno.exit(1);
}
