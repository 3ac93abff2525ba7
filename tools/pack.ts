/**
 * Makes the npm package dist/kvz-kvz-VERSION.tgz: `deno pack`, completed by what it leaves out: the `kvz` command,
 * exact versions, the Node version needed, and the codec's kernels as .wasm files for edge runtimes, which compile no
 * WebAssembly from bytes.
 *
 * deno task pack
 */
import config from "../deno.json" with { type: "json" };
import { WASM_BUILDS } from "../src/backend/wasm/exports.ts";
import { inlinedModule } from "../src/backend/wasm/inlined.ts";
import { DENO, run } from "./exec.ts";

/** Packages that the command finds by `require.resolve`, which `deno pack` does not see. */
const RESOLVED = ["uplot"];

/**
 * What some users have beside kvz: for `@kvz/kvz/transformers` and `kvz eval` (passed in or found, never imported), and
 * for the backends cuda and webgpu in Node (imported when they are asked for).
 */
const OPTIONAL_PEERS = { "@huggingface/transformers": ">=4.3", "koffi": ">=3", "webgpu": ">=0.6" };

/** The package.json that `deno pack` writes, as far as it is completed here. */
interface PackageJson {
  exports: Record<string, unknown>;
  dependencies?: Record<string, string>;
  [field: string]: unknown;
}

/** What was made. */
export interface Packed {
  /** Path of the tarball. */
  readonly tarball: string;
  /** Its size in bytes. */
  readonly bytes: number;
  /** Size of the files in it. */
  readonly unpackedBytes: number;
}

/** Packs into `dir`, a folder that may be overwritten. */
export async function pack(dir: string): Promise<Packed> {
  const root = `${dir}/package`;
  await Deno.remove(root, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(dir, { recursive: true });
  const first = `${dir}/deno-pack.tgz`;
  await run([DENO, "pack", "--allow-dirty", "--no-source-maps", "-o", first]);
  await run(["tar", "-xzf", first, "-C", dir]);
  await Deno.remove(first);

  await Deno.mkdir(`${root}/wasm`);
  for (const build of WASM_BUILDS) {
    await Deno.writeFile(`${root}/wasm/codec_${build}.wasm`, await inlinedModule(build));
  }
  await dropDocComments(root);
  await replaceShebang(`${root}/cli/main.js`);
  const path = `${root}/package.json`;
  await Deno.writeTextFile(path, JSON.stringify(complete(JSON.parse(await Deno.readTextFile(path))), null, 2) + "\n");

  // npm writes the tarball anew with its own file dates and order, so that equal files give equal bytes.
  const { out } = await run(["npm", "pack", "--json", "--ignore-scripts", "--pack-destination", ".."], { cwd: root });
  const [{ filename, size, unpackedSize }] = JSON.parse(out);
  return { tarball: `${dir}/${filename}`, bytes: size, unpackedBytes: unpackedSize };
}

function complete(json: PackageJson): PackageJson {
  const dependencies: Record<string, string> = {};
  for (const name of [...Object.keys(json.dependencies ?? {}), ...RESOLVED]) {
    const specifier = (config.imports as Record<string, string>)[name];
    dependencies[name] = specifier.slice(specifier.lastIndexOf("@") + 1);
  }
  return {
    ...json,
    description: config.description,
    keywords: ["kv-cache", "llm", "compression", "transformers", "wasm"],
    engines: { node: ">=20" },
    bin: { kvz: "./cli/main.js" },
    // All else can be left out by a bundler when none of its names is used.
    sideEffects: ["./cli/main.js", "./src/codec/lane_worker.js", "./src/profile/calibrate_worker.js"],
    exports: { ...json.exports, "./wasm/*.wasm": "./wasm/*.wasm" },
    dependencies,
    peerDependencies: OPTIONAL_PEERS,
    peerDependenciesMeta: Object.fromEntries(Object.keys(OPTIONAL_PEERS).map((name) => [name, { optional: true }])),
  };
}

/** Docstrings stand in the declarations beside the code, where editors read them; the code goes without. */
async function dropDocComments(dir: string): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(dir)) {
    const path = `${dir}/${name}`;
    if (isDirectory) await dropDocComments(path);
    else if (name.endsWith(".js")) {
      const text = await Deno.readTextFile(path);
      await Deno.writeTextFile(path, text.replace(/^[ \t]*\/\*\*(?:[^*]|\*(?!\/))*\*\/[ \t]*\n?/gm, ""));
    }
  }
}

/** The command's first line names Deno; npm links it as a program of Node. */
async function replaceShebang(path: string): Promise<void> {
  const text = await Deno.readTextFile(path);
  if (!text.startsWith("#!")) throw new Error(`Cannot pack: ${path} has no first line that names an interpreter`);
  await Deno.writeTextFile(path, `#!/usr/bin/env node${text.slice(text.indexOf("\n"))}`);
}

if (import.meta.main) {
  const { tarball, bytes, unpackedBytes } = await pack("dist");
  console.log(`${tarball}: ${(bytes / 1000).toFixed(1)} kB, ${(unpackedBytes / 1000).toFixed(1)} kB unpacked`);
}
