/**
 * A lane: one backend instance that encodes and decodes token ranges, in this thread or in a worker. Lanes share
 * nothing; every lane holds the basis of the recipe in hand in its own memory.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { fallbackOf } from "../backend/fallback.ts";
import type { BackendOptions } from "../backend/select.ts";
import { KvzBackendError, KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import { startWorker, type WorkerHandle, workerUrl } from "../platform/worker.ts";
import { detach } from "./detach.ts";
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
}

/** One worker of the codec. */
export interface Lane {
  readonly info: LaneInfo;
  /** Jobs that may be under way at once. */
  readonly jobs: number;
  /** Loads a recipe's setup; a no-op when it is loaded already. */
  load(setup: Setup): Promise<void>;
  run(job: Job): Promise<JobResult>;
  close(): void;
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
    return { backend: name, build, ...(fallback === undefined ? {} : { fallback }) };
  }

  get jobs(): number {
    return this.#loaded?.codec.jobs ?? 1;
  }

  async load(setup: Setup): Promise<void> {
    await this.#attempt(() => this.#load(setup));
  }

  async run(job: Job): Promise<JobResult> {
    // What is in the memory of a device that failed cannot be had elsewhere.
    const onDevice = "source" in job && job.source !== undefined || "sink" in job && job.sink !== undefined;
    return onDevice ? await this.#run(job) : await this.#attempt(() => this.#run(job));
  }

  async #attempt<T>(task: () => Promise<T>): Promise<T> {
    const begunOn = this.#backend;
    try {
      return await task();
    } catch (error) {
      if (!(error instanceof KvzBackendError)) throw error;
      // Of several jobs that fail with a device, the first replaces it.
      this.#replaced ??= this.#replace && begunOn === this.#backend ? this.#replaceBackend(error.message) : null;
      await this.#replaced;
      if (begunOn === this.#backend) throw error;
      // The other backend may take one job at a time.
      const again = this.#repeated.catch(() => {}).then(task);
      this.#repeated = again;
      return await again;
    }
  }

  async #replaceBackend(reason: string): Promise<void> {
    const replace = this.#replace!;
    this.#replace = null;
    this.close();
    this.#backend = await replace(reason);
    if (this.#setup !== null) await this.#load(this.#setup);
  }

  async #load(setup: Setup): Promise<void> {
    if (this.#loaded?.key === setup.key) return;
    this.#loaded?.codec[Symbol.dispose]();
    this.#loaded = null;
    this.#setup = setup;
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

  close(): void {
    this.#loaded?.codec[Symbol.dispose]();
    this.#loaded = null;
    this.backend[Symbol.dispose]();
  }
}

/** Messages to a lane's worker; every one is answered by a {@linkcode LaneReply} with its id. */
export type LaneRequest =
  & { readonly id: number }
  & (
    | { readonly type: "open"; readonly options: BackendOptions }
    | { readonly type: "load"; readonly setup: Setup }
    | { readonly type: "run"; readonly job: Job }
  );

/** The answer of a lane's worker. */
export type LaneReply =
  & { readonly id: number }
  & (
    | { readonly ok: true; readonly value: unknown }
    | { readonly ok: false; readonly name: string; readonly message: string }
  );

const ERRORS: Record<string, new (message: string) => Error> = {
  KvzBackendError,
  KvzFormatError,
  KvzLimitError,
  KvzMismatchError,
  KvzUnsupportedError,
  RangeError,
  TypeError,
};

/** A lane in a worker of its own. */
export class WorkerLane implements Lane {
  readonly info: LaneInfo;
  readonly jobs = 1;
  readonly #calls: WorkerCalls;
  #key = "";

  private constructor(calls: WorkerCalls, info: LaneInfo) {
    this.#calls = calls;
    this.info = info;
  }

  /** @param createWorker makes the worker where the library cannot, for instance under a bundler. */
  static async open(options: BackendOptions, createWorker?: () => WorkerHandle): Promise<WorkerLane> {
    const worker = createWorker?.() ?? await startWorker(workerUrl(import.meta.url, "lane_worker"));
    const calls = new WorkerCalls(worker);
    try {
      return new WorkerLane(calls, await calls.call({ type: "open", options }) as LaneInfo);
    } catch (error) {
      calls.close();
      throw error;
    }
  }

  async load(setup: Setup): Promise<void> {
    if (this.#key === setup.key) return;
    this.#key = "";
    const transfer: ArrayBuffer[] = [];
    await this.#calls.call({ type: "load", setup: detach(setup, transfer) }, transfer);
    this.#key = setup.key;
  }

  async run(job: Job): Promise<JobResult> {
    const transfer: ArrayBuffer[] = [];
    if (job.op !== "encode") {
      return await this.#calls.call({ type: "run", job: detach(job, transfer) }, transfer) as JobResult;
    }
    // A chunk's source bytes are ours alone (CacheSource.read) and go as they are; all else is copied.
    const { data, ...rest } = job;
    const own = data.map((bytes) => bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes));
    transfer.push(...own.map(({ buffer }) => buffer as ArrayBuffer));
    const message = { ...detach(rest, transfer), data: own };
    return await this.#calls.call({ type: "run", job: message }, transfer) as JobResult;
  }

  close(): void {
    this.#calls.close();
  }
}

type Call = LaneRequest extends infer R ? R extends { id: number } ? Omit<R, "id"> : never : never;

/** Requests under way at a worker. */
class WorkerCalls {
  readonly #worker: WorkerHandle;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #next = 0;
  #failed: Error | null = null;

  constructor(worker: WorkerHandle) {
    this.#worker = worker;
    worker.onMessage((message) => {
      const reply = message as LaneReply;
      const call = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.ok) call?.resolve(reply.value);
      else call?.reject(new (ERRORS[reply.name] ?? Error)(reply.message));
    });
    worker.onError((error) => this.#fail(new KvzBackendError(error.message, { cause: error })));
  }

  call(request: Call, transfer: ArrayBuffer[] = []): Promise<unknown> {
    if (this.#failed) return Promise.reject(this.#failed);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.post({ ...request, id }, transfer);
    });
  }

  close(): void {
    this.#worker.terminate();
    this.#fail(new KvzBackendError("The codec was closed"));
  }

  #fail(error: Error): void {
    this.#failed ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
