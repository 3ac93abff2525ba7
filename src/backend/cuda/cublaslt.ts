/**
 * cuBLASLt, NVIDIA's library of matrix products, where it is present: binary16 products with binary32 sums. It is never
 * required. Numbers are those of cublasLt.h and library_types.h, the same in versions 12 and 13.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { CudaBuffer, CudaDevice } from "./device.ts";
import { environment, type NativeCalls, nativePlatform, openNative } from "./native.ts";

/** Variable that names the library: a path, or "off". */
const VARIABLE = "KVZ_CUBLASLT";
/** Names of versions 13 and 12, the newer first. */
const NAMES = ["libcublasLt.so.13", "libcublasLt.so.12"];
const WINDOWS_NAMES = ["cublasLt64_13.dll", "cublasLt64_12.dll"];

const TABLE = {
  cublasLtCreate: ["buffer"],
  cublasLtDestroy: ["u64"],
  cublasLtMatmulDescCreate: ["buffer", "i32", "i32"],
  cublasLtMatmulDescDestroy: ["u64"],
  cublasLtMatmulDescSetAttribute: ["u64", "i32", "buffer", "u64"],
  cublasLtMatrixLayoutCreate: ["buffer", "i32", "u64", "u64", "i64"],
  cublasLtMatrixLayoutDestroy: ["u64"],
  cublasLtMatmulPreferenceCreate: ["buffer"],
  cublasLtMatmulPreferenceDestroy: ["u64"],
  cublasLtMatmulPreferenceSetAttribute: ["u64", "i32", "buffer", "u64"],
  cublasLtMatmulAlgoGetHeuristic: ["u64", "u64", "u64", "u64", "u64", "u64", "u64", "i32", "buffer", "buffer"],
  cublasLtMatmul: [
    ...["u64", "u64", "buffer", "u64", "u64", "u64", "u64", "buffer"] as const,
    ...["u64", "u64", "u64", "u64", "buffer", "u64", "u64", "u64"] as const,
  ],
} as const;

/** cudaDataType_t. */
const TYPES = { f32: 0, f16: 2 } as const;
/** CUBLAS_COMPUTE_32F. */
const COMPUTE_32F = 68;
/** CUBLASLT_MATMUL_DESC_TRANSA, and CUBLAS_OP_T. */
const TRANSPOSE_FIRST = 3;
const TRANSPOSED = 1;
/** CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, …_MIN_ALIGNMENT_{A, B, C, D}_BYTES. */
const MOST_WORKSPACE = 1;
const LEAST_ALIGNMENTS = [5, 6, 7, 8];
/** CUBLAS_STATUS_NOT_SUPPORTED: no algorithm for the product. */
const NOT_SUPPORTED = 15;
/** sizeof(cublasLtMatmulHeuristicResult_t): 64 bytes of algorithm first. */
const RESULT_BYTES = 96;
const WORKSPACE_BYTES = 64 << 20;
/** Multiplications from which the library's way to a product is shorter. */
const LEAST = 2 ** 27;

/** c[m][n] = factor · a[m][k] · b, or its transpose; rows of c lie densely. */
export interface HalfProduct {
  readonly a: DeviceBuffer;
  readonly lda: number;
  /** Address. */
  readonly b: number;
  readonly ldb: number;
  readonly c: DeviceBuffer;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Descriptors of a product's shape, and the algorithm that was chosen; null when there is none. */
interface Plan {
  readonly operation: number;
  readonly first: number;
  readonly second: number;
  readonly result: number;
  readonly algorithm: Uint8Array<ArrayBuffer> | null;
}

/** What was found of it. */
export interface FoundCublasLt {
  readonly library: CublasLt | null;
  /** Path of the library, or why none is used. */
  readonly detail: string;
}

/** There is no library of a name. */
class AbsentError extends KvzBackendError {}

/** The library on one device. */
export class CublasLt {
  /** Multiplications of a product from which it is to be asked. */
  readonly least: number;
  readonly #calls: NativeCalls<typeof TABLE>;
  readonly #device: CudaDevice;
  readonly #handle: number;
  readonly #plans = new Map<string, Plan>();
  readonly #out = new BigUint64Array(1);
  readonly #factor = new Float32Array(1);
  readonly #zero = new Float32Array(1);
  #workspace: CudaBuffer | null = null;

