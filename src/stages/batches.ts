/**
 * Jobs that come one by one and are done together: a GPU is filled by many chunks, each of which a caller waits for.
 *
 * @module
 */

interface Waiting<Job, Result> {
  readonly job: Job;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** Runs one batch at a time: of what has come meanwhile, the first job and those like it, in their order. */
export class Batches<Job, Result> {
  readonly #most: number;
  readonly #alike: (a: Job, b: Job) => boolean;
  readonly #run: (jobs: readonly Job[]) => Promise<readonly Result[]>;
  readonly #waiting: Waiting<Job, Result>[] = [];
  #running = false;

  /**
   * @param most most jobs of a batch
   * @param alike whether two jobs can be in one
   * @param run gives a result each; where it fails, all fail
   */
  constructor(
    most: number,
    alike: (a: Job, b: Job) => boolean,
    run: (jobs: readonly Job[]) => Promise<readonly Result[]>,
  ) {
    this.#most = most;
    this.#alike = alike;
    this.#run = run;
  }

  /** Result of a job, when its batch is done. */
  add(job: Job): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject });
      if (!this.#running) {
        this.#running = true;
        void this.#runAll();
      }
    });
  }

  async #runAll(): Promise<void> {
    // A turn of the event loop: what is ready to come, comes.
    await new Promise((resolve) => setTimeout(resolve, 0));
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      try {
        const results = await this.#run(batch.map(({ job }) => job));
        batch.forEach(({ resolve }, i) => resolve(results[i]));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    this.#running = false;
  }

  #take(): Waiting<Job, Result>[] {
    const [first] = this.#waiting;
    const batch = this.#waiting.filter(({ job }) => this.#alike(first.job, job)).slice(0, this.#most);
    for (const one of batch) this.#waiting.splice(this.#waiting.indexOf(one), 1);
    return batch;
  }
}
