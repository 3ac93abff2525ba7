import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { EntropyKernels } from "../../src/backend/wasm/entropy_kernels.ts";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { KvzBackendError, KvzFormatError } from "../../src/errors.ts";
import { countSymbols, modelBits } from "../../src/stages/entropy/rans_counts.ts";
import { escapeLevels } from "../../src/stages/entropy/escapes.ts";
import { escapeLevelsOn, unescapeLevelsOn } from "../../src/stages/entropy/rans_levels.ts";
import { encodingBytes, WasmRans } from "../../src/stages/entropy/rans.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import { normalizeTables } from "../../src/stages/entropy/rans_tables.ts";
import { generator } from "../backend/backends.ts";
import { cases, coderCases, CODERS, GPU_BACKENDS, NEXT, outcome, randomCase } from "./rans_cases.ts";

/** A typed refusal of the bytes, or a whole matrix; anything else fails. */
async function decodesOrRefuses(decode: () => Uint8Array | Promise<Uint8Array>, count: number): Promise<void> {
  try {
    assertEquals((await decode()).length, count);
  } catch (error) {
    if (!(error instanceof KvzFormatError)) throw error;
  }
}

for (const [label, open] of CODERS) {
  const onGpu = GPU_BACKENDS.some(([name]) => name === label);

  Deno.test(`rans ${label}: symbols come back, twice the same bytes, as the reference codes them`, async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ rows, tokens, symbols, contexts, tables }) => {
        const rans = await open(tables);
        const bytes = await rans.encode(symbols, rows, tokens, contexts);
        assertEquals(await rans.encode(symbols, rows, tokens, contexts), bytes);
        assertEquals(new ReferenceRans(tables).encode(symbols, rows, tokens, contexts), bytes);
        assertEquals(await rans.decode(bytes, rows, tokens, contexts), symbols);
        if (!onGpu) {
          const room = new Uint8Array(bytes.length + 3).fill(7);
          const inside = await rans.encode(symbols, rows, tokens, contexts, room.subarray(1));
          assertEquals(inside, bytes);
          if (label !== "reference") assertEquals([inside.buffer, inside.byteOffset], [room.buffer, 1]);
          const small = new Uint8Array(Math.max(0, bytes.length - 1)).fill(7);
          assertEquals(await rans.encode(symbols, rows, tokens, contexts, small), bytes);
          assert(small.every((byte) => byte === 7), "a stream that does not fit is not begun");
          assertEquals([room[0], ...room.subarray(bytes.length + 1)], [7, 7, 7]);
        }
        const out = new Uint8Array(symbols.length).fill(7);
        assertEquals(await rans.decode(bytes, rows, tokens, contexts, out), out);
        assertEquals(out, symbols);
      }),
      { numRuns: coderCases(label) },
    );
  });

  Deno.test(`rans ${label}: every truncation and surplus is refused`, async () => {
    for (const variant of ["plain", "trellis"] as const) {
      const { rows, tokens, symbols, contexts, tables } = randomCase({
        ...{ rows: 5, tokens: 70, variant, bits: 11, tables: 6, alphabet: 16, decay: 0.8, seed: 1 },
      });
      const rans = await open(tables);
      const bytes = await rans.encode(symbols, rows, tokens, contexts);
      // A GPU is waited for at each length.
      for (let length = 0; length < bytes.length; length += onGpu ? 1 + length % 23 : 1) {
        await assertRejects(
          async () => await rans.decode(bytes.subarray(0, length), rows, tokens, contexts),
          KvzFormatError,
        );
      }
      for (const surplus of [1, 2, 64, 1000]) {
        const longer = new Uint8Array(bytes.length + surplus);
        longer.set(bytes);
        await assertRejects(async () => await rans.decode(longer, rows, tokens, contexts), KvzFormatError);
      }
    }
  });

  Deno.test(`rans ${label}: damaged bytes are refused or decode to a matrix`, async () => {
    const damage = fc.record({ base: cases, at: fc.nat(), flip: fc.integer({ min: 1, max: 255 }) });
    await fc.assert(
      fc.asyncProperty(damage, async ({ base, at, flip }) => {
        const { rows, tokens, symbols, contexts, tables } = base;
        const rans = await open(tables);
        const bytes = await rans.encode(symbols, rows, tokens, contexts);
        if (bytes.length > 0) bytes[at % bytes.length] ^= flip;
        await decodesOrRefuses(() => rans.decode(bytes, rows, tokens, contexts), symbols.length);
        // A refusal is the reference's.
        assertEquals(
          await outcome(() => rans.decode(bytes, rows, tokens, contexts)),
          await outcome(() => new ReferenceRans(tables).decode(bytes, rows, tokens, contexts)),
        );
      }),
      { numRuns: coderCases(label) },
    );
  });

  Deno.test(`rans ${label}: any bytes are refused or decode to a matrix, as the reference has it`, async () => {
    const noise = fc.record({ base: cases, bytes: fc.uint8Array({ maxLength: 600 }) });
    await fc.assert(
      fc.asyncProperty(noise, async ({ base, bytes }) => {
        const { rows, tokens, symbols, contexts, tables } = base;
        const rans = await open(tables);
        const reference = new ReferenceRans(tables);
        await decodesOrRefuses(() => rans.decode(bytes, rows, tokens, contexts), symbols.length);
        assertEquals(
          await outcome(() => rans.decode(bytes, rows, tokens, contexts)),
          await outcome(() => reference.decode(bytes, rows, tokens, contexts)),
        );
      }),
      { numRuns: coderCases(label) },
    );
  });

  Deno.test(`rans ${label}: bytes are those of the model's entropy, and 4 a lane`, async () => {
    for (const variant of ["plain", "trellis"] as const) {
      const { rows, tokens, symbols, contexts, tables } = randomCase({
        ...{ rows: 400, tokens: 256, variant, bits: 11, tables: 16, alphabet: 64, decay: 0.8, seed: 5 },
      });
      const bytes = await (await open(tables)).encode(symbols, rows, tokens, contexts);
      const ideal = modelBits(tables, symbols, rows, tokens, contexts) / 8;
      assert(bytes.length - 128 >= ideal * 0.999, `${bytes.length} bytes for ${ideal}`);
      assert(bytes.length <= ideal * 1.005, `${bytes.length} bytes for ${ideal}`);
    }
  });

  // GPUs do not decode in parts.
  if (!onGpu) {
    Deno.test(`rans ${label}: an array that is given is filled part by part, with the same refusals`, async () => {
      // More than the 65,536 symbols of a part: rows that do and do not divide it, one row alone, incomplete groups.
      for (const [rows, tokens] of [[700, 200], [257, 256], [3, 70000], [1, 131073], [4100, 33]]) {
        for (const variant of ["plain", "trellis"] as const) {
          const { symbols, contexts, tables } = randomCase({
            ...{ rows, tokens, variant, bits: 12, tables: 8, alphabet: 40, decay: 0.9, seed: rows },
          });
          const rans = await open(tables);
          const bytes = await rans.encode(symbols, rows, tokens, contexts);
          const out = new Uint8Array(symbols.length).fill(255);
          assertEquals(await rans.decode(bytes, rows, tokens, contexts, out), out);
          assertEquals(out, symbols);
          const next = generator(tokens);
          for (let i = 0; i < 6; i++) {
            const damaged = bytes.slice(0, i < 3 ? bytes.length : (bytes.length * next()) & ~1);
            if (i < 3) damaged[Math.floor(damaged.length * next())] ^= 1 + 254 * next();
            assertEquals(
              await outcome(() => rans.decode(damaged, rows, tokens, contexts, out.slice())),
              await outcome(() => rans.decode(damaged, rows, tokens, contexts)),
            );
          }
        }
      }
    });
  }

  // GPUs have this as one batch (gpu_entropy_test.ts).
  if (!onGpu) {
    Deno.test(`rans ${label}: every frequency divides exactly`, async () => {
      const next = generator(3);
      const contexts = { variant: "plain" as const, tableOf: new Uint16Array(8) };
      for (const bits of [11, 12] as const) {
        for (let f = 1; f < 1 << bits; f++) {
          const frequencies = new Uint16Array(256);
          frequencies[0] = f;
          frequencies[1] = (1 << bits) - f;
          const rans = await open({ bits, frequencies });
          // Both symbols as often, whatever their frequencies, so that states of all sizes meet both.
          const symbols = Uint8Array.from({ length: 8 * 33 }, () => next() * 2);
          const bytes = await rans.encode(symbols, 8, 33, contexts);
          assertEquals(bytes, new ReferenceRans({ bits, frequencies }).encode(symbols, 8, 33, contexts));
          assertEquals(rans.decode(bytes, 8, 33, contexts), symbols);
        }
      }
    });
  }

  Deno.test(`rans ${label}: what does not fit is refused`, async () => {
    const tables = normalizeTables([[1, 1], [1, 1], [1, 0, 1], [1]], 11);
    const rans = await open(tables);
    const plain = (...tableOf: number[]) => ({ variant: "plain" as const, tableOf: Uint16Array.from(tableOf) });
    const symbols = Uint8Array.of(0, 1, 0);
    assertEquals(await rans.decode(await rans.encode(symbols, 1, 3, plain(1)), 1, 3, plain(1)), symbols);
    // No such symbol in the table.
    await assertRejects(async () => await rans.encode(symbols, 1, 3, plain(2)), RangeError, "frequency 0");
    await assertRejects(async () => await rans.encode(Uint8Array.of(255), 1, 1, plain(0)), RangeError, "frequency 0");
    await assertRejects(
      async () => await rans.encode(new Uint8Array(64).fill(1), 1, 64, plain(3)),
      RangeError,
      "frequency 0",
    );
    // Sizes.
    await assertRejects(async () => await rans.encode(symbols, 1, 4, plain(1)), RangeError);
    await assertRejects(async () => await rans.encode(symbols, 3, 1, plain(1)), RangeError, "tableOf has 1");
    await assertRejects(async () => await rans.encode(symbols, 1.5, 2, plain(1)), RangeError);
    await assertRejects(async () => await rans.encode(symbols, 1, 3, plain(4)), RangeError, "tableOf[0] is 4");
    const bytes = await rans.encode(symbols, 1, 3, plain(1));
    await assertRejects(async () => await rans.decode(bytes, 1, 3, plain(1), new Uint8Array(2)), RangeError);
    await assertRejects(
      async () => await rans.decode(bytes, 2 ** 15, 2 ** 14, plain(1)),
      KvzFormatError,
      "32768 × 16384",
    );
    await assertRejects(async () => await rans.decode(bytes, -1, 3, plain(1)), RangeError);
    const trellis = {
      variant: "trellis" as const,
      classes: new Uint8Array(16),
      kinds: new Uint8Array(3),
      next: NEXT,
    };
    assertEquals(await rans.decode(await rans.encode(symbols, 1, 3, trellis), 1, 3, trellis), symbols);
    await assertRejects(
      async () => await rans.encode(symbols, 1, 3, { ...trellis, kinds: Uint8Array.of(0, 0, 16) }),
      RangeError,
      "kinds[2]",
    );
    await assertRejects(
      async () => await rans.encode(symbols, 1, 3, { ...trellis, classes: new Uint8Array(16).fill(2) }),
      RangeError,
    );
    await assertRejects(
      async () => await rans.encode(symbols, 1, 3, { ...trellis, next: new Uint8Array(16).fill(8) }),
      RangeError,
    );
    await assertRejects(
      async () => await rans.encode(symbols, 1, 3, { ...trellis, next: new Uint8Array(15) }),
      RangeError,
    );
  });
}