  private constructor(calls: NativeCalls<typeof TABLE>, device: CudaDevice, least: number, handle: number) {
    this.least = least;
    this.#calls = calls;
    this.#device = device;
    this.#handle = handle;
  }

  /**
   * Opens it for a device.
   *
   * @returns null when there is none that works, or KVZ_CUBLASLT is "off"
   * @throws {KvzBackendError} when the library that KVZ_CUBLASLT names cannot be loaded, or does not start.
   */
  static async open(device: CudaDevice, least: number = LEAST): Promise<CublasLt | null> {
    return (await CublasLt.look(device, least)).library;
  }

  /** As {@linkcode open}, with the path of the library or why none is used. */
  static async look(device: CudaDevice, least: number = LEAST): Promise<FoundCublasLt> {
    const named = environment(VARIABLE);
    if (named === "off") return { library: null, detail: `not used: ${VARIABLE} is off` };
    if (named === undefined) {
      const names = nativePlatform()?.startsWith("win") ? WINDOWS_NAMES : NAMES;
      return await CublasLt.find(device, names, least);
    }
    try {
      return { library: await CublasLt.#load(named, device, least), detail: named };
    } catch (cause) {
      const which = `${VARIABLE} names ${named}, which cannot be used`;
      throw new KvzBackendError(`Cannot use cuBLASLt: ${which} (${(cause as Error).message})`, { cause });
    }
  }

  /** The first of several libraries that works: one that is there may be too new for the driver. */
  static async find(device: CudaDevice, paths: readonly string[], least: number = LEAST): Promise<FoundCublasLt> {
    const failures: string[] = [];
    for (const path of paths) {
      try {
        return { library: await CublasLt.#load(path, device, least), detail: path };
      } catch (error) {
        if (!(error instanceof KvzBackendError)) throw error;
        if (!(error instanceof AbsentError)) failures.push(error.message);
      }
    }
    const reason = failures.length > 0 ? failures.join("; ") : `none of ${paths.join(", ")} can be loaded`;
    return { library: null, detail: `not used: ${reason}` };
  }

  static async #load(path: string, device: CudaDevice, least: number): Promise<CublasLt> {
    const { calls, lacks } = await openNative(path, TABLE).catch((cause) => {
      throw new AbsentError((cause as Error).message, { cause });
    });
    if (lacks.length > 0) throw new KvzBackendError(`${path} has no function ${lacks[0]}`);
    const out = new BigUint64Array(1);
    const status = device.enqueue(() => calls.cublasLtCreate(out));
    if (status !== 0) throw new KvzBackendError(`${path}: cublasLtCreate gave status ${status}`);
    return new CublasLt(calls, device, least, Number(out[0]));
  }

  /**
   * Enqueues a product of row-major matrices. `byRows`: b has n rows of k halves, else k rows of n.
   *
   * @returns false when the library has no algorithm for it
   * @throws {KvzBackendError} when it fails.
   */
  multiply(byRows: boolean, product: HalfProduct, factor: number): boolean {
    const { a, b, c } = product;
    const [aAddress, cAddress] = [this.#device.address(a), this.#device.address(c)];
    const plan = this.#device.enqueue(() => this.#plan(byRows, product, [b, aAddress, cAddress]));
    if (plan.algorithm === null) return false;
    this.#workspace ??= this.#device.alloc(WORKSPACE_BYTES);
    const workspace = this.#device.address(this.#workspace);
    const { operation, first, second, result, algorithm } = plan;
    this.#factor[0] = factor;
    const status = this.#device.enqueue((stream) =>
      this.#calls.cublasLtMatmul(
        ...[this.#handle, operation, this.#factor, b, first, aAddress, second, this.#zero] as const,
        ...[cAddress, result, cAddress, result, algorithm, workspace, WORKSPACE_BYTES, stream] as const,
      ), "cublasLt.matmul");
    this.#check(status, "cublasLtMatmul");
    return true;
  }

  /** Gives everything back; the device must still be open. */
  [Symbol.dispose](): void {
    for (const { operation, first, second, result } of this.#plans.values()) {
      this.#calls.cublasLtMatmulDescDestroy(operation);
      for (const layout of [first, second, result]) this.#calls.cublasLtMatrixLayoutDestroy(layout);
    }
    this.#plans.clear();
    this.#workspace?.free();
    this.#workspace = null;
    this.#calls.cublasLtDestroy(this.#handle);
  }

  #plan(byRows: boolean, { lda, ldb, m, n, k }: HalfProduct, addresses: readonly number[]): Plan {
    const alignment = Math.min(...addresses.map(alignmentOf));
    const key = [byRows, m, n, k, lda, ldb, alignment].join();
    let plan = this.#plans.get(key);
    if (plan === undefined) {
      // The library's matrices are column-major: it computes the transpose of c, b first. Where b's rows are columns of c
      // it is seen as k × n, and transposed.
      const operation = this.#create("cublasLtMatmulDescCreate", COMPUTE_32F, TYPES.f32);
      if (byRows) {
        this.#check(
          this.#calls.cublasLtMatmulDescSetAttribute(operation, TRANSPOSE_FIRST, Int32Array.of(TRANSPOSED), 4),
          "cublasLtMatmulDescSetAttribute",
        );
      }
      const first = byRows ? this.#layout(TYPES.f16, k, n, ldb) : this.#layout(TYPES.f16, n, k, ldb);
      const second = this.#layout(TYPES.f16, k, m, lda);
      const result = this.#layout(TYPES.f32, n, m, n);
      const algorithm = this.#choose(operation, [first, second, result, result], alignment);
      plan = { operation, first, second, result, algorithm };
      this.#plans.set(key, plan);
    }
    return plan;
  }

