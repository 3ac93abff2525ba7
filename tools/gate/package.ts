/**
 * The packed package, installed and run in Node, Bun, Deno and workerd, and its command.
 *
 * @module
 */
import { codec } from "../../src/backend/wasm/bytes/codec.ts";
import { DENO, exec, run } from "../exec.ts";
import { pack, type Packed } from "../pack.ts";
import { type Fixtures, makeFixtures, streamsOf } from "./fixtures.ts";
import { installRuntimes, type Runtimes } from "./runtimes.ts";
import { bundledSize, CORE_LIMIT, CORE_NAMES, gzipSize } from "./size.ts";
import type { Outcome, Step } from "./steps.ts";
import { runInWorkerd, WORKERD_LIMIT } from "./workerd.ts";

/** JSR's limit is 20 MB; the package is code only and stays far below. */
const PACKAGE_LIMIT = 3_000_000;

/** A real cache and its profile, for workerd's memory. */
const SAMPLES = ["smollm2-demo.kvzp", "smollm2-256.safetensors"];

/** What the steps hand on. */
interface Place {
  /** A project of its own, with the package installed. */
  readonly dir: string;
  readonly packed: Packed;
  readonly fixtures: Fixtures;
}

/** A check of the suite in tests/runtimes. */
interface Check {
  readonly name: string;
  readonly error?: string;
}

/** The steps; each later one fails when the package could not be installed. */
export function packageSteps(): Step[] {
  let place: Promise<Place> | undefined;
  let runtimes: Promise<Runtimes> | undefined;
  const getPlace = () => place ??= install();
  const getRuntimes = () => runtimes ??= installRuntimes();
  return [
    {
      name: "package",
      async run() {
        const { packed, dir } = await getPlace();
        const bad = [...await foreignSyntax(dir), ...await foreignFiles(dir)];
        const note = `${kB(packed.bytes)} packed, ${kB(packed.unpackedBytes)} unpacked`;
        if (packed.unpackedBytes > PACKAGE_LIMIT) bad.push(`The package is over ${kB(PACKAGE_LIMIT)}`);
        return { passed: bad.length === 0 ? 1 : 0, failed: bad.length === 0 ? 0 : 1, note, log: bad.join("\n") };
      },
    },
    { name: "core size", run: async () => await coreSize((await getPlace()).dir) },
    { name: "node", run: async () => await inProcess(await getPlace(), "node", ["node"]) },
    {
      name: "bun",
      run: async () => await inProcess(await getPlace(), "bun", [(await getRuntimes()).bun]),
    },
    { name: "deno", run: async () => await inProcess(await getPlace(), "deno", [DENO, "run", "-A", "--no-lock"]) },
    { name: "workerd", run: async () => await inWorkerd(await getPlace(), (await getRuntimes()).workerd) },
    { name: "command in node", run: async () => await runCommand(await getPlace(), "node", ["npx", "--no", "kvz"]) },
    {
      name: "command in bun",
      run: async () =>
        await runCommand(await getPlace(), "bun", [(await getRuntimes()).bun, "node_modules/@kvz/kvz/cli/main.js"]),
    },
  ];
}

