/**
 * The driver: versions, devices, results. Errors become KvzBackendError; one that ends the device's context is remembered.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { FailedBackendError } from "../gpu/failed.ts";
import { openLibrary } from "./library.ts";
import type { NativeLibrary } from "./native.ts";
import type { Calls, DriverTable } from "./symbols.ts";

/** Oldest driver: it takes the PTX ISA 8.0 of our kernels. */
const OLDEST_DRIVER = 12000;
/** Oldest compute capability. */
const OLDEST_MAJOR = 8;

/** CUresult: what a call that worked gives. */
export const SUCCESS = 0;
/** CUresult: work before an event is not done. */
export const NOT_READY = 600;
/** CUresult: no memory. */
export const OUT_OF_MEMORY = 2;
/** CUresult: the device or its driver has not what is asked for. */
export const NOT_SUPPORTED = 801;

/** Names of errors that users meet (cuda.h, CUresult). */
const NAMES: Readonly<Record<number, string>> = {
  1: "CUDA_ERROR_INVALID_VALUE",
  2: "CUDA_ERROR_OUT_OF_MEMORY",
  3: "CUDA_ERROR_NOT_INITIALIZED",
  4: "CUDA_ERROR_DEINITIALIZED",
  34: "CUDA_ERROR_STUB_LIBRARY",
  36: "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER",
  46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
  100: "CUDA_ERROR_NO_DEVICE",
  101: "CUDA_ERROR_INVALID_DEVICE",
  102: "CUDA_ERROR_DEVICE_NOT_LICENSED",
  200: "CUDA_ERROR_INVALID_IMAGE",
  201: "CUDA_ERROR_INVALID_CONTEXT",
  209: "CUDA_ERROR_NO_BINARY_FOR_GPU",
  214: "CUDA_ERROR_ECC_UNCORRECTABLE",
  218: "CUDA_ERROR_INVALID_PTX",
  220: "CUDA_ERROR_NVLINK_UNCORRECTABLE",
  221: "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
  222: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
  223: "CUDA_ERROR_JIT_COMPILATION_DISABLED",
  226: "CUDA_ERROR_CONTAINED",
  400: "CUDA_ERROR_INVALID_HANDLE",
  500: "CUDA_ERROR_NOT_FOUND",
  700: "CUDA_ERROR_ILLEGAL_ADDRESS",
  701: "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
  702: "CUDA_ERROR_LAUNCH_TIMEOUT",
  709: "CUDA_ERROR_CONTEXT_IS_DESTROYED",
  710: "CUDA_ERROR_ASSERT",
  714: "CUDA_ERROR_HARDWARE_STACK_ERROR",
  715: "CUDA_ERROR_ILLEGAL_INSTRUCTION",
  716: "CUDA_ERROR_MISALIGNED_ADDRESS",
  717: "CUDA_ERROR_INVALID_ADDRESS_SPACE",
  718: "CUDA_ERROR_INVALID_PC",
  719: "CUDA_ERROR_LAUNCH_FAILED",
  721: "CUDA_ERROR_TENSOR_MEMORY_LEAK",
  800: "CUDA_ERROR_NOT_PERMITTED",
  801: "CUDA_ERROR_NOT_SUPPORTED",
  802: "CUDA_ERROR_SYSTEM_NOT_READY",
  803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
  804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
  805: "CUDA_ERROR_MPS_CONNECTION_FAILED",
  810: "CUDA_ERROR_MPS_CLIENT_TERMINATED",
  911: "CUDA_ERROR_EXTERNAL_DEVICE",
  999: "CUDA_ERROR_UNKNOWN",
};

/** Errors of which cuda.h (13.0) says that the process gets nothing else from CUDA until it is started anew. */
const ENDS_PROCESS: ReadonlySet<number> = new Set([226, 700, 702, 714, 715, 716, 717, 718, 719, 721, 810, 911]);
/** Errors after which a context gives nothing but errors: the driver shuts down, the device or the context is gone. */
const ENDS_CONTEXT: ReadonlySet<number> = new Set([4, 46, 201, 214, 220, 709, 710, 999]);

/** Attributes of a device (cuda.h, CUdevice_attribute). */
export const ATTRIBUTES = {
  clockKilohertz: 13,
  multiprocessors: 16,
  major: 75,
  minor: 76,
  sharedBytes: 97,
  memoryPools: 115,
} as const;

/** Name and number of a CUresult. */
export function errorName(code: number): string {
  return code in NAMES ? `${NAMES[code]} (${code})` : `CUDA error ${code}`;
}

/** Whether an error ends the context. */
export function isSticky(code: number): boolean {
  return ENDS_CONTEXT.has(code) || ENDS_PROCESS.has(code);
}

