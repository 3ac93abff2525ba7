/**
 * Flags of GPUBufferUsage and GPUMapMode. The globals only exist where a runtime has WebGPU itself.
 *
 * @module
 */

/** GPUBufferUsage. */
export const USAGE = {
  mapRead: 0x0001,
  copySrc: 0x0004,
  copyDst: 0x0008,
  uniform: 0x0040,
  storage: 0x0080,
  queryResolve: 0x0200,
} as const;

/** GPUMapMode.READ. */
export const MAP_READ = 0x0001;

/** What every buffer of the backend is used for. */
export const STORAGE_USAGE: number = USAGE.storage | USAGE.copySrc | USAGE.copyDst;