/** Packs, and installs the tarball in a fresh project, without a network. */
async function install(): Promise<Place> {
  const dir = await Deno.makeTempDir({ prefix: "kvz-gate-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(dir, { recursive: true }));
  const packed = await pack(`${dir}/dist`);
  // What the package depends on, from where Deno put it.
  const dependencies: string[] = [];
  const { dependencies: names = {} } = JSON.parse(await Deno.readTextFile(`${dir}/dist/package/package.json`));
  for (const name of Object.keys(names)) {
    const folder = await Deno.realPath(`node_modules/${name}`);
    const { out } = await run(["npm", "pack", "--json", "--ignore-scripts", "--pack-destination", dir, folder]);
    dependencies.push(`${dir}/${JSON.parse(out)[0].filename}`);
  }
  await Deno.writeTextFile(`${dir}/package.json`, JSON.stringify({ name: "consumer", private: true, type: "module" }));
  const tarballs = [...dependencies, packed.tarball];
  await run(["npm", "install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", ...tarballs], { cwd: dir });
  for (const name of ["suite.js", "process.js", "workerd.js", "workerd.capnp"]) {
    await Deno.copyFile(`tests/runtimes/${name}`, `${dir}/${name}`);
  }
  const fixtures = await makeFixtures(`${dir}/fixtures`);
  return { dir, packed, fixtures };
}

/** What an application loads by importing the package. */
async function coreSize(dir: string): Promise<Outcome> {
  const core = await bundledSize(dir, "@kvz/kvz", CORE_NAMES);
  const whole = await bundledSize(dir, "@kvz/kvz");
  const edge = await bundledSize(dir, "@kvz/kvz/edge", CORE_NAMES);
  const note = `core import ${kB(core.bytes)} gzip (at most ${kB(CORE_LIMIT)}), of the edge entry ${kB(edge.bytes)}; ` +
    `whole main entry ${kB(whole.bytes)} and ${kB(whole.lazyBytes)} when needed`;
  return core.bytes <= CORE_LIMIT ? { passed: 1, failed: 0, note } : { passed: 0, failed: 1, note };
}

/** Parses every module of the package; run by Node with --experimental-vm-modules. */
const PARSE = `
  import { readdirSync, readFileSync } from "node:fs";
  import { SourceTextModule } from "node:vm";
  for (const path of readdirSync(".", { recursive: true })) {
    if (!path.endsWith(".js")) continue;
    try {
      new SourceTextModule(readFileSync(path, "utf8").replace(/^#!.*/, ""));
    } catch (error) {
      console.log(path + " cannot be parsed by Node " + process.version + ": " + error.stack);
    }
  }`;

/** Files that Node cannot parse: `deno pack` strips types, but lowers no syntax (`using`, for instance). */
async function foreignSyntax(dir: string): Promise<string[]> {
  const command = ["node", "--no-warnings", "--experimental-vm-modules", "--input-type=module", "-e", PARSE];
  const { out } = await run(command, { cwd: `${dir}/node_modules/@kvz/kvz` });
  return out === "" ? [] : [out];
}

/** Sources that no entry reaches: `deno pack` leaves them as TypeScript. */
async function foreignFiles(dir: string): Promise<string[]> {
  const { out } = await run(["find", ".", "-name", "*.ts", "!", "-name", "*.d.ts"], {
    cwd: `${dir}/node_modules/@kvz/kvz`,
  });
  return out.split("\n").filter(Boolean).map((path) => `${path} is reached from no entry of the package`);
}

async function inProcess({ dir, fixtures }: Place, name: string, runtime: readonly string[]): Promise<Outcome> {
  const out = `${dir}/out-${name}`;
  await Deno.mkdir(out);
  const { code, log, seconds } = await exec([...runtime, "process.js", "fixtures", out], { cwd: dir });
  if (code !== 0) return { passed: 0, failed: 1, log };
  const checks: Check[] = JSON.parse(await Deno.readTextFile(`${out}/checks.json`));
  const files = new Map<string, Uint8Array>();
  for await (const { name } of Deno.readDir(out)) {
    if (name !== "checks.json") files.set(name, await Deno.readFile(`${out}/${name}`));
  }
  const version = (await run([runtime[0], "--version"])).out.match(/\d+\.\d+\.\d+/)?.[0];
  return await outcome(checks, files, fixtures, `${version}, suite in ${seconds.toFixed(1)} s`);
}

async function inWorkerd({ dir, fixtures }: Place, workerd: string): Promise<Outcome> {
  await run([DENO, "bundle", "--minify", "--external", "*.wasm", "-o", "worker.js", "workerd.js"], { cwd: dir });
  const bundle = await Deno.readTextFile(`${dir}/worker.js`);
  await Deno.copyFile(`${dir}/node_modules/@kvz/kvz/wasm/codec_simd.wasm`, `${dir}/codec_simd.wasm`);
  await Deno.mkdir(`${dir}/samples`);
  for (const name of SAMPLES) await Deno.copyFile(`samples/${name}`, `${dir}/samples/${name}`);
  const { checks, files, memory } = await runInWorkerd(workerd, dir);
  const all: Check[] = [...checks];
  all.push({
    name: "no inlined kernels",
    ...(bundle.includes(codec.deflated) ? { error: "The worker's bundle holds inlined kernels" } : {}),
  });
  all.push({
    name: "memory",
    ...(memory <= WORKERD_LIMIT ? {} : { error: `The worker took ${kB(memory)}, at most ${kB(WORKERD_LIMIT)}` }),
  });
  const note = `bundle ${kB(gzipSize(bundle))} gzip, ${(memory / 1e6).toFixed(0)} MB taken`;
  return await outcome(all, files, fixtures, note);
}

/** The suite's own checks, and its files against those of the sources in Deno. */
async function outcome(
  checks: readonly Check[],
  files: ReadonlyMap<string, Uint8Array>,
  fixtures: Fixtures,
  note: string,
): Promise<Outcome> {
  const all: Check[] = [...checks];
  const simd = files.get("simd");
  if (simd !== undefined) {
    const differing = differingStreams(fixtures.streams, await streamsOf(simd));
    all.push({
      name: "streams before DEFLATE",
      ...(differing.length > 0 ? { error: `Other streams than in Deno: ${differing.join(", ")}` } : {}),
    });
    note += `, .kvz bytes ${sameBytes(simd, fixtures.reference) ? "equal to" : "other than"} Deno's`;
  }
  const restored = files.get("restored");
  all.push({
    name: "restored bytes",
    ...(restored !== undefined && sameBytes(restored, fixtures.restored)
      ? {}
      : { error: "The reference file is restored to other bytes than in Deno" }),
  });
  const failures = all.filter(({ error }) => error !== undefined);
  return {
    passed: all.length - failures.length,
    failed: failures.length,
    note: `${all.length} checks, ${note}`,
    log: failures.map(({ name, error }) => `${name}: ${error}`).join("\n"),
  };
}

function differingStreams(wanted: ReadonlyMap<string, Uint8Array>, found: ReadonlyMap<string, Uint8Array>): string[] {
  return [...new Set([...wanted.keys(), ...found.keys()])].filter((name) => {
    const a = wanted.get(name);
    const b = found.get(name);
    return a === undefined || b === undefined || !sameBytes(a, b);
  });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** The installed command: compress, inspect, decompress. */
async function runCommand({ dir }: Place, name: string, words: readonly string[]): Promise<Outcome> {
  const profile = ["--profile", "fixtures/profile.kvzp"];
  const file = `${name}.kvz`;
  const calls = [
    [
      "compress",
      "fixtures/cache.safetensors",
      "-o",
      file,
      ...profile,
      "--ratio",
      "8",
      "--window",
      "32",
      "--threads",
      "2",
    ],
    ["inspect", file],
    ["decompress", file, "-o", `${name}.safetensors`, ...profile],
  ];
  const failures: string[] = [];
  for (const call of calls) {
    const { code, out, log } = await exec([...words, ...call, "--json"], { cwd: dir });
    try {
      if (code !== 0) throw new Error(`exit code ${code}`);
      if (!(Object.keys(JSON.parse(out)).length > 0)) throw new Error("an empty object");
    } catch (error) {
      failures.push(`kvz ${call.join(" ")}: ${error}\n${log}`);
    }
  }
  return {
    passed: calls.length - failures.length,
    failed: failures.length,
    note: `${calls.length} calls`,
    log: failures.join("\n"),
  };
}

function kB(bytes: number): string {
  return `${(bytes / 1000).toFixed(1)} kB`;
}
