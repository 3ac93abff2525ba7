/**
 * What CUDA has beside the kernels of every GPU: layouts for its own products and of every element type, products of
 * binary16 by its own kernels, and by cuBLASLt where that is present.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import { CublasLt } from "../../src/backend/cuda/cublaslt.ts";
import type { DeviceFacts } from "../../src/backend/cuda/driver.ts";
import { CudaGemm, type Order, type Product } from "../../src/backend/cuda/gemm.ts";
import { CudaInteger } from "../../src/backend/cuda/integer.ts";
import { CudaRows } from "../../src/backend/cuda/rows.ts";
import { BYTES_PER_ELEMENT } from "../../src/cache/types.ts";
import { COMPONENTS } from "./kernel_cases.ts";
import { DIM, FEATURES, filled, HEADS, type Kernel, random, randomElements, randomHalves } from "./operands.ts";

/** Elements of heads that are no whole vectors. */
const ODD_DIM = 30;

/** The kernels on so many tokens; none on other backends. */
export async function cudaKernels(backend: Backend, tokens: number): Promise<Kernel[]> {
  if (!(backend instanceof CudaBackend)) return [];
  return [...layoutKernels(backend, tokens), ...await productKernels(backend, tokens)];
}

/**
 * Multiply-adds of binary16 with binary32 sums a clock that a multiprocessor's tensor cores have, dense, by compute
 * capability (NVIDIA's papers on the architectures of A100 and H100). Boards of 8.6 and 8.9 differ among themselves.
 */
const PER_CLOCK: Readonly<Record<string, number>> = { "8.0": 1024, "9.0": 2048 };

/** {@linkcode peakOf} of a backend's device. */
export function nominalPeak(backend: Backend): number | null {
  return backend instanceof CudaBackend ? peakOf(backend.device.facts) : null;
}

/** 10^9 operations a second that the tensor cores have at the clock that the driver names; null where it is not known. */
export function peakOf(
  { computeCapability, multiprocessors, clockHertz }: Pick<
    DeviceFacts,
    "computeCapability" | "multiprocessors" | "clockHertz"
  >,
): number | null {
  const perClock = PER_CLOCK[computeCapability.join(".")];
  return perClock === undefined || clockHertz === null ? null : 2 * multiprocessors * perClock * clockHertz / 1e9;
}

/** Every instance of the kernels between elements and rows that the rows of all backends leave out. */
function layoutKernels(backend: CudaBackend, tokens: number): Kernel[] {
  const { device } = backend;
  const [rows, integer] = [new CudaRows(device), new CudaInteger(device)];
  const count = FEATURES * tokens;
  const [mean, scales] = [filled(backend, random(FEATURES)), filled(backend, random(FEATURES))];
  const [rotation, tokenScales] = [filled(backend, random(tokens * DIM, 2)), filled(backend, random(tokens))];
  const [floats, halves] = [randomElements(backend, count, "f32"), backend.alloc(2 * count)];
  return (["f32", "f16", "bf16"] as const).flatMap((dtype) => {
    const elements = randomElements(backend, count, dtype);
    const size = BYTES_PER_ELEMENT[dtype];
    return [DIM, ODD_DIM].flatMap((dim): Kernel[] => {
      const shape = { dtype, blocks: HEADS * DIM / dim, tokens, dim, rotaryDim: dim };
      const name = `${dtype}, heads of ${dim}`;
      const plain: Kernel[] = [
        {
          name: `gather, ${name}`,
          bytes: count * (4 + size),
          run: () => rows.gather(elements, shape, rotation, mean, floats),
        },
        {
          name: `scatter, ${name}`,
          bytes: count * (4 + size),
          run: () => rows.scatter(floats, shape, rotation, mean, elements),
        },
      ];
      return [
        // All backends have the others.
        ...(dim === ODD_DIM && dtype !== "f16" ? plain : []),
        {
          name: `gather to halves, ${name}`,
          bytes: count * (2 + size),
          run: () => rows.gatherHalf(elements, shape, rotation, mean, halves),
        },
        {
          name: `scatter of sums, ${name}`,
          bytes: count * (4 + size),
          run: () => integer.scatterSums(floats, shape, scales, tokenScales, rotation, mean, elements),
        },
      ];
    });
  });
}

/** Products of binary16 alone, without the layouts that fused calls have around them. */
async function productKernels(backend: CudaBackend, tokens: number): Promise<Kernel[]> {
  const { device } = backend;
  const own = new CudaGemm(device, null);
  const cublas = await CublasLt.open(device, 0);
  const wide = filled(backend, randomHalves(tokens * FEATURES, 2));
  const basis = filled(backend, randomHalves(COMPONENTS * FEATURES, 0.05));
  const out = backend.alloc(tokens * FEATURES * 4);
  const shared = { a: wide, b: device.address(basis), ldb: FEATURES, c: out, m: tokens };
  const products: readonly (readonly [string, Order, Product])[] = [
    ["rows", "ByRows", { ...shared, lda: FEATURES, n: COMPONENTS, k: FEATURES, limit: COMPONENTS }],
    ["columns", "ByColumns", { ...shared, lda: COMPONENTS, n: FEATURES, k: COMPONENTS, limit: FEATURES }],
  ];
  return products.flatMap(([name, order, product]): Kernel[] => {
    const flop = 2 * tokens * FEATURES * COMPONENTS;
    const bytes = 2 * (tokens * product.k + COMPONENTS * FEATURES) + 4 * tokens * product.n;
    const library = cublas !== null && cublas.multiply(order === "ByRows", product, 1) ? cublas : null;
    const kernels: Kernel[] = [
      { name: `f16 product by ${name}`, bytes, flop, run: () => own.halves(order, product, 1) },
    ];
    if (library !== null) {
      kernels.push({
        name: `cuBLASLt product by ${name}`,
        bytes,
        flop,
        limit: true,
        run: () => void library.multiply(order === "ByRows", product, 1),
      });
    }
    return kernels;
  });
}
