/**
 * Stands for tests/backend/cuda/emulator.ts in the bundle: the same tests on the driver that is there. What only an emulator
 * can do, faults and slowness at will, is left out with a line; so is a test that asks for it in its course. Instead of the
 * emulator's counters there are the bytes that our devices have in use, and around each test what the driver says is free.
 *
 * @module
 */
import { CudaDevice } from "../../src/backend/cuda/device.ts";

/** Memory that may be missing after a test: the driver's own, and that of others on the device. */
const TOLERANCE = 64 << 20;
/** Copies that are late by at most so many queries are as good as copies that are not. */
const BUSY = 1000;
/** A fault after which CUDA promises a process nothing: it comes last. */
const LAST = /reaches outside/;

const CALLS = {
  cuInit: { parameters: ["u32"], result: "i32" },
  cuDevicePrimaryCtxRetain: { parameters: ["buffer", "i32"], result: "i32" },
  cuDevicePrimaryCtxRelease_v2: { parameters: ["i32"], result: "i32" },
  cuCtxSetCurrent: { parameters: ["u64"], result: "i32" },
  cuMemGetInfo_v2: { parameters: ["buffer", "buffer"], result: "i32" },
} as const;

class LeftOut extends Error {}

function openDriver(): Deno.DynamicLibrary<typeof CALLS> | null {
  try {
    return Deno.dlopen(Deno.env.get("KVZ_CUDA_LIBRARY") ?? "libcuda.so.1", CALLS);
  } catch (error) {
    if ((Deno.env.get("KVZ_REQUIRE") ?? "").split(",").includes("cuda")) throw error;
    console.error(`Tests on the CUDA driver are left out: ${(error as Error).message}`);
    return null;
  }
}

const driver = openDriver();
const opened: CudaDevice[] = [];
const open = CudaDevice.open.bind(CudaDevice);
CudaDevice.open = async (...args) => {
  const device = await open(...args);
  opened.push(device);
  return device;
};

/** Bytes that the first device has left. */
function freeBytes({ symbols }: Deno.DynamicLibrary<typeof CALLS>): number {
  const [context, free, total] = [0, 0, 0].map(() => new BigUint64Array(1));
  const check = (code: number, call: string) => {
    if (code !== 0) throw new Error(`${call} gave ${code}`);
  };
  check(symbols.cuInit(0), "cuInit");
  check(symbols.cuDevicePrimaryCtxRetain(context, 0), "cuDevicePrimaryCtxRetain");
  try {
    check(symbols.cuCtxSetCurrent(context[0]), "cuCtxSetCurrent");
    check(symbols.cuMemGetInfo_v2(free, total), "cuMemGetInfo");
  } finally {
    symbols.cuDevicePrimaryCtxRelease_v2(0);
  }
  return Number(free[0]);
}

/** What tests are given in the emulator's place. */
const stand = {
  path: Deno.env.get("KVZ_CUDA_LIBRARY") ?? "libcuda.so.1",
  set(name: string): void {
    throw new LeftOut(`it sets ${name}`);
  },
  count(_: string): number {
    return opened.reduce((sum, device) => sum + device.bytesInUse, 0);
  },
};

/** What tests call an emulator. */
export type Emulator = typeof stand;

const late: (() => void)[] = [];

/** Registers a test that runs on the driver, if the driver can do what it needs. */
export function testEmulated(
  name: string,
  settings: Readonly<Record<string, number>>,
  test: (emulator: Emulator) => Promise<void>,
): void {
  if (driver === null) return;
  const needs = Object.entries(settings).filter(([setting, value]) => setting !== "busy" || value > BUSY);
  if (needs.length > 0) {
    console.error(`Left out: "${name}" sets ${needs.map(([setting]) => setting).join(", ")}`);
    return;
  }
  const register = () => Deno.test(`driver of cuda: ${name}`, () => onDriver(driver, name, test));
  if (LAST.test(name)) late.push(register);
  else register();
}

/** Registers what comes last. */
export function registerLast(): void {
  for (const register of late.splice(0)) register();
}

async function onDriver(
  library: Deno.DynamicLibrary<typeof CALLS>,
  name: string,
  test: (emulator: Emulator) => Promise<void>,
): Promise<void> {
  // The first context of all leaves something behind.
  freeBytes(library);
  const before = freeBytes(library);
  try {
    await test(stand);
  } catch (error) {
    if (!(error instanceof LeftOut)) throw error;
    console.error(`Left out: "${name}", ${error.message}`);
  } finally {
    for (const device of opened.splice(0)) device[Symbol.dispose]();
  }
  if (LAST.test(name)) return;
  const lost = before - freeBytes(library);
  if (lost > TOLERANCE) throw new Error(`Not given back: ${lost} bytes, at most ${TOLERANCE} expected`);
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
