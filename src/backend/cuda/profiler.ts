/**
 * Times of kernels by events: one before and one after each launch.
 *
 * @module
 */
import type { KernelTime } from "../gpu/kernel_time.ts";
import type { CudaContext } from "./context.ts";

/** A launch that is not counted yet. */
interface Launch {
  readonly kernel: string;
  readonly begin: number;
  readonly end: number;
}

/** The events of one device. */
export class CudaProfiler {
  readonly #context: CudaContext;
  readonly #launches: Launch[] = [];
  readonly #idle: number[] = [];

  constructor(context: CudaContext) {
    this.#context = context;
  }

  /** Enqueues a kernel between two events. */
  around<T>(kernel: string, launch: () => T): T {
    const begin = this.#record();
    const result = launch();
    this.#launches.push({ kernel, begin, end: this.#record() });
    return result;
  }

  /** Waits for the launches since the last call; their times, longest first. */
  async take(): Promise<KernelTime[]> {
    const context = this.#context;
    const launches = this.#launches.splice(0);
    const last = launches.at(-1);
    if (last !== undefined) await context.wait(last.end);
    // Events are gone when the device was closed meanwhile.
    context.enter();
    const times = new Map<string, { calls: number; nanoseconds: number }>();
    const milliseconds = new Float32Array(1);
    for (const { kernel, begin, end } of launches) {
      context.check(context.calls.cuEventElapsedTime(milliseconds, begin, end), "measure time");
      const sum = times.get(kernel) ?? { calls: 0, nanoseconds: 0 };
      times.set(kernel, { calls: sum.calls + 1, nanoseconds: sum.nanoseconds + milliseconds[0] * 1e6 });
      this.#idle.push(begin, end);
    }
    return [...times].map(([kernel, sum]) => ({ kernel, ...sum })).sort((a, b) => b.nanoseconds - a.nanoseconds);
  }

  #record(): number {
    const event = this.#idle.pop() ?? this.#context.createEvent(true);
    this.#context.check(this.#context.calls.cuEventRecord(event, this.#context.stream), "measure time");
    return event;
  }
}