for (const build of WASM_BUILDS) {
  Deno.test(`rans wasm ${build}: memory beyond 2 GiB, and memory given back`, async () => {
    const kernels = await EntropyKernels.open(build);
    const before = kernels.bytesInUse;
    const low = kernels.alloc(2 ** 31);
    const { rows, tokens, symbols, contexts, tables } = randomCase({
      ...{ rows: 9, tokens: 70, variant: "trellis", bits: 11, tables: 6, alphabet: 16, decay: 0.8, seed: 2 },
    });
    const rans = new WasmRans(kernels, tables);
    const bytes = rans.encode(symbols, rows, tokens, contexts);
    assertEquals(bytes, new ReferenceRans(tables).encode(symbols, rows, tokens, contexts));
    assertEquals(rans.decode(bytes, rows, tokens, contexts), symbols);
    const levels = Int32Array.from(symbols, (symbol) => 7 - symbol);
    const limits = new Uint8Array(6).fill(4);
    const coded = escapeLevelsOn(kernels, levels, rows, tokens, contexts, limits);
    assertEquals(coded, escapeLevels(levels, rows, tokens, contexts, limits));
    assertEquals(unescapeLevelsOn(kernels, coded.symbols, coded.escapes, rows, tokens, contexts, limits), levels);
    rans.free();
    assertThrows(() => rans.encode(symbols, rows, tokens, contexts), KvzBackendError, "freed");
    kernels.free(low);
    assertEquals(kernels.bytesInUse, before);
  });
}

