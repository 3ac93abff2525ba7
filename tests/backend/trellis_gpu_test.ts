/** The trellis kernels of the GPU backends against the reference: equal integers, equal errors. */
import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import type { Backend } from "../../src/backend/backend.ts";
import { type GpuTrellis, levelStride, TRELLIS_STATUS } from "../../src/backend/gpu/trellis.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { escapeValues } from "../../src/stages/entropy/escape_values.ts";
import { escapeLevels, unescapeLevels } from "../../src/stages/entropy/escapes.ts";
import { componentMajor, requireDecoded, uploadSide } from "../../src/stages/quantize/trellis/gpu_side.ts";
import { trellisContexts, type TrellisModel } from "../../src/stages/quantize/trellis/model.ts";
import {
  decodeTrellisReference,
  encodeTrellisReference,
  type TrellisCode,
} from "../../src/stages/quantize/trellis/reference.ts";
import { withScratch } from "../../src/stages/scratch.ts";
import { coefficients, COSTS, fallingModel, uniform } from "../stages/trellis/cases.ts";
import { codeDifference, encodeBatch } from "./trellis_encoding.ts";
import { testTrellis } from "./trellis_gpus.ts";
import { casesFor } from "../cases.ts";

interface Chunk {
  readonly model: TrellisModel;
  readonly code: TrellisCode;
  readonly symbols: Uint8Array;
  readonly escapes: Uint8Array;
}

function symbolsOf(model: TrellisModel, code: TrellisCode) {
  return escapeLevels(code.levels, model.components, code.refs.length, trellisContexts(model, code), COSTS.limits);
}

function chunkOf(model: TrellisModel, tokens: number, seed: number, sigma: number): Chunk {
  const y = clamped(coefficients(model.components, tokens, seed, { sigma }));
  const code = encodeTrellisReference(model, y, tokens, 0.3);
  return { model, code, ...symbolsOf(model, code) };
}

function clamped(y: Int32Array): Int32Array {
  return y.map((value) => Math.max(-1e5, Math.min(1e5, value)));
}

/** Decodes a batch of equal geometry; the status of each chunk and its quarters [components][tokens]. */
async function decodeBatch(backend: Backend, trellis: GpuTrellis, chunks: readonly Chunk[], tokens: number) {
  return await withScratch(backend, async (scratch) => {
    const { components } = chunks[0].model;
    const stride = levelStride(components);
    const batch = { chunks: chunks.length, components, tokens };
    const models = trellis.uploadModels(chunks.map(({ model }) => model));
    const side = uploadSide(scratch, batch, chunks.map(({ code }) => code), chunks.map((_, i) => i));
    const symbols = new Uint8Array(chunks.length * components * tokens);
    const values: number[] = [];
    const begins = [0];
    for (const [i, chunk] of chunks.entries()) {
      symbols.set(chunk.symbols, i * components * tokens);
      values.push(...escapeValues(chunk.escapes));
      begins.push(values.length);
    }
    const escapes = {
      values: scratch.upload(Uint32Array.from([...values, 0])),
      begins: scratch.upload(Uint32Array.from(begins)),
    };
    const quarters = scratch.upload(new Uint8Array(chunks.length * tokens * stride * 2).fill(0x55));
    const status = scratch.alloc(chunks.length * 8);
    trellis.decode(models, batch, side, scratch.upload(symbols), escapes, quarters, status);
    const words = new Uint32Array((await backend.read(status, 0, chunks.length * 8)).buffer);
    const rows = new Int16Array((await backend.read(quarters)).buffer);
    models.free();
    return chunks.map((_, i) => {
      const own = rows.slice(i * tokens * stride, (i + 1) * tokens * stride);
      for (let t = 0; t < tokens; t++) {
        assert(own.subarray(t * stride + components, (t + 1) * stride).every((v) => v === 0));
      }
      return { status: words[2 * i], largest: words[2 * i + 1], quarters: componentMajor(own, components, tokens) };
    });
  });
}

/** What a chunk's symbols give, or the message of the error. */
function decodeReference({ model, code, symbols, escapes }: Chunk, tokens: number): Int16Array | string {
  try {
    const contexts = trellisContexts(model, code);
    const levels = unescapeLevels(symbols, escapes, model.components, tokens, contexts, COSTS.limits);
    return decodeTrellisReference(model, levels, code, tokens);
  } catch (error) {
    if (!(error instanceof KvzFormatError)) throw error;
    return error.message;
  }
}

function decoded({ status, quarters }: { status: number; quarters: Int16Array }): Int16Array | string {
  try {
    requireDecoded(status);
    return quarters;
  } catch (error) {
    return (error as Error).message;
  }
}

