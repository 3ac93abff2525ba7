/**
 * A lane: one backend instance that encodes and decodes token ranges, in this thread or in a worker. Lanes share
 * nothing; every lane holds the basis of the recipe in hand in its own memory.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { fallbackOf, isOfBackend } from "../backend/fallback.ts";
import { forgetHostWork, hostWorkOf } from "../backend/host_work.ts";
import { KvzBackendError } from "../errors.ts";
import type { ChunkCodec, Job, Setup, TaggedStream } from "../recipes/recipe.ts";
import { findRecipe } from "../recipes/registry.ts";

/** Result of a job: bytes of each kind for decode, streams otherwise. */
export type JobResult = Uint8Array[] | TaggedStream[];

/** Facts about the backend behind a lane. */
export interface LaneInfo {
  readonly backend: string;
  readonly build: string;
  /** Why this backend stands in for a GPU that is there but failed. */
  readonly fallback?: string;
  /** Steps of the recipe in hand that WebAssembly computes beside it: a GPU without their kernels, or with other bits. */
  readonly host?: readonly string[];
}

/** One worker of the codec. */
export interface Lane {
  readonly info: LaneInfo;
  /** Jobs that may be under way at once. */
  readonly jobs: number;
  /** Loads a recipe's setup; a no-op when it is loaded already. */
  load(setup: Setup): Promise<void>;
  run(job: Job): Promise<JobResult>;
  /** Streams of a job that were lent come back. */
  reuse?(streams: readonly TaggedStream[]): void;
  close(): void;
}

/** Whether a lane that has loaded `key` needs nothing to run a setup. */
export function serves(key: string, setup: Setup): boolean {
  return key === setup.key || key === setup.within;
}

/** A lane in the calling thread. */
export class InlineLane implements Lane {
  #backend: Backend;
  #loaded: { key: string; codec: ChunkCodec } | null = null;
  #setup: Setup | null = null;
  #replace: ((reason: string) => Promise<Backend>) | null;
  #replaced: Promise<void> | null = null;
  #repeated: Promise<unknown> = Promise.resolve();

  /**
   * @param backend becomes the lane's own.
   * @param replace opens another backend, once, when this one fails: what failed is done again there. Null: it fails.
   */
  constructor(backend: Backend, replace: ((reason: string) => Promise<Backend>) | null = null) {
    this.#backend = backend;
    this.#replace = replace;
  }

  get backend(): Backend {
    return this.#backend;
  }

  get info(): LaneInfo {
    const { name, build } = this.#backend;
    const fallback = fallbackOf(this.#backend);
    const host = hostWorkOf(this.#backend);
    return {
      backend: name,
      build,
      ...(fallback === undefined ? {} : { fallback }),
      ...(host === undefined ? {} : { host }),
    };
  }

  get jobs(): number {
    return this.#loaded?.codec.jobs ?? 1;
  }

  async load(setup: Setup): Promise<void> {
    await this.attempt(() => this.#load(setup));
  }

  async run(job: Job): Promise<JobResult> {
    // What is in the memory of a device that failed cannot be had elsewhere.
    const onDevice = "source" in job && job.source !== undefined || "sink" in job && job.sink !== undefined;
    return onDevice ? await this.#run(job) : await this.attempt(() => this.#run(job));
  }

  /** Does a task; when the backend fails and may be replaced, once more after that. */
  async attempt<T>(task: () => Promise<T>): Promise<T> {
    const begunOn = this.#backend;
    const alreadyReplaced = this.#replaced !== null;
    try {
      const result = await task();
      // What a device gave while it failed another job is not trusted.
      if (alreadyReplaced || this.#replaced === null) return result;
      await this.#replaced;
    } catch (error) {
      if (!isOfBackend(error)) throw error;
      // Of several jobs that fail with a device, the first replaces it.
      this.#replaced ??= this.#replace && begunOn === this.#backend ? this.#replaceBackend(error.message) : null;
      await this.#replaced;
      if (begunOn === this.#backend) throw error;
    }
    // The other backend may take one job at a time.
    const again = this.#repeated.catch(() => {}).then(task);
    this.#repeated = again;
    return await again;
  }

  async #replaceBackend(reason: string): Promise<void> {
    const replace = this.#replace!;
    this.#replace = null;
    try {
      this.close();
    } catch (error) {
      // A backend that failed may fail in giving back what it holds as well: the work goes on all the same.
      reason += `; what it held could not be given back (${(error as Error).message})`;
    }
    this.#backend = await replace(reason);
    if (this.#setup !== null) await this.#load(this.#setup);
  }

  async #load(setup: Setup): Promise<void> {
    if (this.#loaded !== null && serves(this.#loaded.key, setup)) return;
    this.#loaded?.codec[Symbol.dispose]();
    this.#loaded = null;
    this.#setup = setup;
    forgetHostWork(this.backend);
    this.#loaded = { key: setup.key, codec: await (await findRecipe(setup.recipe)).open(this.backend, setup) };
  }

  async #run(job: Job): Promise<JobResult> {
    const codec = this.#loaded?.codec;
    if (codec === undefined) throw new KvzBackendError("Cannot run a job: no recipe is loaded");
    if (job.op === "inflate") return await codec.inflate(job);
    if (job.op === "encode") {
      if (job.source === undefined) return await codec.encode(job);
      return await (await import("./device_jobs.ts")).encodeJob(this.backend, codec, job, job.source);
    }
    if (job.sink === undefined) return await codec.decode(job);
    return await (await import("./device_jobs.ts")).decodeJob(this.backend, codec, job, job.sink);
  }

  reuse(streams: readonly TaggedStream[]): void {
    this.#loaded?.codec.reuse?.(streams);
  }

  close(): void {
    const loaded = this.#loaded;
    this.#loaded = null;
    try {
      loaded?.codec[Symbol.dispose]();
    } finally {
      this.backend[Symbol.dispose]();
    }
  }
}
