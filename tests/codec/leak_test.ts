/**
 * Many calls of a codec on a GPU leave nothing behind: memory in use, buffers, what the driver gave, pools. 80 calls after
 * those that warm up, or as many as KVZ_CASES says.
 */
import { assert, assertEquals } from "deno-std/assert";
import { createBackend } from "../../src/backend/select.ts";
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import type { Backend } from "../../src/backend/backend.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import type { Profile } from "../../src/profile/types.ts";
import { BACKENDS } from "../backend/backends.ts";
import { casesFor } from "../cases.ts";
import { testEmulated } from "../backend/cuda/emulator.ts";
import { SmallDevice } from "../backend/small_device.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const CALLS = casesFor(80);
const CACHES = [20, 12, 29].map((tokens, seed) => syntheticCache(tokens, { seed }));
const PROFILES: readonly (readonly [Profile, readonly CompressOptions[]])[] = [
  [syntheticProfile(), [{ ratio: 8 }, { recipe: "kvtc", entropy: "rans" } as CompressOptions, { recipe: "lossless" }]],
  [await smallKvzProfile(), [{}, { step: 0.01, window: 8 } as CompressOptions]],
];

/** What is in use, which comes back to the number, and what is kept for later, which may grow by some small buffers. */
interface Counts {
  readonly used: readonly number[];
  readonly keptBytes: number;
  readonly keptBuffers: number;
}

/** How far what is kept may grow: how many buffers are in use at once depends on when reads come back. */
const MORE = { bytes: 1 << 16, buffers: 8 };

/**
 * Half of the calls compress, half restore, three quarters of these to the host, the others on the device. What is counted
 * before and after are states after the same call.
 */
async function checkLeaks(backend: () => Promise<Backend>, count: (backend: Backend) => Counts): Promise<void> {
  for (const [profile, settings] of PROFILES) {
    // The first is the lane's, others are for planning.
    const opened: Backend[] = [];
    const open = async () => {
      opened.push(await backend());
      return opened.at(-1)!;
    };
    const codec = new Codec({ ...profile }, await Lanes.open({}, open));
    const call = async (i: number) => {
      const { bytes } = await codec.compress(CACHES[i % CACHES.length], settings[i % settings.length]);
      if (i % 4 < 3) await codec.decompress(bytes);
      else (await codec.decompressOnDevice(bytes)).free();
    };
    // What is kept for later is there once every setting and size was seen.
    const warm = 4 * CACHES.length * settings.length;
    for (let i = 0; i <= warm; i++) await call(i);
    const before = count(opened[0]);
    for (let i = 1; i <= CALLS / 2 / PROFILES.length; i++) await call(i);
    await call(0);
    const after = count(opened[0]);
    assertEquals(after.used, before.used);
    assert(after.keptBytes <= before.keptBytes + MORE.bytes, `${after.keptBytes} bytes, ${before.keptBytes} before`);
    assert(
      after.keptBuffers <= before.keptBuffers + MORE.buffers,
      `${after.keptBuffers}, ${before.keptBuffers} before`,
    );
    await codec.close();
  }
}

const inUse = (backend: Backend) => (backend as Backend & { readonly bytesInUse: number }).bytesInUse;

testEmulated("calls of a codec leave nothing on the device", {}, async (emulator) => {
  await checkLeaks(() => createBackend({ backend: "cuda" }), (backend) => ({
    used: [inUse(backend), ...(["bytes", "buffers", "objects"] as const).map((name) => emulator.count(name))],
    keptBytes: 0,
    keptBuffers: 0,
  }));
});

if (BACKENDS.some(([name]) => name === "webgpu")) {
  Deno.test("webgpu: calls of a codec leave nothing on the device", async () => {
    const small = await SmallDevice.open();
    await checkLeaks(() => createWebGpuBackend({ device: small.device }), (backend) => ({
      used: [inUse(backend)],
      keptBytes: small.held,
      keptBuffers: small.buffers,
    }));
    assertEquals([small.held, small.buffers], [0, 0]);
    small.device.destroy();
  });
}