const GEOMETRIES = [[1, 1], [1, 70], [33, 1], [40, 33], [90, 128], [63, 161], [130, 40]] as const;

testTrellis("decoding gives the reference's quarters, in batches of several models", async (backend, trellis) => {
  for (const [i, [components, tokens]] of GEOMETRIES.entries()) {
    const chunks = [0.4, 30, 900].slice(0, 1 + i % 3).map((sigma, j) =>
      chunkOf(fallingModel(components, { sigma, s: 300 + 17 * j, rho: 10 + 9 * j }), tokens, 10 * i + j, sigma)
    );
    const found = await decodeBatch(backend, trellis, chunks, tokens);
    for (const [j, { status, largest, quarters }] of found.entries()) {
      const { reconstruction } = chunks[j].code;
      assertEquals(status, TRELLIS_STATUS.ok);
      assertEquals(quarters, reconstruction, `${components} × ${tokens}, chunk ${j}`);
      assertEquals(largest, reconstruction.reduce((most, v) => Math.max(most, Math.abs(v)), 0));
    }
  }
});

const decodings = fc.record({
  components: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 97)),
  tokens: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 65, 130)),
  sigma: fc.constantFrom(0.3, 4, 60, 900),
  damage: fc.array(fc.tuple(fc.boolean(), fc.nat(), fc.nat(255)), { maxLength: 2 }),
  seed: fc.nat(1e6),
});

testTrellis("decoding of any shape, whole or damaged, is the reference's", async (backend, trellis) => {
  await fc.assert(
    fc.asyncProperty(decodings, async ({ components, tokens, sigma, damage, seed }) => {
      const whole = chunkOf(fallingModel(components, { sigma }), tokens, seed, sigma);
      const [symbols, escapes] = [whole.symbols.slice(), whole.escapes.slice()];
      for (const [ofEscapes, at, byte] of damage) {
        if (!ofEscapes) symbols[at % symbols.length] = byte;
        else if (escapes.length > 0) escapes[at % escapes.length] = byte;
      }
      const chunks = [whole, { ...whole, symbols, escapes }];
      for (const [i, found] of (await decodeBatch(backend, trellis, chunks, tokens)).entries()) {
        assertEquals(decoded(found), decodeReference(chunks[i], tokens), `chunk ${i}`);
      }
    }),
    { numRuns: casesFor(12) },
  );
});

testTrellis("damaged symbols, escapes and levels give the reference's errors", async (backend, trellis) => {
  const [components, tokens] = [40, 70];
  const model = fallingModel(components, { sigma: 200 });
  const whole = chunkOf(model, tokens, 4, 200);
  assert(whole.escapes.length > 50);
  const next = uniform(8);
  const pick = (below: number) => Math.floor(next() * below);
  const chunks: Chunk[] = [
    whole,
    { ...whole, escapes: whole.escapes.slice(0, -1) },
    { ...whole, escapes: Uint8Array.from([...whole.escapes, 3]) },
    { ...whole, escapes: Uint8Array.from([...whole.escapes, 0x83]) },
    { ...whole, escapes: new Uint8Array(0) },
    { ...whole, symbols: whole.symbols.map(() => 255), escapes: new Uint8Array(components * tokens).fill(1) },
    { ...whole, symbols: whole.symbols.map(() => 0), escapes: new Uint8Array(0) },
  ];
  for (let i = 0; i < 24; i++) {
    const symbols = whole.symbols.slice();
    const escapes = whole.escapes.slice();
    if (i % 2 === 0) symbols[pick(symbols.length)] = pick(256);
    else escapes[pick(escapes.length)] = [0, 0x80, 0xff, pick(256)][pick(4)];
    chunks.push({ ...whole, symbols, escapes });
  }
  // A chain of references along which large levels add up.
  const refs = Int16Array.from({ length: tokens }, (_, t) => t - 1);
  const chain = {
    ...whole.code,
    refs,
    modes: new Uint8Array(tokens).fill(4),
    levels: new Int32Array(components * tokens).fill(300),
  };
  const steep = fallingModel(components, { sigma: 200, rho: 48 });
  chunks.push({ model: steep, code: chain, ...symbolsOf(steep, chain) });
  const narrow = chunkOf(fallingModel(components, { sigma: 2 }), tokens, 5, 2);
  chunks.push({ ...narrow, symbols: narrow.symbols.with(900, 253) });
  const huge = { ...whole.code, levels: whole.code.levels.with(5, 2 ** 24).with(700, -(2 ** 24)) };
  chunks.push({ model, code: huge, ...symbolsOf(model, huge) });
  const found = await decodeBatch(backend, trellis, chunks, tokens);
  const messages = new Set<string>();
  for (const [i, chunk] of chunks.entries()) {
    const wanted = decodeReference(chunk, tokens);
    assertEquals(decoded(found[i]), wanted, `chunk ${i}`);
    if (typeof wanted === "string") messages.add(wanted);
  }
  assertEquals(messages.size, 4);
});

