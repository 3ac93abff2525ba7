/**
 * The worker behind a {@linkcode WorkerEngine}: one kind's fitter that answers messages in order.
 *
 * @module
 */
import { workerPort } from "../platform/worker.ts";
import { type EngineCall, type EngineReply, type EngineRequest, openFitter } from "./kind_engine.ts";
import type { KindFitter } from "./kind_fitter.ts";

/** Smallest step of progress that is reported. */
const PROGRESS_STEP = 0.002;

let fitter: KindFitter | null = null;

async function answer(call: EngineCall, report: (fraction: number) => void): Promise<unknown> {
  if (call.type === "open") {
    fitter = await openFitter(call.setup, call.options);
    return;
  }
  if (fitter === null) throw new Error("The engine is not open");
  switch (call.type) {
    case "add":
      return await fitter.add(call.block);
    case "merge":
      return fitter.merge(call.statistics, call.slots);
    case "statistics":
      return fitter.statistics(call.order);
    case "fit":
      return await fitter.fit(call.options, report);
  }
}

/** The large arrays of an answer go over without a copy. */
function buffersOf(value: unknown): ArrayBuffer[] {
  if (ArrayBuffer.isView(value)) return value.buffer instanceof ArrayBuffer ? [value.buffer] : [];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(buffersOf);
}

const port = await workerPort();
let last: Promise<void> = Promise.resolve();
port.onMessage((message) => {
  const { id, call } = message as EngineRequest;
  let reported = 0;
  const report = (fraction: number) => {
    if (fraction < reported + PROGRESS_STEP) return;
    reported = fraction;
    port.post({ id, progress: fraction } satisfies EngineReply);
  };
  last = last.then(async () => {
    try {
      const value = await answer(call, report);
      port.post({ id, value } satisfies EngineReply, buffersOf(value));
    } catch (error) {
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      port.post({ id, error: { name, message } } satisfies EngineReply);
    }
  });
});
