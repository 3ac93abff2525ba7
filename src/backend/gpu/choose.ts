/**
 * Opening and listing GPU backends, and opening the reference. Imported when one may be there or is asked for, so that the
 * core does not carry it.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { Backend } from "../backend.ts";
import type { BackendOptions, BackendStatus } from "../select.ts";
import { GPU_CANDIDATES } from "./candidates.ts";

/** GPUs that "auto" has looked for in vain: there is no need to look again. */
const absent = new Set<string>();

/**
 * Opens a GPU backend, or the reference, by its name.
 *
 * @throws {KvzBackendError} when there is none of that name, or it cannot be had.
 */
export async function openNamed(options: BackendOptions): Promise<Backend> {
  const { backend, build, module } = options;
  const gpu = GPU_CANDIDATES.find(({ name }) => name === backend);
  const reference = backend === "reference";
  if (gpu === undefined && !reference) {
    const names = GPU_CANDIDATES.map(({ name }) => name).join(", ");
    throw new KvzBackendError(
      `Cannot use backend ${backend}: this version has ${names}, wasm (base, simd, relaxed) and reference`,
    );
  }
  if ((build !== undefined && build !== "auto") || module !== undefined) {
    throw new KvzBackendError(`Cannot use "build" or "module" with the ${backend} backend: they are for wasm`);
  }
  return gpu === undefined
    ? new (await import("../reference/reference_backend.ts")).ReferenceBackend()
    : await gpu.open(options);
}

/**
 * Opens the GPU that "auto" takes.
 *
 * @returns null when none is there or every one failed; `reason` says how those that are there failed, "" when none is.
 * @throws {KvzBackendError} when the caller's own device cannot be used.
 */
export async function openBestGpu(options: BackendOptions): Promise<{ backend: Backend | null; reason: string }> {
  const { device } = options;
  if (device !== undefined) {
    const backend = await openNamed({ ...options, backend: typeof device === "number" ? "cuda" : "webgpu" });
    return { backend, reason: "" };
  }
  const failures: string[] = [];
  for (const { name, find, open } of GPU_CANDIDATES) {
    if (absent.has(name)) continue;
    try {
      const { fast, failure } = await find();
      if (fast) return { backend: await open(options), reason: "" };
      // What failed may work the next time.
      if (failure === undefined) absent.add(name);
      else failures.push(failure);
    } catch (error) {
      if (!(error instanceof KvzBackendError)) throw error;
      failures.push(error.message);
    }
  }
  return { backend: null, reason: failures.join("; ") };
}

/**
 * The rows of all GPU backends, and the one that "auto" takes with one thread.
 *
 * @param failures messages of those that failed when they were opened: "auto" passes them over
 */
export async function listGpus(
  failures: ReadonlyMap<string, string>,
): Promise<{ rows: BackendStatus[]; taken: string | null }> {
  const rows: BackendStatus[] = [];
  let taken: string | null = null;
  for (const { name, find } of GPU_CANDIDATES) {
    const failure = failures.get(name);
    const { available, fast, detail } = failure === undefined
      ? await find()
      : { available: false, fast: false, detail: failure };
    // One that was looked for in vain before may have come since.
    if (fast) absent.delete(name);
    const reason = !available
      ? detail
      : !fast
      ? `not used: ${detail}`
      : taken === null
      ? `used with one thread: ${detail}`
      : `not used: ${taken} comes first (${detail})`;
    if (fast) taken ??= name;
    rows.push({ name, build: "", available, reason });
  }
  return { rows, taken };
}
