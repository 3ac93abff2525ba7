/** What a CUDA device is lost by: the codec goes on in wasm, says why, and nothing is left on the device. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import { type BackendOptions, createBackend } from "../../src/backend/select.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { KvzBackendError } from "../../src/errors.ts";
import { testEmulated } from "../backend/cuda/emulator.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const cache = syntheticCache(300);
const kvtcProfile = syntheticProfile();
const kvzProfile = await smallKvzProfile();

/** "auto" with the emulator, which the environment names and which has to be asked for. */
async function openAuto(profile: typeof kvtcProfile | typeof kvzProfile): Promise<Codec> {
  const open = (options: BackendOptions) => createBackend({ backend: "cuda", ...options });
  return new Codec({ ...profile }, await Lanes.open({}, open));
}

/** Errors that end a context, and one (2) that does not but comes back from every call. */
const CODES = [719, 700, 709, 201, 46, 226, 721, 999, 2];

for (const profile of [kvtcProfile, kvzProfile]) {
  testEmulated(`recipe ${profile.method} goes on in wasm, whatever the device is lost by`, {}, async (emulator) => {
    for (const code of CODES) {
      for (const launches of [0, 1, 3, 8]) {
        emulator.set("failWith", code);
        emulator.set("failAfter", launches);
        const where = `${code} after ${launches} launches`;
        const codec = await openAuto(profile);
        const { bytes, report } = await codec.compress(cache);
        const back = await codec.decompress(bytes);
        assertEquals([back.report.backend, back.cache.tokens], ["wasm", 300], where);
        if (report.fallback !== undefined) assertStringIncludes(report.fallback, `(${code})`, where);
        assertStringIncludes(back.report.fallback!, `(${code})`, where);
        assertEquals(["bytes", "buffers", "objects"].map((name) => emulator.count(name as "bytes")), [0, 0, 0], where);
        await codec.close();
        emulator.set("failAfter", -1);
      }
    }
  });
}

testEmulated("a device that gives nothing back is named beside what it was lost by", {}, async (emulator) => {
  const codec = await openAuto(kvtcProfile);
  emulator.set("failWith", 2);
  emulator.set("failAfter", 2);
  const { report } = await codec.compress(cache);
  assertStringIncludes(report.fallback!, "CUDA_ERROR_OUT_OF_MEMORY (2)");
  assertStringIncludes(report.fallback!, "; what it held could not be given back (Cannot free");
  await codec.close();
});

testEmulated("after errors that leave the process unusable the message asks for a new one", {}, async (emulator) => {
  for (const [code, advice] of [[719, "start the process anew"], [709, "dispose of it and make a new one"]] as const) {
    const backend = await createBackend({ backend: "cuda" });
    const buffers = [backend.alloc(256), backend.alloc(64), backend.alloc(2)];
    emulator.set("failWith", code);
    emulator.set("failAfter", 0);
    backend.encodeFp8(buffers[0], 1, 64, buffers[1], buffers[2]);
    // Freeing tells nobody: the next call does.
    for (const buffer of buffers) buffer.free();
    assertEquals((backend as unknown as { bytesInUse: number }).bytesInUse, 0);
    const error = await assertRejects(async () => await backend.alloc(16), KvzBackendError);
    assertStringIncludes(error.message, advice);
    assert(error.message.includes(`(${code})`));
    backend[Symbol.dispose]();
    emulator.set("failAfter", -1);
  }
});