testTrellis("whatever the buffers hold, nothing outside them is touched", async (backend, trellis) => {
  const [chunks, components, tokens] = [4, 40, 70];
  const whole = chunkOf(fallingModel(components, { sigma: 200 }), tokens, 4, 200);
  const next = uniform(11);
  const noise = (length: number) => Uint32Array.from({ length }, () => next() * 2 ** 32);
  const models = trellis.uploadModels([whole.model, whole.model]);
  const batch = { chunks, components, tokens };
  for (let round = 0; round < 20; round++) {
    await withScratch(backend, async (scratch) => {
      const noisy = (what: number, length: number) =>
        round % 4 === what || round % 5 === 4 ? noise(length) : new Uint32Array(length);
      const side = {
        models: scratch.upload(noisy(0, chunks)),
        words: scratch.upload(noisy(1, chunks * tokens)),
        offsets: scratch.upload(noise(chunks * components / 4)),
      };
      const begins = round % 4 === 3 ? Uint32Array.of(29, 3, 30, 0, 12) : noisy(2, chunks + 1);
      const escapes = { values: scratch.upload(noise(30)), begins: scratch.upload(begins) };
      // Many escapes.
      const symbols = Uint8Array.from(
        { length: chunks * components * tokens },
        () => next() < 0.3 ? 254 : 256 * next(),
      );
      const quarters = scratch.alloc(chunks * tokens * levelStride(components) * 2);
      const status = scratch.alloc(chunks * 8);
      trellis.decode(models, batch, side, scratch.upload(symbols), escapes, quarters, status);
      const [classes, kinds] = [scratch.alloc(chunks * components * 16), scratch.alloc(chunks * tokens)];
      trellis.contexts(models, batch, side, classes, kinds);
      const found = await Promise.all([backend.read(classes), backend.read(kinds)]);
      assert(found[0].every((it) => it < 64) && found[1].every((it) => it < 16));
      await backend.read(status);
    });
  }
  models.free();
  const [{ quarters }] = await decodeBatch(backend, trellis, [whole], tokens);
  assertEquals(quarters, whole.code.reconstruction);
});

testTrellis("modes and energies that there are not stand for kinds that there are", async (backend, trellis) => {
  const [components, tokens] = [40, 70];
  const { model } = chunkOf(fallingModel(components, { sigma: 200 }), tokens, 4, 200);
  const next = uniform(12);
  const kinds = Uint8Array.from({ length: tokens }, () => 15 * next());
  const modes = kinds.map(() => 256 * next());
  const none = new Int16Array(tokens).fill(-1);
  const offsets = new Int8Array(components);
  const usual = { refs: none, modes: kinds.map((kind) => kind / 3), energies: kinds.map((kind) => kind % 3), offsets };
  // The kind is 3 · mode + energy, of which four bits count.
  const odd = { ...usual, modes, energies: kinds.map((kind, t) => (kind - 3 * modes[t] & 15) + 16 * (t % 16)) };
  const symbols = Uint8Array.from({ length: components * tokens }, () => 254 * next());
  const chunks = [usual, odd].map((side) => ({
    model,
    code: { ...side, s: 0, levels: new Int32Array(0), reconstruction: new Int16Array(0) },
    symbols,
    escapes: new Uint8Array(0),
  }));
  const [wanted, found] = await decodeBatch(backend, trellis, chunks, tokens);
  assert(wanted.status !== TRELLIS_STATUS.ok);
  assertEquals(found, wanted);
});

