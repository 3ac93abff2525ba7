import { assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { dirty, generator, upload } from "../backend/backends.ts";
import { testEntropy, words } from "./rans_gpu_cases.ts";
import { casesFor } from "../cases.ts";

testEntropy("counts are those of plain loops", async (backend, kernels) => {
  const sizes = fc.record({
    rows: fc.nat(20),
    tokens: fc.oneof(fc.nat(70), fc.constantFrom(256, 4097, 70_001)),
    alphabet: fc.constantFrom(1, 2, 16, 255, 256),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(sizes, async ({ rows, tokens, alphabet, seed }) => {
      const height = tokens > 1000 ? rows % 3 : rows;
      const next = generator(seed);
      const symbols = Uint8Array.from({ length: height * tokens }, () => next() * next() * 256);
      const wanted = new Uint32Array(height * alphabet);
      symbols.forEach((symbol, i) => {
        if (symbol < alphabet) wanted[Math.floor(i / tokens) * alphabet + symbol]++;
      });
      const [from, counts] = [upload(backend, symbols), dirty(backend, wanted.byteLength)];
      kernels.histogram(from, height, tokens, alphabet, counts);
      assertEquals(await words(backend, counts, wanted.length), wanted);
      from.free(), counts.free();
    }),
    { numRuns: casesFor(40) },
  );
});

testEntropy("rows of tokens and rows of streams are each other's transpose", async (backend, kernels) => {
  const sizes = fc.record({
    tokens: fc.oneof(fc.nat(150), fc.constantFrom(64, 128, 132, 256)),
    rows: fc.oneof(fc.nat(100), fc.constantFrom(64, 68)),
    extra: fc.constantFrom(0, 1, 4, 8, 12),
    chunk: fc.constantFrom(1, 3, 16, 64, 100, 128, 1000),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(sizes, async ({ tokens, rows, extra, chunk, seed }) => {
      const stride = rows + extra;
      const next = generator(seed);
      const symbols = Uint8Array.from({ length: tokens * stride }, () => next() * 256);
      const wanted = new Uint8Array(tokens * rows);
      for (let first = 0, at = 0; first < tokens; first += chunk) {
        for (let row = 0; row < rows; row++) {
          for (let t = first; t < Math.min(tokens, first + chunk); t++) wanted[at++] = symbols[t * stride + row];
        }
      }
      const [from, to, back] = [
        upload(backend, symbols),
        dirty(backend, wanted.length),
        dirty(backend, symbols.length),
      ];
      kernels.transpose(from, stride, tokens, rows, chunk, to);
      assertEquals(await backend.read(to), wanted);
      kernels.untranspose(to, stride, tokens, rows, chunk, back);
      // What lies between the rows stays.
      const restored = symbols.map((symbol, i) => i % stride < rows ? symbol : 0xff);
      assertEquals(await backend.read(back), restored);
      from.free(), to.free(), back.free();
    }),
    { numRuns: casesFor(40) },
  );
});

testEntropy(
  "columns from anywhere become rows anywhere, and nothing beside them changes",
  async (backend, kernels) => {
    const sizes = fc.record({
      tokens: fc.oneof(fc.nat(70), fc.constantFrom(64, 128, 132)),
      column: fc.oneof(fc.nat(9), fc.constantFrom(16, 64)),
      rows: fc.oneof(fc.nat(70), fc.constantFrom(64, 68)),
      extra: fc.constantFrom(0, 3, 4),
      byte: fc.oneof(fc.nat(9), fc.constantFrom(256, 1024)),
      seed: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ tokens, column, rows, extra, byte, seed }) => {
        const stride = column + rows + extra;
        const next = generator(seed);
        const symbols = Uint8Array.from({ length: tokens * stride }, () => next() * 255);
        const wanted = new Uint8Array(byte + tokens * rows + 5).fill(0xff);
        for (let row = 0; row < rows; row++) {
          for (let t = 0; t < tokens; t++) wanted[byte + row * tokens + t] = symbols[t * stride + column + row];
        }
        const [from, to] = [upload(backend, symbols), dirty(backend, wanted.length)];
        kernels.transpose(from, stride, tokens, rows, Math.max(1, tokens), to, { column, byte });
        assertEquals(await backend.read(to), wanted);
        from.free(), to.free();
      }),
      { numRuns: casesFor(40) },
    );
  },
);
