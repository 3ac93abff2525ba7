/**
 * Batches of streams for the kernels of GPUs, and single calls of those on them.
 *
 * @module
 */
import fc from "fast-check";
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { type GpuEntropy, mostBytes } from "../../src/backend/gpu/entropy.ts";
import { createBackend } from "../../src/backend/select.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import { normalizeTables, type RansBits, type RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { dirty, generator, upload } from "../backend/backends.ts";
import { geometric, GPU_BACKENDS, randomContexts } from "./rans_cases.ts";

/** Streams of one geometry with their contexts, and tables that have every symbol of the alphabet. */
export interface Batch {
  readonly streams: number;
  readonly rows: number;
  readonly tokens: number;
  readonly symbols: Uint8Array;
  readonly contexts: readonly RansContexts[];
  readonly tables: RansTables;
}

/** A random batch of given sizes. */
export function randomBatch(options: {
  streams: number;
  rows: number;
  tokens: number;
  variant: RansContexts["variant"];
  bits: RansBits;
  tables: number;
  alphabet: number;
  decay: number;
  shared: boolean;
  seed: number;
}): Batch {
  const { streams, rows, tokens, variant, bits, alphabet, decay, shared, seed } = options;
  const next = generator(seed);
  const contexts = Array.from(
    { length: shared || streams === 0 ? 1 : streams },
    () => randomContexts(variant, rows, tokens, options.tables, next),
  );
  const weights = Array.from(
    { length: options.tables },
    () => Array.from({ length: alphabet }, (_, s) => 1e-6 + next() * decay ** s),
  );
  const symbols = Uint8Array.from({ length: streams * rows * tokens }, () => geometric(next, alphabet, decay));
  return { streams, rows, tokens, symbols, contexts, tables: normalizeTables(weights, bits) };
}

/** Batches of all shapes. */
export const batches = fc.record({
  streams: fc.oneof(fc.nat(5), fc.constantFrom(33, 70)),
  rows: fc.nat(6),
  tokens: fc.oneof(fc.nat(40), fc.constantFrom(32, 64, 128, 256, 384), fc.integer({ min: 41, max: 300 })),
  variant: fc.constantFrom("plain" as const, "trellis" as const),
  bits: fc.constantFrom<RansBits>(11, 12),
  tables: fc.constantFrom(1, 2, 6, 40, 128),
  alphabet: fc.constantFrom(1, 2, 16, 200),
  decay: fc.constantFrom(0.01, 0.5, 0.9, 0.99),
  shared: fc.boolean(),
  seed: fc.nat(),
}).map((it) => randomBatch({ ...it, tables: it.variant === "trellis" ? Math.max(2, it.tables) : it.tables }));

/** Streams as the reference codes them. */
export function referenceStreams({ streams, rows, tokens, symbols, contexts, tables }: Batch): Uint8Array[] {
  const rans = new ReferenceRans(tables);
  const count = rows * tokens;
  return Array.from({ length: streams }, (_, i) => {
    return rans.encode(symbols.subarray(i * count, (i + 1) * count), rows, tokens, contexts[i] ?? contexts[0]);
  });
}

/** Streams one after the other, each begun at a multiple of `align`, with what is between them filled with 0xa5. */
export function layOut(streams: readonly Uint8Array[], align: 2 | 4): { bytes: Uint8Array; begins: Uint32Array } {
  const begins = [0];
  for (const { length } of streams) begins.push(Math.ceil((begins[begins.length - 1] + length) / align) * align);
  const bytes = new Uint8Array(begins[begins.length - 1]).fill(0xa5);
  streams.forEach((stream, i) => bytes.set(stream, begins[i]));
  return { bytes, begins: Uint32Array.from(begins) };
}

/** The first words of a buffer. */
export async function words(backend: Backend, buffer: DeviceBuffer, count: number): Promise<Uint32Array> {
  return new Uint32Array((await backend.read(buffer, 0, 4 * count)).buffer);
}

/** Encodes a batch: what the kernels leave in their buffers. */
export async function encodeBatch(
  backend: Backend,
  kernels: GpuEntropy,
  batch: Batch,
): Promise<{ bytes: Uint8Array; begins: Uint32Array; lengths: Uint32Array }> {
  const { streams, contexts, tables } = batch;
  const onDevice = kernels.uploadTables(tables);
  const chosen = kernels.uploadContexts(contexts, batch, onDevice.count);
  const symbols = upload(backend, batch.symbols);
  const bytes = dirty(backend, mostBytes(batch));
  const [begins, lengths] = [dirty(backend, 4 * streams + 4), dirty(backend, 4 * streams)];
  kernels.encode(symbols, batch, onDevice, chosen, bytes, begins, lengths);
  const found = {
    bytes: await backend.read(bytes),
    begins: await words(backend, begins, streams + 1),
    lengths: await words(backend, lengths, streams),
  };
  for (const it of [onDevice, chosen, symbols, bytes, begins, lengths]) it.free();
  return found;
}

/** Encodes a batch and decodes what lies there, without the host's doing. */
export async function throughDevice(
  backend: Backend,
  kernels: GpuEntropy,
  batch: Batch,
): Promise<{ symbols: Uint8Array; status: Uint32Array }> {
  const { streams, rows, tokens, contexts, tables } = batch;
  const onDevice = kernels.uploadTables(tables);
  const chosen = kernels.uploadContexts(contexts, batch, onDevice.count);
  const from = upload(backend, batch.symbols);
  const bytes = dirty(backend, mostBytes(batch));
  const [begins, lengths] = [dirty(backend, 4 * streams + 4), dirty(backend, 4 * streams)];
  const [symbols, status] = [dirty(backend, streams * rows * tokens), dirty(backend, 4 * streams)];
  kernels.encode(from, batch, onDevice, chosen, bytes, begins, lengths);
  kernels.decode(bytes, begins, batch, onDevice, chosen, symbols, status, lengths);
  const found = { symbols: await backend.read(symbols), status: await words(backend, status, streams) };
  for (const it of [onDevice, chosen, from, bytes, begins, lengths, symbols, status]) it.free();
  return found;
}

/** Decodes streams of the geometry, contexts and tables of a batch. */
export async function decodeBatch(
  backend: Backend,
  kernels: GpuEntropy,
  batch: Batch,
  bytes: Uint8Array,
  at: Uint32Array,
): Promise<{ symbols: Uint8Array; status: Uint32Array }> {
  const { streams, rows, tokens, contexts, tables } = batch;
  const onDevice = kernels.uploadTables(tables);
  const chosen = kernels.uploadContexts(contexts, batch, onDevice.count);
  const [from, begins] = [upload(backend, bytes), upload(backend, at)];
  const [symbols, status] = [dirty(backend, streams * rows * tokens), dirty(backend, 4 * streams)];
  kernels.decode(from, begins, batch, onDevice, chosen, symbols, status);
  const found = { symbols: await backend.read(symbols), status: await words(backend, status, streams) };
  for (const it of [onDevice, chosen, from, begins, symbols, status]) it.free();
  return found;
}

/** Registers a test for the kernels of every GPU. */
export function testEntropy(
  name: string,
  test: (backend: Backend, kernels: GpuEntropy, label: string) => Promise<void>,
): void {
  for (const [label, options] of GPU_BACKENDS) {
    Deno.test(`rans batches ${label}: ${name}`, async () => {
      using backend = await createBackend(options);
      const kernels = backend.gpu?.entropy ?? null;
      if (kernels === null) throw new Error(`Backend ${label} has no entropy kernels`);
      await test(backend, kernels, label);
    });
  }
}