for (const build of WASM_BUILDS) {
  Deno.test(`rans wasm ${build}: symbols in the kernels' memory are coded there, in the memory that is foretold`, async () => {
    for (const variant of ["plain", "trellis"] as const) {
      for (const [rows, tokens] of [[1, 1], [9, 70], [64, 512], [8000, 4]]) {
        const made = randomCase({
          ...{ rows, tokens, variant, bits: 11, tables: 128, alphabet: 16, decay: 0.8, seed: rows },
        });
        // States that never leave 0 do not move the tables.
        const contexts = made.contexts.variant === "plain"
          ? made.contexts
          : { ...made.contexts, next: new Uint8Array(16) };
        const tables = { bits: 11, frequencies: new Uint16Array(128 * 256).fill(8) } as const;
        const kernels = await EntropyKernels.open(build);
        const foretold = encodingBytes(rows, tokens, 128);
        const [at, room] = [kernels.alloc(rows * tokens + 3), kernels.alloc(foretold)];
        const { memory } = kernels.exports;
        // Nothing else is left of the memory.
        const left = () => memory.buffer.byteLength - room - Math.ceil(foretold / 64) * 64;
        if (left() > 0) kernels.alloc(left());
        kernels.free(room);
        const { buffer } = memory;
        const placed = kernels.bytes(at, rows * tokens);
        placed.set(made.symbols);
        const rans = new WasmRans(kernels, tables);
        const expected = new ReferenceRans(tables).encode(made.symbols, rows, tokens, contexts);
        assertEquals(rans.encode(placed, rows, tokens, contexts), expected);
        assert(memory.buffer === buffer, `${variant} ${rows} × ${tokens}: the memory grew`);
        assertEquals(placed, made.symbols);
      }
    }
  });
}

