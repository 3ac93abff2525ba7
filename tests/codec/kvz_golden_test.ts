import { assert, assertEquals } from "deno-std/assert";
import { openFile, readGroup } from "../../src/codec/groups.ts";
import { openCodec } from "../../src/codec/open.ts";
import { createBackend } from "../../src/backend/select.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import { parseProfile } from "../../src/profile/profile.ts";
import { cutStepSet } from "../../src/stages/quantize/trellis/model.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { openLevelCoder } from "../../src/stages/quantize/trellis/level_coder.ts";
import { BACKENDS } from "../backend/backends.ts";
import coefficients from "./kvz_golden/coefficients.json" with { type: "json" };
import restored from "./kvz_golden/restored.json" with { type: "json" };

/** What tests/codec/kvz_golden/decode.py, which follows docs/format.md only, has restored. */
const RESTORED: Record<string, { tokens: number; levels: string[]; key: string; value: string }> = restored;

const read = (name: string) => Deno.readFile(new URL(`./kvz_golden/${name}`, import.meta.url));
const readProfile = async (name: string) => await parseProfile(await read(name)) as KvzProfile;
const [profile, wide] = await Promise.all(["profile.kvzp", "wide_profile.kvzp"].map(readProfile));
const profileOf = (path: string) => path === "fewer_components_f16.kvz" ? wide : profile;

async function sha256(bytes: ArrayBufferView): Promise<string> {
  const copy = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength).slice();
  return new Uint8Array(await crypto.subtle.digest("SHA-256", copy)).toHex();
}

/** Chunk number and streams before DEFLATE of each region of a file. */
async function streamsOf(bytes: Uint8Array): Promise<[chunk: number, tokens: number, Map<string, Uint8Array>][]> {
  const file = await openFile(bytes);
  return await Promise.all(file.groups.map(async (info) => {
    const { chunk, tokens, records } = await readGroup(file, info);
    const streams = new Map<string, Uint8Array>();
    for (const [tag, record] of records) streams.set(tag, await decodeStream(record, record.rawLength, tag));
    return [chunk, tokens, streams] as const;
  })) as [number, number, Map<string, Uint8Array>][];
}

for (const [name, options] of BACKENDS) {
  Deno.test(`golden files of recipe kvz restore to what the decoder in Python gives: ${name}`, async () => {
    for (const [path, wanted] of Object.entries(RESTORED)) {
      await using codec = await openCodec(profileOf(path), options);
      const { cache } = await codec.decompress(await read(path));
      assertEquals(cache.tokens, wanted.tokens);
      for (const kind of ["key", "value"] as const) {
        assertEquals(await sha256(cache.read(kind, 0, cache.tokens)), wanted[kind], `${path}, ${kind}`);
      }
    }
  });

  Deno.test(`golden coefficients are coded to the golden streams: ${name}`, async () => {
    for (const [path, { s, lambda, components, tokens, y }] of Object.entries(coefficients)) {
      const sets = profile.stepSets.map((set) => cutStepSet(set, components));
      using backend = await createBackend(options);
      using coder = await openLevelCoder(backend, components, sets, profile.tables);
      const { side, symbols, escapes } = await coder.encode(Int32Array.from(y), s, components, tokens, lambda, null);
      const [, , wanted] = (await streamsOf(await read(path))).find(([chunk]) => chunk === 0)!;
      assertEquals([side, symbols, escapes], ["SIDE", "SYMB", "ESCP"].map((tag) => wanted.get(tag)!), path);
    }
  });
}

Deno.test("golden levels, escapes among them, are those of the decoder in Python", async () => {
  let escaped = 0;
  const met = { refs: new Set(), modes: new Set(), energies: new Set(), offsets: new Set() };
  for (const [path, { levels }] of Object.entries(RESTORED)) {
    const regions = await streamsOf(await read(path));
    const plan = regions[0][2].get("PLAN")!;
    const components = plan[0] + 256 * plan[1];
    const { stepSets, tables } = profileOf(path);
    const sets = stepSets.map((set) => cutStepSet(set, components));
    using coder = await openLevelCoder(await createBackend({}), components, sets, tables);
    const found: string[] = [];
    for (const [chunk, tokens, streams] of regions) {
      if (chunk >= 0xfffffffd) continue;
      const [side, symbols, escapes] = ["SIDE", "SYMB", "ESCP"].map((tag) => streams.get(tag)!);
      const code = await coder.decodeLevels({ side, symbols, escapes }, tokens);
      found.push(await sha256(code.levels));
      for (const [what, values] of Object.entries(met)) {
        for (const value of code[what as keyof typeof met]) values.add(value);
      }
      escaped += escapes.length;
    }
    assertEquals(found, levels, path);
  }
  // The files make use of what the format has.
  assert(escaped > 100, `${escaped} bytes of escapes`);
  assert(met.refs.size > 100 && met.refs.has(-1));
  assertEquals([met.modes.size, met.energies.size, met.offsets.size], [5, 3, 5]);
});
