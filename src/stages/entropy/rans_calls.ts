/**
 * Streams to be coded on a GPU → calls of its kernels. A call codes streams of one geometry with one list of tables, so the
 * tables of its streams are put one behind the other, and what chooses among them is moved along.
 *
 * @module
 */
import type { DeviceBuffer } from "../../backend/backend.ts";
import type { StreamBatch } from "../../backend/gpu/entropy.ts";
import { type RansContexts, ROW_CLASSES } from "./rans_contexts.ts";
import { RANS_SYMBOLS, type RansBits, type RansTables, tableCount } from "./rans_tables.ts";

/** A stream to be coded: checked, with at least one symbol. */
export interface StreamJob {
  /** Symbols [rows][tokens], which may be on the device, or a coded stream. */
  readonly data: Uint8Array | DeviceBuffer;
  readonly rows: number;
  readonly tokens: number;
  readonly contexts: RansContexts;
  /** Streams of one coder have one object, which goes into a call once. */
  readonly tables: RansTables;
  /** Where decoded symbols go, if they stay on the device. */
  readonly to?: DeviceBuffer;
}

/** Whether a job's symbols are on the device. */
export function isOnDevice({ data, to }: StreamJob): boolean {
  return to !== undefined || !(data instanceof Uint8Array);
}

/** Tables of a call with contexts plain: 16 MiB by slot at 2^12. */
export const MOST_PLAIN_TABLES = 1024;
/** Tables of a call with a trellis, whose classes stand for two each. */
export const MOST_TRELLIS_TABLES = 2 * ROW_CLASSES;

/** Streams of equal geometry. */
export class StreamCall {
  /** Places in the list of jobs. */
  readonly members: number[] = [];
  readonly jobs: StreamJob[] = [];
  /** What chooses among {@linkcode tables}, by stream. */
  readonly contexts: RansContexts[] = [];
  readonly #tables = new Map<RansTables, number>();
  #count = 0;
  #bytes = 0;

  get batch(): StreamBatch {
    const [{ rows, tokens }] = this.jobs;
    return { streams: this.jobs.length, rows, tokens };
  }

  /** The tables of all streams. */
  get tables(): RansTables {
    const frequencies = new Uint16Array(this.#count * RANS_SYMBOLS);
    for (const [tables, first] of this.#tables) {
      frequencies.set(
        tables.frequencies.subarray(0, usedTables(tables, this.jobs[0]) * RANS_SYMBOLS),
        first * RANS_SYMBOLS,
      );
    }
    return { bits: this.jobs[0].tables.bits as RansBits, frequencies };
  }

  /** Whether another stream of this geometry and of `bytes` bytes has room. The first always has. */
  takes(job: StreamJob, bytes: number, mostBytes: number): boolean {
    if (this.jobs.length === 0) return true;
    // Copies on a device are of whole words.
    if (isOnDevice(job) && job.rows * job.tokens % 4 !== 0) return false;
    const most = job.contexts.variant === "plain" ? MOST_PLAIN_TABLES : MOST_TRELLIS_TABLES;
    const more = this.#tables.has(job.tables) ? 0 : usedTables(job.tables, job);
    return this.#count + more <= most && this.#bytes + bytes <= mostBytes;
  }

  add(member: number, job: StreamJob, bytes: number): void {
    let first = this.#tables.get(job.tables);
    if (first === undefined) {
      first = this.#count;
      this.#tables.set(job.tables, first);
      this.#count += usedTables(job.tables, job);
    }
    this.members.push(member);
    this.jobs.push(job);
    this.contexts.push(moved(job.contexts, first));
    this.#bytes += bytes;
  }
}

/**
 * Calls that code all jobs, in their order where they are alike.
 *
 * @param bytesOf bytes that a stream adds to the largest buffer of its call
 * @param mostBytes of that buffer; a stream that is larger has a call to itself
 */
export function planCalls(
  jobs: readonly StreamJob[],
  bytesOf: (job: StreamJob) => number,
  mostBytes: number,
): StreamCall[] {
  const calls: StreamCall[] = [];
  const open = new Map<string, StreamCall>();
  for (const [i, job] of jobs.entries()) {
    const { rows, tokens, contexts, tables } = job;
    const next = contexts.variant === "plain" ? "" : contexts.next.join();
    const geometry = [rows, tokens, tables.bits, contexts.variant, next, isOnDevice(job)].join();
    const bytes = bytesOf(job);
    let call = open.get(geometry);
    if (call === undefined || !call.takes(job, bytes, mostBytes)) {
      call = new StreamCall();
      open.set(geometry, call);
      calls.push(call);
    }
    call.add(i, job, bytes);
  }
  return calls;
}

/** Tables that contexts can choose: those of a trellis stand in pairs. */
function usedTables(tables: RansTables, { contexts: { variant } }: StreamJob): number {
  const count = tableCount(tables);
  return variant === "plain" ? count : count - count % 2;
}

/** Contexts for tables that begin at the one numbered `first`. */
function moved(contexts: RansContexts, first: number): RansContexts {
  if (first === 0) return contexts;
  if (contexts.variant === "plain") return { ...contexts, tableOf: contexts.tableOf.map((table) => table + first) };
  return { ...contexts, classes: contexts.classes.map((rowClass) => rowClass + first / 2) };
}
