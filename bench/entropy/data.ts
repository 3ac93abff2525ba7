/**
 * What the entropy coders are measured on: synthetic codes, and those of a real cache.
 *
 * @module
 */
import { createBackend } from "../../src/backend/select.ts";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { openFile, readGroup } from "../../src/codec/groups.ts";
import { openCodec } from "../../src/codec/open.ts";
import { parseProfile } from "../../src/profile/profile.ts";
import { requireProfile } from "../../src/profile/require.ts";
import { kvz } from "../../src/recipes/kvz.ts";
import { planSetup } from "../../src/recipes/kvz_setup.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { type RansContexts, TOKEN_KINDS } from "../../src/stages/entropy/rans_contexts.ts";
import { countSymbols } from "../../src/stages/entropy/rans_counts.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import { normalizeTables, type RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { tableBits, tableLimits, trellisContexts, trellisModel } from "../../src/stages/quantize/trellis/model.ts";
import { decodeSide, sideComponents } from "../../src/stages/quantize/trellis/side.ts";
import { loadInputs, option } from "../inputs.ts";

/** A matrix of symbols with what rANS codes it by. */
export interface EntropyData {
  readonly name: string;
  readonly rows: number;
  readonly tokens: number;
  readonly symbols: Uint8Array;
  readonly contexts: RansContexts;
  readonly tables: RansTables;
}

/** Symbols of a synthetic set. */
const [ROWS, TOKENS] = [2048, 512];
/** Classes of a trellis set, two tables each. */
const CLASSES = 64;
/** Tables that the rows of the real codes share. */
const SHARED = 32;