/** What helps after an error that ended the context. */
export function adviceAfter(code: number): string {
  return ENDS_PROCESS.has(code)
    ? "start the process anew, as CUDA asks for after this error"
    : "dispose of it and make a new one";
}

/** A version as people write it: 12040 is 12.4. */
function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor(version % 1000 / 10)}`;
}

/** What is known of a device before it is opened. */
export interface DeviceFacts {
  readonly ordinal: number;
  readonly name: string;
  readonly computeCapability: readonly [major: number, minor: number];
  readonly multiprocessors: number;
  /** Clock of the multiprocessors, null where the driver does not tell. */
  readonly clockHertz: number | null;
  readonly totalBytes: number;
  /** Most shared memory that a block may ask for. */
  readonly sharedBytes: number;
  /** Whether memory can be had in the order of a stream. */
  readonly memoryPools: boolean;
}

/** The initialized driver. */
export class CudaDriver {
  readonly library: NativeLibrary<DriverTable>;
  readonly calls: Calls;

  private constructor(library: NativeLibrary<DriverTable>) {
    this.library = library;
    this.calls = library.calls;
  }

  /**
   * Loads and initializes it.
   *
   * @throws {KvzBackendError} when there is none, it is too old, or it finds no device.
   */
  static async open(): Promise<CudaDriver> {
    const driver = new CudaDriver(await openLibrary());
    const { calls } = driver;
    const out = new Int32Array(1);
    driver.require(calls.cuDriverGetVersion(out), "ask for the driver's version");
    if (out[0] < OLDEST_DRIVER) {
      throw new KvzBackendError(
        `Cannot use the cuda backend: the driver is for CUDA ${versionText(out[0])}, ` +
          `expected ${versionText(OLDEST_DRIVER)} or later`,
      );
    }
    const code = calls.cuInit(0);
    const found = code === SUCCESS ? calls.cuDeviceGetCount(out) : code;
    if (found === 100 || (found === SUCCESS && out[0] === 0)) {
      throw new KvzBackendError("Cannot use the cuda backend: the driver finds no device");
    }
    if (found !== SUCCESS) {
      throw new FailedBackendError(`Cannot use the cuda backend: its driver does not start: ${errorName(found)}`);
    }
    return driver;
  }

  /** How many devices there are. */
  get devices(): number {
    const out = new Int32Array(1);
    this.require(this.calls.cuDeviceGetCount(out), "count devices");
    return out[0];
  }

  /**
   * Facts of a device.
   *
   * @throws {KvzBackendError} when it is not there, or older than our kernels.
   */
  facts(ordinal: number): DeviceFacts {
    const { calls } = this;
    const count = this.devices;
    if (!(Number.isInteger(ordinal) && ordinal >= 0 && ordinal < count)) {
      throw new KvzBackendError(`Cannot use cuda device ${ordinal}: the driver finds ${count}, counted from 0`);
    }
    const out = new Int32Array(1);
    this.require(calls.cuDeviceGet(out, ordinal), `open device ${ordinal}`);
    const handle = out[0];
    const attribute = (which: number) => {
      this.require(calls.cuDeviceGetAttribute(out, which, handle), `ask for attribute ${which} of device ${ordinal}`);
      return out[0];
    };
    const chars = new Uint8Array(256);
    this.require(calls.cuDeviceGetName(chars, chars.length, handle), `ask for the name of device ${ordinal}`);
    const name = new TextDecoder().decode(chars.subarray(0, chars.indexOf(0)));
    const computeCapability = [attribute(ATTRIBUTES.major), attribute(ATTRIBUTES.minor)] as const;
    if (computeCapability[0] < OLDEST_MAJOR) {
      throw new KvzBackendError(
        `Cannot use cuda device ${ordinal} (${name}): its compute capability is ${computeCapability.join(".")}, ` +
          `expected ${OLDEST_MAJOR}.0 or later`,
      );
    }
    const bytes = new BigUint64Array(1);
    this.require(calls.cuDeviceTotalMem_v2(bytes, handle), `ask for the memory of device ${ordinal}`);
    return {
      ordinal,
      name,
      computeCapability,
      multiprocessors: attribute(ATTRIBUTES.multiprocessors),
      clockHertz: calls.cuDeviceGetAttribute(out, ATTRIBUTES.clockKilohertz, handle) === SUCCESS ? out[0] * 1e3 : null,
      totalBytes: Number(bytes[0]),
      sharedBytes: attribute(ATTRIBUTES.sharedBytes),
      memoryPools: attribute(ATTRIBUTES.memoryPools) !== 0,
    };
  }

  /** @throws {KvzBackendError} when a call failed. */
  require(code: number, what: string): void {
    if (code !== SUCCESS) throw new FailedBackendError(`Cannot ${what}: ${errorName(code)}`);
  }
}
