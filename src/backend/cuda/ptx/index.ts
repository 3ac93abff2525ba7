// Made by `deno run -A tools/build_cuda.ts`. Do not edit.

/** The modules of cuda/. */
export const MODULES = {
  blocks: (): Promise<{ readonly ptx: string }> => import("./blocks.ts"),
  dense: (): Promise<{ readonly ptx: string }> => import("./dense.ts"),
  elementwise: (): Promise<{ readonly ptx: string }> => import("./elementwise.ts"),
  gemm: (): Promise<{ readonly ptx: string }> => import("./gemm.ts"),
  groups: (): Promise<{ readonly ptx: string }> => import("./groups.ts"),
  huffman: (): Promise<{ readonly ptx: string }> => import("./huffman.ts"),
  integer: (): Promise<{ readonly ptx: string }> => import("./integer.ts"),
  quantize: (): Promise<{ readonly ptx: string }> => import("./quantize.ts"),
  rans_decode: (): Promise<{ readonly ptx: string }> => import("./rans_decode.ts"),
  rans_encode: (): Promise<{ readonly ptx: string }> => import("./rans_encode.ts"),
  symbols: (): Promise<{ readonly ptx: string }> => import("./symbols.ts"),
  trellis: (): Promise<{ readonly ptx: string }> => import("./trellis.ts"),
  trellis_encode: (): Promise<{ readonly ptx: string }> => import("./trellis_encode.ts"),
  trellis_levels: (): Promise<{ readonly ptx: string }> => import("./trellis_levels.ts"),
} as const;
