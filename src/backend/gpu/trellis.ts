/**
 * Kernels of prediction and trellis-coded quantization on a GPU, many chunks a call. decodeTrellisReference and
 * encodeTrellisReference define every integer.
 *
 * @module
 */

/** The kernels. Calls enqueue. */
export interface GpuTrellis {
  readonly name: "trellis";
}
