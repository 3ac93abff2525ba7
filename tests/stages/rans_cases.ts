/**
 * Coders under test, and random matrices with contexts and tables to code them by.
 *
 * @module
 */
import fc from "fast-check";
import { EntropyKernels } from "../../src/backend/wasm/entropy_kernels.ts";
import { type BackendOptions, createBackend } from "../../src/backend/select.ts";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { WasmRans } from "../../src/stages/entropy/rans.ts";
import { type RansContexts, TOKEN_KINDS } from "../../src/stages/entropy/rans_contexts.ts";
import { countSymbols } from "../../src/stages/entropy/rans_counts.ts";
import { openRans, type RansFactory } from "../../src/stages/entropy/rans_factory.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import type { Rans } from "../../src/stages/entropy/rans_stream.ts";
import { normalizeTables, type RansBits, type RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { casesFor } from "../cases.ts";
import { BACKENDS, generator } from "../backend/backends.ts";

/** A coder under test: its name and how one is made; the one made before is given back. */
export type CoderUnderTest = readonly [name: string, open: (tables: RansTables) => Promise<Rans>];

/** Backends on GPUs that are there, or have to be (tests/backend/backends.ts). */
export const GPU_BACKENDS: readonly (readonly [string, BackendOptions])[] = BACKENDS.filter(([, { backend }]) =>
  backend === "cuda" || backend === "webgpu"
);

/**
 * Every coder: the reference, the kernels' builds and those of GPUs. One that the engine does not run fails its tests.
 * Where it codes single symbols, a GPU's is thousands of times slower, since every call waits for the device.
 */
export const CODERS: readonly CoderUnderTest[] = [
  // deno-lint-ignore require-await -- one signature for all
  ["reference", async (tables) => new ReferenceRans(tables)],
  ...WASM_BUILDS.map((build): [string, (tables: RansTables) => Promise<Rans>] => {
    let kernels: Promise<EntropyKernels> | undefined;
    let last: WasmRans | undefined;
    return [`wasm ${build}`, async (tables) => {
      const on = await (kernels ??= EntropyKernels.open(build));
      // Tests use one coder at a time.
      last?.free();
      return last = new WasmRans(on, tables);
    }];
  }),
  ...GPU_BACKENDS.map(([name, options]): CoderUnderTest => {
    let factory: Promise<RansFactory> | undefined;
    let last: ReturnType<RansFactory> | undefined;
    return [name, async (tables) => {
      // Open to the end of the process: tests of one coder share its kernels.
      factory ??= createBackend(options).then((backend) => {
        if (backend.gpu?.entropy == null) throw new Error(`Backend ${name} has no entropy kernels`);
        return openRans(backend);
      });
      const open = await factory;
      last?.free?.();
      return last = open(tables);
    }];
  }),
];

/** How many cases of a property are tried (tests/cases.ts): fewer where a GPU's emulator runs them, or a case is long. */
export function coderCases(name: string, share: number = 1): number {
  return casesFor(share * (GPU_BACKENDS.some(([gpu]) => gpu === name) ? 40 : 100));
}

/** What a call gives: the bytes, or the error's name and message. */
export async function outcome(call: () => Uint8Array | Promise<Uint8Array>): Promise<Uint8Array | string> {
  try {
    return await call();
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
}

/**
 * Next state by 2 · state + parity of an 8-state trellis whose first four states use one quantizer and the others the
 * other. Any table will do here.
 */
export const NEXT: Uint8Array = Uint8Array.of(0, 4, 5, 1, 6, 2, 3, 7, 1, 5, 4, 0, 7, 3, 2, 6);

/** A matrix to code. */
export interface RansCase {
  readonly rows: number;
  readonly tokens: number;
  readonly symbols: Uint8Array;
  readonly contexts: RansContexts;
  /** Tables that have all the symbols. */
  readonly tables: RansTables;
}

/** A geometric symbol below `alphabet`: `decay` is the ratio of neighbouring probabilities. */
export function geometric(next: () => number, alphabet: number, decay: number): number {
  let symbol = 0;
  while (symbol < alphabet - 1 && next() < decay) symbol++;
  return symbol;
}

/** Contexts of a variant over `tables` tables. */
export function randomContexts(
  variant: RansContexts["variant"],
  rows: number,
  tokens: number,
  tables: number,
  next: () => number,
): RansContexts {
  if (variant === "plain") {
    return { variant, tableOf: Uint16Array.from({ length: rows }, () => next() * tables) };
  }
  return {
    variant,
    classes: Uint8Array.from({ length: rows * TOKEN_KINDS }, () => next() * (tables >> 1)),
    kinds: Uint8Array.from({ length: tokens }, () => next() * TOKEN_KINDS),
    next: NEXT,
  };
}

/** Tables by what the symbols are: every symbol that occurs in a table has a frequency there. */
export function fittingTables(
  symbols: Uint8Array,
  rows: number,
  tokens: number,
  contexts: RansContexts,
  tables: number,
  bits: RansBits,
): RansTables {
  const counts = countSymbols(symbols, rows, tokens, contexts, tables);
  const weights = Array.from({ length: tables }, (_, i) => counts.slice(i * 256, i * 256 + 256));
  // A table that nothing uses must still be one.
  for (const list of weights) if (list.every((count) => count === 0)) list[0] = 1;
  return normalizeTables(weights, bits);
}

/** A random case of given sizes. */
export function randomCase(options: {
  rows: number;
  tokens: number;
  variant: RansContexts["variant"];
  bits: RansBits;
  tables: number;
  alphabet: number;
  decay: number;
  seed: number;
}): RansCase {
  const { rows, tokens, variant, bits, tables, alphabet, decay, seed } = options;
  const next = generator(seed);
  const contexts = randomContexts(variant, rows, tokens, tables, next);
  const symbols = Uint8Array.from({ length: rows * tokens }, () => geometric(next, alphabet, decay));
  return { rows, tokens, symbols, contexts, tables: fittingTables(symbols, rows, tokens, contexts, tables, bits) };
}

/** Cases of all shapes: empty, below and above a lane group, one symbol only, the whole byte. */
export const cases: fc.Arbitrary<RansCase> = fc.record({
  rows: fc.nat(12),
  tokens: fc.oneof(fc.nat(40), fc.constantFrom(32, 64, 96), fc.integer({ min: 41, max: 200 })),
  variant: fc.constantFrom("plain" as const, "trellis" as const),
  bits: fc.constantFrom<RansBits>(11, 12),
  tables: fc.constantFrom(2, 6, 128),
  alphabet: fc.constantFrom(1, 2, 3, 16, 256),
  decay: fc.constantFrom(0, 0.01, 0.5, 0.9, 0.99),
  seed: fc.nat(),
}).map(randomCase);
