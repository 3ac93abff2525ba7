/**
 * CUDA C++ to PTX with NVRTC 12.0, whose PTX ISA 8.0 drivers from 525 (December 2022) on take. Its wheel (Linux,
 * x86-64) comes from PyPI.
 *
 * @module
 */
import { run } from "./exec.ts";

const VERSION = "12.0.140";
const OPTIONS = ["--std=c++17", "-fmad=false", "-default-device", "-dopt=on"];

const SYMBOLS = {
  nvrtcCreateProgram: { parameters: ["buffer", "buffer", "buffer", "i32", "pointer", "pointer"], result: "i32" },
  nvrtcCompileProgram: { parameters: ["pointer", "i32", "buffer"], result: "i32" },
  nvrtcGetProgramLogSize: { parameters: ["pointer", "buffer"], result: "i32" },
  nvrtcGetProgramLog: { parameters: ["pointer", "buffer"], result: "i32" },
  nvrtcGetPTXSize: { parameters: ["pointer", "buffer"], result: "i32" },
  nvrtcGetPTX: { parameters: ["pointer", "buffer"], result: "i32" },
  nvrtcDestroyProgram: { parameters: ["buffer"], result: "i32" },
} as const;

/** A C string. */
function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(value + "\0");
}

/** The compiler. */
export class Nvrtc {
  readonly #library: Deno.DynamicLibrary<typeof SYMBOLS>;
  private constructor(path: string) {
    this.#library = Deno.dlopen(path, SYMBOLS);
  }

  /** Opens it from a folder that keeps it, into which it is loaded at the first use. */
  static async open(cache: string): Promise<Nvrtc> {
    const path = `${cache}/nvrtc_${VERSION}/nvidia/cuda_nvrtc/lib/libnvrtc.so.12`;
    try {
      await Deno.stat(path);
    } catch {
      await Deno.mkdir(cache, { recursive: true });
      const download = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", cache];
      await run(["python3", "-m", "pip", ...download, `nvidia-cuda-nvrtc-cu12==${VERSION}`]);
      const wheel = `${cache}/nvidia_cuda_nvrtc_cu12-${VERSION}-py3-none-manylinux1_x86_64.whl`;
      await run(["python3", "-m", "zipfile", "-e", wheel, `${cache}/nvrtc_${VERSION}`]);
      await Deno.remove(wheel);
    }
    return new Nvrtc(path);
  }

  /**
   * The PTX of a source.
   *
   * @param include folder of its headers
   * @throws {Error} with the compiler's log when it does not compile
   */
  compile(name: string, source: string, include: string): string {
    return this.#compile(name, source, include, "compute_80");
  }

  /**
   * Compiles to the end, for compute capability 9.0, what PTX alone does not show.
   *
   * @throws {Error} with the compiler's log when a function is missing, or an instruction is not right.
   */
  assemble(name: string, source: string, include: string): void {
    this.#compile(name, source, include, "sm_90");
  }

  #compile(name: string, source: string, include: string, architecture: string): string {
    const nvrtc = this.#library.symbols;
    const handle = new BigUint64Array(1);
    this.#check(nvrtc.nvrtcCreateProgram(handle, text(source), text(name), 0, null, null), name);
    const program = Deno.UnsafePointer.create(handle[0]);
    try {
      const options = [`--gpu-architecture=${architecture}`, ...OPTIONS, `--include-path=${include}`].map(text);
      const pointers = BigUint64Array.from(options, (o) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(o)));
      const code = nvrtc.nvrtcCompileProgram(program, options.length, pointers);
      const log = this.#text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog");
      if (code !== 0) throw new Error(`Cannot compile ${name}:\n${log}`);
      if (log.trim() !== "") console.error(log);
      return this.#text(program, "nvrtcGetPTXSize", "nvrtcGetPTX");
    } finally {
      nvrtc.nvrtcDestroyProgram(handle);
    }
  }

  #text(
    program: Deno.PointerValue,
    size: "nvrtcGetProgramLogSize" | "nvrtcGetPTXSize",
    get: "nvrtcGetProgramLog" | "nvrtcGetPTX",
  ): string {
    const length = new BigUint64Array(1);
    this.#check(this.#library.symbols[size](program, length), size);
    const bytes = new Uint8Array(Number(length[0]));
    this.#check(this.#library.symbols[get](program, bytes), get);
    return new TextDecoder().decode(bytes.subarray(0, -1));
  }

  #check(code: number, what: string): void {
    if (code !== 0) throw new Error(`NVRTC failed at ${what} with error ${code}`);
  }
}
