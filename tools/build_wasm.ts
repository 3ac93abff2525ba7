/**
 * Compiles the AssemblyScript kernels: each module of asm/ in three builds (base, simd, relaxed), deflated together
 * as text in src/backend/wasm/bytes/; asm/crc32c.ts with SIMD as text beside the container's checksum, which is taken
 * without waiting for anything to be inflated. `--check` compares, byte for byte, with what is committed instead of
 * writing.
 *
 * deno task wasm [--check]
 */
import { deflateRawSync } from "node:zlib";
import { WASM_BUILDS } from "../src/backend/wasm/exports.ts";
import { inflateBuild, type InlinedModule } from "../src/backend/wasm/inflate.ts";
import { compileAsm } from "./asc.ts";

const MODULES = ["codec", "calibrate", "dense", "entropy", "groups", "huffman", "integer", "lossless", "trellis"];
const OUT = "src/backend/wasm/bytes";
const CRC32C = "src/container/crc32c_wasm.ts";

function toSource(module: string, { lengths, deflated }: InlinedModule): string {
  return `// Made by \`deno task wasm\` from asm/${module}.ts. Do not edit.\n` +
    `import type { InlinedModule } from "../inflate.ts";\n\n` +
    `/** The builds of asm/${module}.ts. */\nexport const ${module}: InlinedModule = {\n` +
    `  lengths: [${lengths.join(", ")}],\n  deflated:\n    "${deflated}",\n};\n`;
}

function pack(builds: readonly Uint8Array[]): InlinedModule {
  const all = new Uint8Array(builds.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const wasm of builds) {
    all.set(wasm, at);
    at += wasm.length;
  }
  const deflated = deflateRawSync(all, { level: 9 });
  return { lengths: builds.map(({ length }) => length), deflated: deflated.toString("base64") };
}

/** Names of the builds that are not what is committed. Compared after inflating: DEFLATE differs between machines. */
async function staleBuilds(module: string, builds: readonly Uint8Array[]): Promise<string[]> {
  const committed = (await import(`../${OUT}/${module}.ts`) as Record<string, InlinedModule>)[module];
  const stale: string[] = [];
  for (const [i, build] of WASM_BUILDS.entries()) {
    const bytes = await inflateBuild(committed, build);
    if (bytes.length !== builds[i].length || bytes.some((byte, at) => byte !== builds[i][at])) {
      stale.push(`${module} ${build}`);
    }
  }
  return stale;
}

const check = Deno.args.includes("--check");
const stale: string[] = [];
await Deno.mkdir(OUT, { recursive: true });
for (const module of MODULES) {
  const builds: Uint8Array[] = [];
  for (const build of WASM_BUILDS) {
    builds.push(await compileAsm(module, build));
    console.error(`${module} ${build}: ${builds[builds.length - 1].length} bytes`);
  }
  if (check) stale.push(...await staleBuilds(module, builds));
  else await Deno.writeTextFile(`${OUT}/${module}.ts`, toSource(module, pack(builds)));
}
const crc32c = (await compileAsm("crc32c", "simd")).toBase64();
if (check) {
  if ((await import(`../${CRC32C}`)).WASM !== crc32c) stale.push("crc32c");
} else {
  await Deno.writeTextFile(
    CRC32C,
    "// Made by `deno task wasm` from asm/crc32c.ts. Do not edit.\n\n/** The module in base64. */\n" +
      `export const WASM =\n  "${crc32c}";\n`,
  );
}
if (stale.length > 0) {
  console.error(`Not what the sources give (run deno task wasm and commit): ${stale.join(", ")}`);
  Deno.exit(1);
}
