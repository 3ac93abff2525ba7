/**
 * `kvz doctor`: what this machine and runtime can do, each with the reason why it is or is not used.
 *
 * @module
 */
import type { Command } from "commander";
import { availableParallelism } from "node:os";
import process from "node:process";
import { fallbackOf } from "../../src/backend/fallback.ts";
import { detectBuild, supportsBuild } from "../../src/backend/wasm/detect.ts";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { type BackendOptions, type BackendStatus, createBackend, listBackends } from "../../src/backend/select.ts";
import { hostWorkOf } from "../../src/backend/host_work.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openGroups } from "../../src/stages/quantize/group_kernels.ts";
import { openNets } from "../../src/stages/transform/dense.ts";
import type { CliContext } from "../context.ts";
import { EXIT } from "../exit_codes.ts";
import { formatFacts } from "../format.ts";
import { addJsonOption, type JsonFlag } from "../options.ts";
import { scoped } from "../scope.ts";
import { VERSION } from "../version.ts";

/** Adds the command. */
export function addDoctor(program: Command, context: CliContext): void {
  const command = program.command("doctor")
    .description("check backends, WASM builds, DEFLATE and threads of this runtime; exit code 6 when none can be used");
  addJsonOption(command).action(async (flags: JsonFlag) => {
    const backends = await tryBackends();
    const wasmBuilds = Object.fromEntries(WASM_BUILDS.map((build) => [build, supportsBuild(build)]));
    let fallback: string | undefined;
    let gpu = false;
    const auto = await probe(() =>
      scoped(async (scope) => {
        const backend = scope.use(await createBackend());
        fallback = fallbackOf(backend);
        gpu = backend.gpu !== null;
        return `${backend.name} ${backend.build}`;
      })
    );
    const deflate = await probe(checkDeflate);
    const workers = await probe(checkWorkers);
    const result = {
      version: VERSION,
      runtime: runtimeVersions(),
      platform: `${process.platform} ${process.arch}`,
      cores: availableParallelism(),
      backends,
      wasmBuilds,
      auto: { ...auto, ...(fallback === undefined ? {} : { fallback }) },
      compressionStream: deflate,
      workers,
      healthy: auto.ok && deflate.ok,
    };
    if (!result.healthy) context.exitCode = EXIT.backend;
    const said = ({ ok, detail }: Probe) => `${ok ? "yes" : "NO"}: ${detail}`;
    await context.finish(flags, result, [
      ...formatFacts([
        ["kvz", VERSION],
        ["runtime", Object.entries(result.runtime).map(([name, version]) => `${name} ${version}`).join(", ")],
        ["platform", `${result.platform}, ${result.cores} logical processors`],
        ["WASM builds", `${WASM_BUILDS.filter(supportsBuild).join(", ") || "none"} (best: ${detectBuild() ?? "none"})`],
        ["auto", auto.ok ? `takes ${auto.detail}${aside(gpu, fallback)}` : auto.detail],
        ["DEFLATE", said(deflate)],
        ["workers", said(workers)],
      ]),
      "",
      ...backends.flatMap(({ name, build, available, reason, host = [], cublasLt }) => [
        `${available ? "yes" : "no "}  ${name.padEnd(9)} ${build.padEnd(8)} ${reason}`,
        ...(cublasLt === undefined ? [] : [`${" ".repeat(24)}cuBLASLt: ${cublasLt}`]),
        ...(host.length === 0 ? [] : [`${" ".repeat(24)}not with the host's bits, so in WASM: ${host.join(", ")}`]),
      ]),
    ]);
  });
}

/** What else there is to know of the backend that auto takes. */
function aside(gpu: boolean, fallback: string | undefined): string {
  if (fallback !== undefined) return ` in place of a GPU that fails: ${fallback}`;
  return gpu ? ` with one thread (--threads 1), with more wasm ${detectBuild() ?? "(which is not there)"}` : "";
}

/** Whether something works, and what came of it or why not. */
interface Probe {
  readonly ok: boolean;
  readonly detail: string;
}

async function probe(check: () => Promise<string>): Promise<Probe> {
  try {
    return { ok: true, detail: await check() };
  } catch (error) {
    return { ok: false, detail: (error as Error).message };
  }
}

/** A backend, what WebAssembly computes beside it, and of cuda the cuBLASLt that it multiplies with, or why none. */
type TriedBackend = BackendStatus & { readonly host?: readonly string[]; readonly cublasLt?: string };

/** All backends tried. Where a GPU fails at it, the reasons of the others are those of a machine without it. */
async function tryBackends(): Promise<TriedBackend[]> {
  const listed = await listBackends();
  const tried = await Promise.all(listed.map(tryBackend));
  const failures = tried.flatMap(({ name, available, reason }, i): [string, string][] =>
    listed[i].available && !available && name !== "wasm" ? [[name, reason]] : []
  );
  if (failures.length === 0) return tried;
  const reasons = await listBackends(new Map(failures));
  return tried.map((one, i) => one.available ? { ...one, reason: reasons[i].reason } : one);
}

/** What a backend says of itself is tried: kernels are loaded, memory is taken, a GPU's roundings are compared. */
async function tryBackend(status: BackendStatus): Promise<TriedBackend> {
  if (!status.available) return status;
  const named = { backend: status.name, ...(status.name === "wasm" ? { build: status.build } : {}) };
  let facts: Pick<TriedBackend, "host" | "cublasLt"> = {};
  const { ok, detail } = await probe(() =>
    scoped(async (scope) => {
      const backend = scope.use(await createBackend(named as BackendOptions));
      backend.alloc(1024).free();
      if (backend.gpu !== null) {
        await openNets(backend);
        await openGroups(backend);
        const { cublasLt } = backend as { readonly cublasLt?: string };
        facts = { host: hostWorkOf(backend) ?? [], ...(cublasLt === undefined ? {} : { cublasLt }) };
      }
      return "";
    })
  );
  return ok ? { ...status, ...facts } : { ...status, available: false, reason: detail };
}

/** DEFLATE there and back through the platform. */
async function checkDeflate(): Promise<string> {
  const bytes = Uint8Array.from({ length: 4096 }, (_, i) => i * i >> 4);
  const through = async (stream: CompressionStream | DecompressionStream, input: Uint8Array<ArrayBuffer>) =>
    new Uint8Array(await new Response(new Blob([input]).stream().pipeThrough(stream)).arrayBuffer());
  const packed = await through(new CompressionStream("deflate-raw"), bytes);
  const back = await through(new DecompressionStream("deflate-raw"), packed);
  if (back.length !== bytes.length || back.some((byte, i) => byte !== bytes[i])) {
    throw new Error("CompressionStream does not give back what it was given");
  }
  return "CompressionStream and DecompressionStream (deflate-raw)";
}

/** Two lanes in workers that answer. */
async function checkWorkers(): Promise<string> {
  const lanes = await Lanes.open({ threads: 2 }, createBackend);
  try {
    return `two worker threads answered (${lanes.info.backend} ${lanes.info.build})`;
  } finally {
    lanes.close();
  }
}

/** Versions of runtime and engine. */
function runtimeVersions(): Record<string, string> {
  const { Deno, Bun } = globalThis as {
    Deno?: { version: { deno: string } };
    Bun?: { version: string };
  };
  const { v8 } = process.versions;
  if (Deno !== undefined) return { deno: Deno.version.deno, v8 };
  if (Bun !== undefined) return { bun: Bun.version };
  return { node: process.versions.node, v8 };
}
