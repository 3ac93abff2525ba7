/**
 * The worker behind a WorkerLane: an inline lane that answers messages.
 *
 * @module
 */
import { createBackend } from "../backend/select.ts";
import { workerPort } from "../platform/worker.ts";
import { InlineLane, type JobResult } from "./lane.ts";
import type { LaneReply, LaneRequest } from "./worker_lane.ts";

let lane: InlineLane | null = null;

async function answer(request: LaneRequest): Promise<unknown> {
  if (request.type === "open") {
    lane = new InlineLane(await createBackend(request.options));
    return lane.info;
  }
  if (lane === null) throw new Error("The lane is not open");
  return request.type === "load" ? await lane.load(request.setup) : await lane.run(request.job);
}

function transferable(value: unknown): ArrayBuffer[] {
  const items = Array.isArray(value) ? value as JobResult : [];
  const arrays = items.map((item) => item instanceof Uint8Array ? item : item.bytes);
  const buffers = new Set<ArrayBuffer>();
  for (const array of arrays) if (array.buffer instanceof ArrayBuffer) buffers.add(array.buffer);
  return [...buffers];
}

const port = await workerPort();
port.onMessage(async (message) => {
  const request = message as LaneRequest;
  let reply: LaneReply;
  let transfer: ArrayBuffer[] = [];
  try {
    const value = await answer(request);
    transfer = transferable(value);
    reply = { id: request.id, ok: true, value };
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    reply = { id: request.id, ok: false, name, message };
  }
  port.post(reply, transfer);
});