Deno.test("counts are by table, and an impossible symbol costs infinitely much", () => {
  const contexts = { variant: "plain" as const, tableOf: Uint16Array.of(1, 0, 1) };
  const symbols = Uint8Array.of(5, 5, 6, 0, 0, 0, 255, 5, 5);
  const counts = countSymbols(symbols, 3, 3, contexts, 2);
  assertEquals(counts.length, 512);
  assertEquals([counts[0], counts[256 + 5], counts[256 + 6], counts[511]], [3, 4, 1, 1]);
  assertEquals(counts.reduce((a, b) => a + b, 0), 9);
  const tables = normalizeTables([[1], Array.from({ length: 256 }, () => 1)], 11);
  assertEquals(modelBits(tables, symbols, 3, 3, contexts), 6 * 8);
  assertEquals(modelBits(normalizeTables([[1], [1]], 11), symbols, 3, 3, contexts), Infinity);
});

Deno.test("a trellis state picks the table of the token's next row", () => {
  // Symbol 1 is level 1, odd: state 0 → NEXT[1] = 4, the second quantizer.
  const contexts = { variant: "trellis" as const, classes: new Uint8Array(32), kinds: new Uint8Array(2), next: NEXT };
  const counts = countSymbols(Uint8Array.of(1, 0, 7, 9), 2, 2, contexts, 2);
  assertEquals([counts[1], counts[0], counts[256 + 7], counts[9]], [1, 1, 1, 1]);
});
