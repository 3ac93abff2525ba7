/**
 * The emulated CUDA driver for tests of faults: its settings and counters (cuda/emulate/driver.cpp).
 *
 * @module
 */
import { emulatorPath } from "../cuda_library.ts";

/** What can be set; `reset` values are in DEFAULTS. */
const DEFAULTS = {
  driverVersion: 12000,
  devices: 1,
  /** 86 is 8.6; 0: what KVZ_EMULATED_CAPABILITY says, or 9.0. */
  capability: 0,
  memory: 2 ** 32,
  failAfter: -1,
  failWith: 700,
  busy: 0,
  pools: 1,
  init: 0,
  poolError: 0,
} as const;

type Setting = keyof typeof DEFAULTS;

/** Names of counters. */
type Counter = "bytes" | "buffers" | "objects" | "launches";

const SYMBOLS = {
  kvzEmulate: { parameters: ["buffer", "i64"], result: "i32" },
  kvzEmulated: { parameters: ["buffer"], result: "i64" },
} as const;

function chars(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text + "\0");
}

/** The emulator, and the variable that names it. */
export class Emulator {
  readonly path: string;
  readonly #library: Deno.DynamicLibrary<typeof SYMBOLS>;

  private constructor(path: string) {
    this.path = path;
    this.#library = Deno.dlopen(path, SYMBOLS);
  }

  static async open(): Promise<Emulator> {
    return new Emulator(await emulatorPath());
  }

  set(name: Setting, value: number): void {
    if (this.#library.symbols.kvzEmulate(chars(name), BigInt(value)) !== 0) throw new Error(`no setting ${name}`);
  }

  count(name: Counter): number {
    return Number(this.#library.symbols.kvzEmulated(chars(name)));
  }

  /** Runs with the emulator as the driver, and settings that hold until the end. */
  async use(settings: Partial<Record<Setting, number>>, run: () => Promise<void>): Promise<void> {
    await withVariable("KVZ_CUDA_LIBRARY", this.path, async () => {
      try {
        for (const [name, value] of Object.entries(settings)) this.set(name as Setting, value);
        await run();
      } finally {
        for (const [name, value] of Object.entries(DEFAULTS)) this.set(name as Setting, value);
      }
    });
  }
}

/** Runs with an environment variable set. */
export async function withVariable(name: string, value: string, run: () => Promise<void>): Promise<void> {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  try {
    await run();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}

/** Null where it cannot be built: without g++ or on other processors than x86-64. */
async function tryOpen(): Promise<Emulator | null> {
  try {
    return await Emulator.open();
  } catch (error) {
    if ((Deno.env.get("KVZ_REQUIRE") ?? "").split(",").includes("cuda")) throw error;
    console.error(`Tests on the emulator of CUDA are left out: ${(error as Error).message}`);
    return null;
  }
}

const emulator = await tryOpen();

/** Registers a test that runs on the emulator. What the driver gave must have been given back in the end. */
export function testEmulated(
  name: string,
  settings: Partial<Record<Setting, number>>,
  test: (emulator: Emulator) => Promise<void>,
): void {
  if (emulator === null) return;
  Deno.test(`emulated cuda: ${name}`, () =>
    emulator.use(settings, async () => {
      const counts = () => [emulator.count("buffers"), emulator.count("bytes"), emulator.count("objects")].join();
      const before = counts();
      await test(emulator);
      if (counts() !== before) {
        throw new Error(`Not given back: buffers, bytes, objects are ${counts()}, were ${before}`);
      }
    }));
}
