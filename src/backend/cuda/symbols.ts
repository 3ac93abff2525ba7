/**
 * What is called of the CUDA driver API: parameter types of each function. All return a CUresult.
 *
 * @module
 */
import type { NativeCalls, NativeTable } from "./native.ts";

/** Functions by name. */
export const SYMBOLS = {
  cuInit: ["u32"],
  cuDriverGetVersion: ["buffer"],
  cuDeviceGetCount: ["buffer"],
  cuDeviceGet: ["buffer", "i32"],
  cuDeviceGetName: ["buffer", "i32", "i32"],
  cuDeviceGetAttribute: ["buffer", "i32", "i32"],
  cuDeviceTotalMem_v2: ["buffer", "i32"],
  cuDevicePrimaryCtxRetain: ["buffer", "i32"],
  cuDevicePrimaryCtxRelease_v2: ["i32"],
  cuCtxSetCurrent: ["u64"],
  cuMemGetInfo_v2: ["buffer", "buffer"],
  cuModuleLoadDataEx: ["buffer", "buffer", "u32", "buffer", "buffer"],
  cuModuleUnload: ["u64"],
  cuModuleGetFunction: ["buffer", "u64", "buffer"],
  cuFuncSetAttribute: ["u64", "i32", "i32"],
  cuLaunchKernel: ["u64", "u32", "u32", "u32", "u32", "u32", "u32", "u32", "u64", "u64", "u64"],
  cuMemAlloc_v2: ["buffer", "u64"],
  cuMemFree_v2: ["u64"],
  cuMemPoolCreate: ["buffer", "buffer"],
  cuMemPoolDestroy: ["u64"],
  cuMemPoolSetAttribute: ["u64", "i32", "buffer"],
  cuMemAllocFromPoolAsync: ["buffer", "u64", "u64", "u64"],
  cuMemFreeAsync: ["u64", "u64"],
  cuMemcpyHtoDAsync_v2: ["u64", "u64", "u64", "u64"],
  cuMemcpyDtoHAsync_v2: ["u64", "u64", "u64", "u64"],
  cuMemcpyDtoDAsync_v2: ["u64", "u64", "u64", "u64"],
  cuMemsetD8Async: ["u64", "u32", "u64", "u64"],
  cuMemHostAlloc: ["buffer", "u64", "u32"],
  cuMemFreeHost: ["u64"],
  cuStreamCreate: ["buffer", "u32"],
  cuStreamDestroy_v2: ["u64"],
  cuStreamSynchronize: ["u64"],
  cuEventCreate: ["buffer", "u32"],
  cuEventDestroy_v2: ["u64"],
  cuEventRecord: ["u64", "u64"],
  cuEventQuery: ["u64"],
  cuEventSynchronize: ["u64"],
  cuEventElapsedTime: ["buffer", "u64", "u64"],
} as const satisfies NativeTable;

/** Their types. */
export type DriverTable = typeof SYMBOLS;

/** The functions as JavaScript calls them. */
export type Calls = NativeCalls<DriverTable>;
