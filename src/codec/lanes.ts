/**
 * The pool of lanes: hands each job to the next free lane. With one thread the lane runs in the calling thread.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { markFallback } from "../backend/fallback.ts";
import type { BackendOptions } from "../backend/select.ts";
import { logicalProcessors, type WorkerHandle } from "../platform/worker.ts";
import { KvzBackendError } from "../errors.ts";
import type { Job, Setup, TaggedStream } from "../recipes/recipe.ts";
import { InlineLane, type JobResult, type Lane, type LaneInfo } from "./lane.ts";

/** How lanes are made. */
export interface LaneOptions extends BackendOptions {
  /** Lanes: 1 (default) runs in the calling thread, more run in workers, 0 takes one a logical processor. */
  readonly threads?: number;
  /** Makes a worker that runs src/codec/lane_worker, for bundlers that rename files. */
  readonly createWorker?: () => WorkerHandle;
}

/** A fixed set of lanes. */
export class Lanes {
  readonly #lanes: readonly Lane[];
  /** Jobs under way of each lane. */
  readonly #running: number[];
  readonly #waiting: (() => void)[] = [];
  /** Makes a backend like the lanes' in this thread: what computes with it goes through {@linkcode plan}. */
  readonly openBackend: () => Promise<Backend>;

  private constructor(lanes: readonly Lane[], openBackend: () => Promise<Backend>) {
    this.#lanes = lanes;
    this.openBackend = openBackend;
    this.#running = lanes.map(() => 0);
  }

  /**
   * Opens lanes.
   *
   * @param createBackend makes the backend of a lane in this thread. It is given, not imported, so that the edge entry
   * does not carry the inlined kernels.
   * @throws {RangeError} when `threads` is not a whole number from 0 to 256.
   * @throws {KvzBackendError} when the backend cannot be had.
   */
  static async open(
    options: LaneOptions,
    createBackend: (options: BackendOptions) => Promise<Backend>,
  ): Promise<Lanes> {
    const { threads: wanted = 1, createWorker, ...backend } = options;
    if (!(Number.isInteger(wanted) && wanted >= 0 && wanted <= 256)) {
      throw new RangeError(`Cannot use "threads": it is ${wanted}, expected a whole number from 0 to 256`);
    }
    const threads = wanted === 0 ? await logicalProcessors() : wanted;
    const automatic = (backend.backend ?? "auto") === "auto";
    if (threads === 1) {
      let chosen: BackendOptions = backend;
      const openBackend = () => createBackend(chosen);
      const first = await openBackend();
      // A GPU that was not asked for by name may fail.
      const replace = automatic && first.gpu !== null
        ? async (reason: string) => {
          chosen = { backend: "wasm" };
          return markFallback(await openBackend(), reason);
        }
        : null;
      return new Lanes([new InlineLane(first, replace)], openBackend);
    }
    if (backend.device !== undefined || backend.backend === "cuda" || backend.backend === "webgpu") {
      throw new RangeError(`Cannot use "threads": it is ${threads}, expected 1 with a GPU`);
    }
    // Several threads share no GPU.
    const host: BackendOptions = automatic ? { ...backend, backend: "wasm" } : backend;
    const openBackend = () => createBackend(host);
    const { WorkerLane } = await import("./worker_lane.ts");
    const opened = await Promise.allSettled(
      Array.from({ length: threads }, () => WorkerLane.open(host, createWorker)),
    );
    const lanes = opened.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
    for (const result of opened) {
      if (result.status === "fulfilled") continue;
      for (const lane of lanes) lane.close();
      throw result.reason;
    }
    return new Lanes(lanes, openBackend);
  }

  get size(): number {
    return this.#lanes.length;
  }

  /** Whether jobs run in the calling thread: what they are given need not be theirs alone. */
  get inline(): boolean {
    return this.#lanes.every((lane) => lane instanceof InlineLane);
  }

  /** Jobs that may be under way at once, of all lanes, with the setup that is loaded. */
  get jobs(): number {
    return this.#lanes.reduce((sum, { jobs }) => sum + jobs, 0);
  }

  /** Jobs to start before the first is done, where the host's memory holds their results: a few chunks. */
  get ahead(): number {
    return Math.max(this.size, Math.min(this.jobs, 4)) + 1;
  }

  get info(): LaneInfo {
    return this.#lanes[0].info;
  }

  /**
   * The backend of the only lane, whose device memory callers may share.
   *
   * @throws {KvzBackendError} when there are several.
   */
  get device(): Backend {
    const [lane] = this.#lanes;
    if (this.#lanes.length === 1 && lane instanceof InlineLane) return lane.backend;
    throw new KvzBackendError("Cannot use device memory: the codec has several threads, expected one");
  }

  /**
   * Runs what computes on backends of {@linkcode openBackend} before there are jobs. A GPU that fails there is replaced as
   * one that fails in a job is, and it is done again.
   */
  async plan<T>(task: () => T | Promise<T>): Promise<T> {
    const [lane] = this.#lanes;
    return lane instanceof InlineLane ? await lane.attempt(async () => await task()) : await task();
  }

  /** Loads a setup into every lane. */
  async load(setup: Setup): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.load(setup)));
  }

  /** Runs a job on the lane that has the fewest, when one has room. */
  async run(job: Job): Promise<JobResult> {
    let lane = this.#free();
    while (lane < 0) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      lane = this.#free();
    }
    this.#running[lane]++;
    try {
      return await this.#lanes[lane].run(job);
    } finally {
      this.#running[lane]--;
      this.#waiting.shift()?.();
    }
  }

  /** Streams of jobs that were lent come back: in the calling thread, where there is one lane. */
  reuse(streams: readonly TaggedStream[]): void {
    this.#lanes[0].reuse?.(streams);
  }

  close(): void {
    for (const lane of this.#lanes) lane.close();
  }

  /** Index of the lane with the fewest jobs, −1 when all have as many as they take. */
  #free(): number {
    let best = -1;
    for (const [i, { jobs }] of this.#lanes.entries()) {
      if (this.#running[i] < jobs && (best < 0 || this.#running[i] < this.#running[best])) best = i;
    }
    return best;
  }
}