/** Uniform numbers in (0, 1) from a seed (mulberry32). */
function uniform(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

const random = uniform(7);
const laplacian = (scale: number) => {
  const u = random() - 0.5;
  return -scale * Math.sign(u) * Math.log(1 - 2 * Math.abs(u));
};
const gaussian = () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
const clamp = (x: number, most: number) => Math.max(0, Math.min(most, Math.round(x)));

/** Tables trained on the symbols themselves. */
function trained(
  name: string,
  symbols: Uint8Array,
  tokens: number,
  contexts: RansContexts,
  tables: number,
): EntropyData {
  const rows = symbols.length / tokens;
  const counts = countSymbols(symbols, rows, tokens, contexts, tables);
  const weights = Array.from({ length: tables }, (_, i) => counts.slice(i * 256, (i + 1) * 256));
  for (const list of weights) if (list.every((count) => count === 0)) list[0] = 1;
  return { name, rows, tokens, symbols, contexts, tables: normalizeTables(weights, 11) };
}

/** One table for all rows. */
function plain(name: string, symbols: Uint8Array): EntropyData {
  const contexts = { variant: "plain" as const, tableOf: new Uint16Array(symbols.length / TOKENS) };
  return trained(name, symbols, TOKENS, contexts, 1);
}

/** The synthetic sets: 4-bit Laplacian, the same two a byte, 8-bit Gaussian, and levels under trellis contexts. */
export function syntheticData(): EntropyData[] {
  const q4 = Uint8Array.from({ length: ROWS * TOKENS }, () => clamp(7.5 + laplacian(1.59), 15));
  const p4 = Uint8Array.from({ length: q4.length >> 1 }, (_, i) => q4[2 * i] | q4[2 * i + 1] << 4);
  const q8 = Uint8Array.from({ length: ROWS * TOKENS }, () => clamp(128 + 18 * gaussian(), 255));
  const classes = Uint8Array.from(
    { length: ROWS * TOKEN_KINDS },
    (_, i) => clamp(40 - 30 * (i >> 4) / ROWS + 2 * (i % 3 - 1), CLASSES - 1),
  );
  const contexts = {
    variant: "trellis" as const,
    classes,
    kinds: Uint8Array.from({ length: TOKENS }, () => random() * 15),
    next: Uint8Array.of(0, 4, 5, 1, 6, 2, 3, 7, 1, 5, 4, 0, 7, 3, 2, 6),
  };
  const levels = Uint8Array.from({ length: ROWS * TOKENS }, (_, i) => {
    const level = Math.round(laplacian(2 ** ((classes[(i / TOKENS | 0) * 16 + contexts.kinds[i % TOKENS]] - 24) / 5)));
    return Math.min(253, level > 0 ? 2 * level - 1 : -2 * level);
  });
  return [plain("q4", q4), plain("p4", p4), plain("q8", q8), trained("trellis", levels, TOKENS, contexts, 2 * CLASSES)];
}

/** The 4-bit codes of a coded chunk of `--cache` under `--profile`, one a byte, a row a component, sharing tables. */
export async function realData(): Promise<EntropyData> {
  const { cache, profile } = await loadInputs();
  const codec = await openCodec(profile);
  const { bytes } = await codec.compress(cache, { ratio: Number(option("ratio", "32")), window: 32 });
  await codec.close();
  const file = await openFile(bytes);
  const chunk = file.groups.find(({ chunk }) => chunk === 0)!;
  const { records } = await readGroup(file, chunk);
  const rows: Uint8Array[] = [];
  for (const tag of ["KQ4 ", "VQ4 "]) {
    const record = records.get(tag)!;
    const packed = await decodeStream(record, record.rawLength, tag);
    const rowBytes = Math.ceil(chunk.tokens / 2);
    for (let at = 0; at < packed.length; at += rowBytes) {
      rows.push(Uint8Array.from({ length: chunk.tokens }, (_, t) => packed[at + (t >> 1)] >> 4 * (t & 1) & 15));
    }
  }
  // Rows of like spread share a table.
  const spread = rows.map((row) => row.reduce((sum, code) => sum + (code - 7.5) ** 2, 0));
  const order = [...rows.keys()].sort((a, b) => spread[a] - spread[b]);
  const tableOf = new Uint16Array(rows.length);
  order.forEach((row, rank) => tableOf[row] = rank * SHARED / rows.length);
  const symbols = new Uint8Array(rows.length * chunk.tokens);
  rows.forEach((row, i) => symbols.set(row, i * chunk.tokens));
  return trained("kvtc int4 codes", symbols, chunk.tokens, { variant: "plain", tableOf }, SHARED);
}

/**
 * The levels of the first 256 tokens of `--kvz-cache` under `--kvz-profile`, with the recipe's own contexts and tables; null
 * without a profile.
 */
export async function recipeData(): Promise<EntropyData | null> {
  const path = option("kvz-profile", "");
  if (path === "") return null;
  const profile = requireProfile(await parseProfile(await Deno.readFile(path)), "kvz");
  const cache = await readSafetensors(await Deno.readFile(option("kvz-cache", "samples/smollm2-256.safetensors")));
  const options = kvz.parseOptions({});
  const facts = {
    model: profile.model,
    storedDType: cache.dtype,
    dtype: cache.dtype,
    openBackend: () => createBackend(),
  };
  const { stepSets, tables } = await planSetup(profile, facts, options);
  const codec = await openCodec(profile);
  const { bytes } = await codec.compress(cache, { recipe: "kvz" });
  await codec.close();
  const file = await openFile(bytes);
  const chunk = file.groups.find(({ chunk }) => chunk === 0)!;
  const { records } = await readGroup(file, chunk);
  const sideRecord = records.get("SIDE")!;
  const components = sideComponents(sideRecord.rawLength, chunk.tokens, profile.components);
  const side = decodeSide(await decodeStream(sideRecord, sideRecord.rawLength, "SIDE"), chunk.tokens, components);
  const model = trellisModel(stepSets, side.s, { bits: tableBits(tables), limits: tableLimits(tables) }, components);
  const contexts = trellisContexts(model, side);
  const symb = records.get("SYMB")!;
  const coded = await decodeStream(symb, symb.rawLength, "SYMB");
  const all = new ReferenceRans(tables).decode(coded, components, chunk.tokens, contexts);
  const tokens = Math.min(256, chunk.tokens);
  const symbols = new Uint8Array(components * tokens);
  for (let c = 0; c < components; c++) {
    symbols.set(all.subarray(c * chunk.tokens, c * chunk.tokens + tokens), c * tokens);
  }
  if (contexts.variant !== "trellis") throw new Error("Cannot measure: the contexts are not those of a trellis");
  const { kinds } = contexts;
  return {
    name: "kvz levels",
    rows: components,
    tokens,
    symbols,
    contexts: { ...contexts, kinds: kinds.subarray(0, tokens) },
    tables,
  };
}