  #layout(type: number, rows: number, columns: number, stride: number): number {
    return this.#create("cublasLtMatrixLayoutCreate", type, rows, columns, stride);
  }

  #create(name: keyof typeof TABLE, ...values: number[]): number {
    const call = this.#calls[name] as (...values: (number | BigUint64Array<ArrayBuffer>)[]) => number;
    this.#check(call(this.#out, ...values), name);
    return Number(this.#out[0]);
  }

  #choose(operation: number, layouts: readonly number[], alignment: number): Uint8Array<ArrayBuffer> | null {
    const preference = this.#create("cublasLtMatmulPreferenceCreate");
    const set = (attribute: number, value: ArrayBufferView<ArrayBuffer>) =>
      this.#check(
        this.#calls.cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, value.byteLength),
        "cublasLtMatmulPreferenceSetAttribute",
      );
    set(MOST_WORKSPACE, BigUint64Array.of(BigInt(WORKSPACE_BYTES)));
    for (const attribute of LEAST_ALIGNMENTS) set(attribute, Uint32Array.of(alignment));
    const [first, second, source, target] = layouts;
    const result = new Uint8Array(RESULT_BYTES);
    const count = new Int32Array(1);
    const status = this.#calls.cublasLtMatmulAlgoGetHeuristic(
      ...[this.#handle, operation, first, second, source, target, preference, 1] as const,
      result,
      count,
    );
    this.#calls.cublasLtMatmulPreferenceDestroy(preference);
    if (status === NOT_SUPPORTED) return null;
    this.#check(status, "cublasLtMatmulAlgoGetHeuristic");
    return count[0] > 0 && new DataView(result.buffer).getInt32(72, true) === 0 ? result : null;
  }

  #check(status: number, what: string): void {
    if (status !== 0) throw new KvzBackendError(`Cannot multiply with cuBLASLt: ${what} gave status ${status}`);
  }
}

/** Largest power of two, up to 256, that divides an address. */
function alignmentOf(address: number): number {
  let alignment = 256;
  while (address % alignment !== 0) alignment /= 2;
  return alignment;
}
