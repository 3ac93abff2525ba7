/**
 * Copies between the host and the device through rings of pinned memory, which the device reads and writes by itself
 * while the host goes on.
 *
 * @module
 */
import type { CudaContext } from "./context.ts";

/** Sections of a ring. */
const SECTIONS = 4;
/** Bytes of a section. */
const SECTION_BYTES = 2 << 20;

/** A ring of pinned memory with an event a section. */
class Ring {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly events: readonly number[];

  constructor(context: CudaContext) {
    this.address = context.allocHost(SECTIONS * SECTION_BYTES);
    this.bytes = new Uint8Array(context.view(this.address, SECTIONS * SECTION_BYTES));
    this.events = Array.from({ length: SECTIONS }, () => context.createEvent());
  }
}

/** Copies to the device. */
export class Uploads {
  readonly #context: CudaContext;
  #ring: Ring | null = null;
  /** Whether the device may still read a section. */
  readonly #busy: boolean[] = new Array(SECTIONS).fill(false);
  #section = 0;
  /** Where the next bytes go in the section. */
  #at = 0;

  constructor(context: CudaContext) {
    this.#context = context;
  }

  /** Enqueues the copy; the bytes may be changed when it returns. */
  write(to: number, from: Uint8Array): void {
    const ring = this.#ring ??= new Ring(this.#context);
    for (let done = 0; done < from.length;) {
      if (this.#at >= SECTION_BYTES) this.#next(ring);
      const begin = this.#section * SECTION_BYTES + this.#at;
      const length = Math.min(from.length - done, SECTION_BYTES - this.#at);
      ring.bytes.set(from.subarray(done, done + length), begin);
      const { calls, stream } = this.#context;
      this.#context.check(calls.cuMemcpyHtoDAsync_v2(to + done, ring.address + begin, length, stream), "write");
      done += length;
      // Each copy begins at a multiple of 256, as the device likes it.
      this.#at += (length + 255) & ~255;
    }
  }

  /** Goes on to the next section, when the device has read it. */
  #next(ring: Ring): void {
    const { calls, stream } = this.#context;
    this.#context.check(calls.cuEventRecord(ring.events[this.#section], stream), "write");
    this.#busy[this.#section] = true;
    this.#section = (this.#section + 1) % SECTIONS;
    this.#at = 0;
    if (this.#busy[this.#section]) {
      this.#context.check(calls.cuEventSynchronize(ring.events[this.#section]), "write");
      this.#busy[this.#section] = false;
    }
  }
}

/** A read that is not done. */
interface Job {
  readonly from: number;
  readonly into: Uint8Array<ArrayBuffer>;
  /** Bytes whose copies are enqueued. */
  enqueued: number;
  /** Why the rest cannot be: whoever asked for it is told. */
  failure?: unknown;
}

/** A copy under way. */
interface Piece {
  readonly job: Job;
  readonly begin: number;
  readonly length: number;
  readonly section: number;
}

/**
 * Copies from the device. A read sees the memory as it was when it was asked for: what would change it waits until all its
 * copies are enqueued ({@linkcode Downloads.enqueueAll}), which matters for reads longer than the ring only.
 */
export class Downloads {
  readonly #context: CudaContext;
  #ring: Ring | null = null;
  /** Reads whose copies are not all enqueued, first come first. */
  readonly #jobs: Job[] = [];
  /** Copies under way, in the order of the stream. */
  readonly #pieces: Piece[] = [];
  #next = 0;

  constructor(context: CudaContext) {
    this.#context = context;
  }

  /** Copies to the host; resolves when the bytes are there. */
  async read(from: number, byteLength: number): Promise<Uint8Array<ArrayBuffer>> {
    const job: Job = { from, into: new Uint8Array(byteLength), enqueued: 0 };
    if (byteLength === 0) {
      await this.#context.synchronize();
      return job.into;
    }
    this.#jobs.push(job);
    this.#fill();
    while (this.#jobs.includes(job) || this.#pieces.some((piece) => piece.job === job)) {
      this.#context.enter();
      const [piece] = this.#pieces;
      await this.#context.wait(this.#events[piece.section]);
      // The ring is gone when the device was closed meanwhile.
      this.#context.enter();
      // Another read may have taken it meanwhile.
      if (this.#pieces[0] === piece) this.#take();
    }
    if (job.failure !== undefined) throw job.failure;
    return job.into;
  }

  /** Enqueues what is left of all reads, waiting in place for room in the ring. */
  enqueueAll(): void {
    while (this.#jobs.length > 0) {
      const { calls } = this.#context;
      this.#context.check(calls.cuEventSynchronize(this.#events[this.#pieces[0].section]), "read");
      this.#take();
    }
  }

  get #events(): readonly number[] {
    return (this.#ring ??= new Ring(this.#context)).events;
  }

  /** Enqueues copies as long as there is room: afterwards the ring is full, or no read is left. */
  #fill(): void {
    while (this.#jobs.length > 0 && this.#pieces.length < SECTIONS) {
      const [job] = this.#jobs;
      try {
        this.#enqueue(job);
      } catch (failure) {
        // Of the memory that it reads (the caller's may be gone), not of the read or write that made room.
        job.failure = failure;
        this.#jobs.shift();
        continue;
      }
      if (job.enqueued === job.into.length) this.#jobs.shift();
    }
  }

  /** Enqueues a section's copy of a read. */
  #enqueue(job: Job): void {
    const ring = this.#ring ??= new Ring(this.#context);
    const { calls, stream } = this.#context;
    const section = this.#next;
    const length = Math.min(job.into.length - job.enqueued, SECTION_BYTES);
    const address = ring.address + section * SECTION_BYTES;
    this.#context.check(calls.cuMemcpyDtoHAsync_v2(address, job.from + job.enqueued, length, stream), "read");
    this.#context.check(calls.cuEventRecord(ring.events[section], stream), "read");
    this.#pieces.push({ job, begin: job.enqueued, length, section });
    this.#next = (section + 1) % SECTIONS;
    job.enqueued += length;
  }

  /** Takes the first piece, which is there, out of the ring. */
  #take(): void {
    const ring = this.#ring;
    const piece = this.#pieces.shift();
    if (ring === null || piece === undefined) return;
    const at = piece.section * SECTION_BYTES;
    piece.job.into.set(ring.bytes.subarray(at, at + piece.length), piece.begin);
    this.#fill();
  }
}