testTrellis("contexts are those of the entropy coder", async (backend, trellis) => {
  const [components, tokens] = [70, 301];
  await withScratch(backend, async (scratch) => {
    const next = uniform(3);
    const model = fallingModel(components, { sigma: 3 });
    const sides = [0, 1].map(() => ({
      refs: new Int16Array(tokens).fill(-1),
      modes: Uint8Array.from({ length: tokens }, () => 5 * next()),
      energies: Uint8Array.from({ length: tokens }, () => 3 * next()),
      offsets: Int8Array.from({ length: components }, () => 2 * Math.floor(5 * next()) - 4),
    }));
    const batch = { chunks: 2, components, tokens };
    const models = trellis.uploadModels([model]);
    const classes = scratch.alloc(2 * components * 16);
    const kinds = scratch.alloc(2 * tokens);
    trellis.contexts(models, batch, uploadSide(scratch, batch, sides, [0, 0]), classes, kinds);
    const found = [await backend.read(classes, 0, 2 * components * 16), await backend.read(kinds, 0, 2 * tokens)];
    for (const [i, side] of sides.entries()) {
      const wanted = trellisContexts(model, { ...side, s: 0 });
      if (wanted.variant !== "trellis") throw new Error("contexts are of another kind");
      assertEquals(found[0].slice(i * components * 16, (i + 1) * components * 16), wanted.classes);
      assertEquals(found[1].slice(i * tokens, (i + 1) * tokens), wanted.kinds);
    }
    models.free();
  });
});

const encodings = fc.record({
  components: fc.oneof(
    fc.integer({ min: 1, max: 5 }),
    fc.integer({ min: 30, max: 70 }),
    fc.constantFrom(96, 97, 260, 300),
  ),
  tokens: fc.oneof(fc.constantFrom(1, 2), fc.integer({ min: 3, max: 40 })),
  seed: fc.nat(1e6),
  lambda: fc.constantFrom(0, 0.1, 0.3, 1, 16),
  sigma: fc.constantFrom(0.3, 4, 60, 900),
  split: fc.double({ min: 0, max: 1, noNaN: true }),
});

testTrellis("encoding gives the reference's integers, whole and after a prefix", async (backend) => {
  await fc.assert(
    fc.asyncProperty(encodings, async ({ components, tokens, seed, lambda, sigma, split }) => {
      const model = fallingModel(components, { sigma });
      const coarse = fallingModel(components, { sigma, s: 240 });
      const ys = [0, 1].map((i) => clamped(coefficients(components, tokens, seed + i, { sigma })));
      const models = [model, coarse];
      const whole = await encodeBatch(backend, models, ys, tokens, lambda, null);
      const codes = ys.map((y, i) => encodeTrellisReference(models[i], y, tokens, lambda));
      for (const i of [0, 1]) assertEquals(codeDifference(whole[i], models[i], codes[i]), "");
      const first = Math.floor(split * tokens);
      if (first === 0 || first === tokens) return;
      const part = (begin: number, end: number) =>
        Int32Array.from({ length: components * (end - begin) }, (_, i) => {
          const c = Math.floor(i / (end - begin));
          return ys[0][c * tokens + begin + i % (end - begin)];
        });
      const prefix = encodeTrellisReference(model, part(0, first), first, lambda);
      const rest = part(first, tokens);
      const [grown] = await encodeBatch(backend, [model], [rest], tokens - first, lambda, prefix);
      const code = encodeTrellisReference(model, rest, tokens - first, lambda, prefix);
      assertEquals(codeDifference(grown, model, code), "");
    }),
    { numRuns: casesFor(12) },
  );
});

testTrellis("encoding of many components, of many tokens, and of extreme coefficients", async (backend) => {
  // More tokens than a GPU compares at once, in which many are equally far; as many components as there may be.
  for (
    const [components, tokens, sigma] of [[1, 1100, 0.4], [21, 300, 0.3], [66, 270, 30], [4096, 3, 9], [1500, 9, 2]]
  ) {
    const model = fallingModel(components, { sigma, decay: 0.97 ** (60 / components) });
    const y = clamped(coefficients(components, tokens, components, { sigma, decay: 0.97 ** (60 / components) }));
    const [found] = await encodeBatch(backend, [model], [y], tokens, 0.3, null);
    const difference = codeDifference(found, model, encodeTrellisReference(model, y, tokens, 0.3));
    assertEquals(difference, "", `${components} × ${tokens}`);
  }
  const [components, tokens] = [130, 14];
  const next = uniform(2);
  const models = [0.3, 2000, 30].map((sigma) => fallingModel(components, { sigma, decay: 0.999 }));
  const ys = [0, 1, 2].map((i) =>
    Int32Array.from({ length: components * tokens }, () => i === 0 ? 0 : next() < 0.5 ? 100_000 : -100_000)
  );
  for (const lambda of [0, 0.3, 16]) {
    const found = await encodeBatch(backend, models, ys, tokens, lambda, null);
    for (const [i, chunk] of found.entries()) {
      const code = encodeTrellisReference(models[i], ys[i], tokens, lambda);
      assertEquals(codeDifference(chunk, models[i], code), "", `λ ${lambda}, chunk ${i}`);
    }
  }
});
