/**
 * `kvz bench`: how fast each backend of this machine runs each kernel.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { type BackendOptions, createBackend, listBackends } from "../../src/backend/select.ts";
import { KvzBackendError, KvzLimitError } from "../../src/errors.ts";
import type { BackendRates } from "../bench/measure.ts";
import type { CliContext } from "../context.ts";
import { EXIT, UsageError } from "../exit_codes.ts";
import { formatTable } from "../format.ts";
import { addJsonOption, type JsonFlag, wholeNumber } from "../options.ts";
import { scoped } from "../scope.ts";

interface BenchFlags extends JsonFlag {
  readonly backend: string;
  readonly seconds: string;
  readonly tokens?: number;
}

const NAMES = ["all", "cuda", "webgpu", "wasm", "reference"];

/** Adds the command. */
export function addBench(program: Command, context: CliContext): void {
  const command = program.command("bench")
    .description("measure every kernel as a share of the device's copying and of its matrix product, in one run")
    .option("--backend <name>", `what to measure: ${NAMES.join(", ")} (all: without reference)`, "all")
    .option("--seconds <s>", "time for each kernel", "0.3")
    .addOption(
      new Option("--tokens <n>", "tokens of a call (default: 4096 on a GPU, 256 on a core)")
        .argParser(wholeNumber("--tokens", 1, 1 << 20)),
    );
  addJsonOption(command).action(async (flags: BenchFlags) => {
    const { backend: wanted } = flags;
    if (!NAMES.includes(wanted)) {
      throw new UsageError(`Cannot use --backend ${wanted}: expected ${NAMES.join(", ")}`);
    }
    const seconds = Number(flags.seconds);
    if (!(seconds > 0 && seconds <= 60)) {
      throw new UsageError(`Cannot use --seconds ${flags.seconds}: expected a number from 0 to 60`);
    }
    // Every other command does without it.
    const { measureBackend } = await import("../bench/measure.ts");
    const measured: BackendRates[] = [];
    const left: { backend: string; build: string; reason: string }[] = [];
    for (const { name, build, available, reason } of await listBackends()) {
      if (wanted === "all" ? name === "reference" : name !== wanted) continue;
      if (!available) {
        left.push({ backend: name, build, reason });
        continue;
      }
      const options = { backend: name, ...(name === "wasm" ? { build } : {}) } as BackendOptions;
      try {
        await scoped(async (scope) => {
          measured.push(await measureBackend(scope.use(await createBackend(options)), seconds, flags.tokens));
        });
      } catch (error) {
        // One that was asked for by name fails the command; of several, the others are measured.
        if (wanted === name || !(error instanceof KvzBackendError || error instanceof KvzLimitError)) throw error;
        left.push({ backend: name, build, reason: error.message });
      }
    }
    if (measured.length === 0) context.exitCode = EXIT.backend;
    await context.finish(flags, { backends: measured, left }, [
      ...measured.flatMap(table),
      ...left.map(({ backend, build, reason }) => `${`${backend} ${build}`.trim()}: not measured, ${reason}`),
    ]);
  });
}

function table(rates: BackendRates): string[] {
  const {
    backend,
    build,
    device = "",
    tokens,
    copyGigabytesPerSecond,
    product,
    peakGigaOperationsPerSecond: peak,
    kernels,
  } = rates;
  const percent = (share: number | undefined) => share === undefined ? "" : `${Math.round(100 * share)} %`;
  return [
    `${backend} ${build}${device === "" ? "" : ` on ${device}`}: ${tokens} tokens of SmolLM2`,
    `100 % of copying: ${copyGigabytesPerSecond.toFixed(1)} GB/s, read and written`,
    `100 % of the product: ${digits(product.gigaOperationsPerSecond)} GFLOP/s, ${product.kernel}` +
    (peak === undefined ? "" : `; nominal peak of the tensor cores in f16: ${peak.toFixed(0)}`),
    ...formatTable(
      ["kernel", "ms", "GB/s", "of copying", "GFLOP/s", "of the product"],
      kernels.map((k) => [
        k.kernel,
        k.milliseconds.toFixed(3),
        k.ofProduct === undefined ? digits(k.gigabytesPerSecond) : "",
        k.ofProduct === undefined ? percent(k.ofCopy) : "",
        k.gigaOperationsPerSecond === undefined ? "" : digits(k.gigaOperationsPerSecond),
        percent(k.ofProduct),
      ]),
    ),
    "",
  ];
}

/** A rate, of a slow device too. */
function digits(rate: number): string {
  return rate < 1 ? rate.toPrecision(2) : rate.toFixed(rate < 100 ? 1 : 0);
}
