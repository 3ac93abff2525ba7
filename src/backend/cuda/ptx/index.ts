// Made by `deno run -A tools/build_cuda.ts`. Do not edit.

/** The modules of cuda/. */
export const MODULES = {
  elementwise: (): Promise<{ readonly ptx: string }> => import("./elementwise.ts"),
  products: (): Promise<{ readonly ptx: string }> => import("./products.ts"),
  quantize: (): Promise<{ readonly ptx: string }> => import("./quantize.ts"),
} as const;
