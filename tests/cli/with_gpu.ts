/**
 * Commands in this process, with another GPU than the machine's.
 *
 * @module
 */
import { Command } from "commander";
import type { CliContext } from "../../cli/context.ts";
import { GPU_CANDIDATES } from "../../src/backend/gpu/candidates.ts";

/** Result and lines of a command, with another navigator.gpu and without CUDA. */
export async function runWithGpu(
  gpu: object,
  add: (program: Command, context: CliContext) => void,
  args: readonly string[],
): Promise<{ readonly said: unknown; readonly text: string }> {
  let result: { said: unknown; text: string } | null = null;
  const context: CliContext = {
    signal: new AbortController().signal,
    exitCode: 0,
    finish: (_flags, said, lines) => {
      result = { said, text: lines.join("\n") };
      return Promise.resolve();
    },
  };
  const program = new Command();
  add(program, context);
  const [cuda] = GPU_CANDIDATES;
  const { find } = cuda;
  Object.assign(cuda, { find: () => Promise.resolve({ available: false, fast: false, detail: "no driver" }) });
  Object.defineProperty(navigator, "gpu", { configurable: true, value: gpu });
  try {
    await program.parseAsync([...args], { from: "user" });
  } finally {
    Object.assign(cuda, { find });
    Reflect.deleteProperty(navigator, "gpu");
  }
  return result!;
}

/** An entry with an adapter by this name, whose devices are what is given. */
export function gpuWith(description: string, requestDevice: () => Promise<GPUDevice>, real: GPUAdapter | null): object {
  const { limits, features } = real ?? { limits: {}, features: new Set() };
  return { requestAdapter: () => Promise.resolve({ limits, features, info: { description }, requestDevice }) };
}
