/**
 * Streams that are begun at once, by whatever coders of a backend, coded together on its GPU:
 *
 *     streams of a turn of the event loop → calls by geometry (rans_calls.ts) → all enqueued → each stream its result
 *
 * What is begun while calls are under way waits for the next turn after them.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../backend/backend.ts";
import { type GpuEntropy, mostBytes, RANS_STATUS } from "../../backend/gpu/entropy.ts";
import { Batches } from "../batches.ts";
import { type Scratch, withScratch } from "../scratch.ts";
import { planCalls, type StreamCall, type StreamJob } from "./rans_calls.ts";
import { badState, notAtEnd, truncated, uncodable } from "./rans_stream.ts";

/** Length of a stream that cannot be coded. */
const UNCODABLE = 0xffffffff;
/** Bytes of the largest buffer of a call: many times what fills a device. */
const CALL_BYTES = 1 << 28;

/** Codes the streams of one backend. */
export class RansBatches {
  readonly #backend: Backend;
  readonly #kernels: GpuEntropy;
  readonly #encoding: Batches<StreamJob, Uint8Array | Error>;
  readonly #decoding: Batches<StreamJob, Uint8Array | Error>;

  constructor(backend: Backend, kernels: GpuEntropy) {
    this.#backend = backend;
    this.#kernels = kernels;
    const coded = ({ rows, tokens }: StreamJob) => mostBytes({ streams: 1, rows, tokens });
    const restored = ({ data, rows, tokens }: StreamJob) => Math.max(data.byteLength, rows * tokens);
    const any = () => true;
    this.#encoding = new Batches(Infinity, any, (jobs) => this.#run(jobs, coded, (call, to) => this.#encode(call, to)));
    this.#decoding = new Batches(
      Infinity,
      any,
      (jobs) => this.#run(jobs, restored, (call, to) => this.#decode(call, to)),
    );
  }

  /**
   * The stream of symbols.
   *
   * @throws {RangeError} when one has frequency 0 in its table
   */
  async encode(job: StreamJob): Promise<Uint8Array> {
    return valueOf(await this.#encoding.add(job));
  }

  /**
   * The symbols of a stream; none where they stay on the device.
   *
   * @throws {KvzFormatError} when it is damaged
   */
  async decode(job: StreamJob): Promise<Uint8Array> {
    return valueOf(await this.#decoding.add(job));
  }

  /** Enqueues all calls before any is waited for. One that fails on the device fails its own streams. */
  async #run(
    jobs: readonly StreamJob[],
    bytesOf: (job: StreamJob) => number,
    code: (call: StreamCall, scratch: Scratch) => Promise<(Uint8Array | Error)[]>,
  ): Promise<(Uint8Array | Error)[]> {
    const results = new Array<Uint8Array | Error>(jobs.length);
    const calls = planCalls(jobs, bytesOf, Math.min(CALL_BYTES, this.#kernels.mostBytes));
    await Promise.all(calls.map(async (call) => {
      try {
        const done = await withScratch(this.#backend, (scratch) => code(call, scratch));
        call.members.forEach((member, i) => results[member] = done[i]);
      } catch (error) {
        for (const member of call.members) results[member] = error as Error;
      }
    }));
    return results;
  }

  async #encode(call: StreamCall, scratch: Scratch): Promise<(Uint8Array | Error)[]> {
    const { batch } = call;
    const symbols = this.#together(call, scratch);
    const [bytes, begins] = [scratch.alloc(mostBytes(batch)), scratch.alloc(4 * (batch.streams + 1))];
    const lengths = scratch.alloc(4 * batch.streams);
    const uploads = this.#upload(call);
    try {
      this.#kernels.encode(symbols, batch, uploads.tables, uploads.contexts, bytes, begins, lengths);
      const [from, length] = await Promise.all([
        this.#words(begins, batch.streams + 1),
        this.#words(lengths, batch.streams),
      ]);
      const all = await this.#backend.read(bytes, 0, from[batch.streams]);
      return Array.from(length, (n, i) => n === UNCODABLE ? uncodable() : all.slice(from[i], from[i] + n));
    } finally {
      uploads.free();
    }
  }

  async #decode(call: StreamCall, scratch: Scratch): Promise<(Uint8Array | Error)[]> {
    const { batch, jobs } = call;
    const begins = new Uint32Array(jobs.length + 1);
    jobs.forEach(({ data }, i) => begins[i + 1] = begins[i] + data.byteLength);
    const count = batch.rows * batch.tokens;
    const [{ to }] = jobs;
    const symbols = to !== undefined && jobs.length === 1 ? to : scratch.alloc(batch.streams * count);
    const status = scratch.alloc(4 * batch.streams);
    const bytes = scratch.upload(joined(jobs));
    const uploads = this.#upload(call);
    try {
      const { tables, contexts } = uploads;
      this.#kernels.decode(bytes, scratch.upload(begins), batch, tables, contexts, symbols, status);
      if (to !== undefined) {
        jobs.forEach((job, i) => {
          if (symbols !== job.to) this.#backend.copy(symbols, i * count, job.to!, 0, count);
        });
        return Array.from(await this.#words(status, batch.streams), (code) => failureOf(code) ?? new Uint8Array(0));
      }
      const [codes, all] = await Promise.all([
        this.#words(status, batch.streams),
        this.#backend.read(symbols, 0, batch.streams * count),
      ]);
      return Array.from(codes, (code, i) => failureOf(code) ?? all.subarray(i * count, (i + 1) * count));
    } finally {
      uploads.free();
    }
  }

  /** The symbols of all streams of a call. */
  #together({ jobs, batch }: StreamCall, scratch: Scratch): DeviceBuffer {
    if (jobs[0].data instanceof Uint8Array) return scratch.upload(joined(jobs));
    if (jobs.length === 1) return jobs[0].data;
    const count = batch.rows * batch.tokens;
    const symbols = scratch.alloc(batch.streams * count);
    jobs.forEach(({ data }, i) => this.#backend.copy(data as DeviceBuffer, 0, symbols, i * count, count));
    return symbols;
  }

  #upload({ tables, contexts, batch }: StreamCall) {
    const onDevice = this.#kernels.uploadTables(tables);
    try {
      const chosen = this.#kernels.uploadContexts(contexts, batch, onDevice.count);
      return {
        tables: onDevice,
        contexts: chosen,
        free: () => {
          onDevice.free();
          chosen.free();
        },
      };
    } catch (error) {
      onDevice.free();
      throw error;
    }
  }

  async #words(buffer: DeviceBuffer, count: number): Promise<Uint32Array> {
    return new Uint32Array((await this.#backend.read(buffer, 0, 4 * count)).slice().buffer);
  }
}

function valueOf(result: Uint8Array | Error): Uint8Array {
  if (result instanceof Error) throw result;
  return result;
}

/** Data of the host, one behind the other. */
function joined(jobs: readonly StreamJob[]): Uint8Array {
  const list = jobs.map(({ data }) => data as Uint8Array);
  if (list.length === 1) return list[0];
  const all = new Uint8Array(list.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const data of list) {
    all.set(data, at);
    at += data.length;
  }
  return all;
}

/** The error of a status word, as the coders on the host have it. */
function failureOf(status: number): Error | null {
  if (status === RANS_STATUS.badState) return badState();
  if (status === RANS_STATUS.truncated) return truncated();
  return status === RANS_STATUS.notAtEnd ? notAtEnd() : null;
}
