/**
 * The synthetic cache and profile that every runtime gets, and what the sources make of them in Deno.
 *
 * @module
 */
import { writeSafetensors } from "../../src/adapters/safetensors_sink.ts";
import { openFile, readGroup } from "../../src/codec/groups.ts";
import { openCodec } from "../../src/codec/open.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { syntheticCache, syntheticProfile } from "../../tests/synthetic.ts";

/** Tokens of the cache: sinks, a full chunk, a tail chunk and the window. */
const TOKENS = 400;

/** What the runtimes' results are compared with. */
export interface Fixtures {
  /** The .kvz file of the simd build. */
  readonly reference: Uint8Array;
  /** Its streams before DEFLATE, by chunk and tag. */
  readonly streams: ReadonlyMap<string, Uint8Array>;
  /** Keys, then values, of the restored cache. */
  readonly restored: Uint8Array;
}

/** Writes profile.kvzp, cache.safetensors and reference.kvz into a folder. */
export async function makeFixtures(dir: string): Promise<Fixtures> {
  const profile = syntheticProfile();
  const cache = syntheticCache(TOKENS);
  const codec = await openCodec(profile, { backend: "wasm", build: "simd" });
  try {
    // The options of tests/runtimes/suite.js.
    const { bytes: reference } = await codec.compress(cache, { ratio: 4, sinks: 4, window: 32, tokenIds: true });
    const { cache: restored } = await codec.decompress(reference);
    await Deno.mkdir(dir);
    await Deno.writeFile(`${dir}/profile.kvzp`, await serializeProfile(profile));
    await Deno.writeFile(`${dir}/cache.safetensors`, await writeSafetensors(cache));
    await Deno.writeFile(`${dir}/reference.kvz`, reference);
    const parts = [await restored.read("key", 0, TOKENS), await restored.read("value", 0, TOKENS)];
    return {
      reference,
      streams: await streamsOf(reference),
      restored: await new Blob(parts as BlobPart[]).bytes(),
    };
  } finally {
    await codec.close();
  }
}

/** All streams of a .kvz file before DEFLATE, by chunk and tag. */
export async function streamsOf(bytes: Uint8Array): Promise<Map<string, Uint8Array>> {
  const file = await openFile(bytes);
  const streams = new Map<string, Uint8Array>();
  for (const group of file.groups) {
    const { records } = await readGroup(file, group);
    for (const [tag, stream] of records) {
      const name = `${tag} of chunk ${group.chunk}`;
      streams.set(name, await decodeStream(stream, stream.rawLength, name));
    }
  }
  return streams;
}
