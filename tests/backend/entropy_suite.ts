/**
 * The entropy coder's kernels of a GPU against the reference, without the test runner: part of kernel_suite.ts.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { type GpuEntropy, mostBytes } from "../../src/backend/gpu/entropy.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import { normalizeTables, type RansTables } from "../../src/stages/entropy/rans_tables.ts";

/** Any table will do: next states by 2 · state + parity. */
const NEXT = Uint8Array.of(0, 4, 5, 1, 6, 2, 3, 7, 1, 5, 4, 0, 7, 3, 2, 6);
const TABLES = 2;

/** Whole numbers below `below` from a seed (a linear congruential generator's upper bits). */
function numbers(seed: number): (below: number) => number {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed >>> 8) / 2 ** 24 * below);
  };
}

/** Checks by name: what differs, or "". */
export function entropyChecks(backend: Backend): [kernel: string, run: () => Promise<string>][] {
  const kernels = backend.gpu?.entropy ?? null;
  if (kernels === null) return [];
  const checks: [string, () => Promise<string>][] = [];
  for (const variant of ["plain", "trellis"] as const) {
    for (
      const [streams, rows, tokens] of [[5, 3, 70], [3, 4, 128], [40, 2, 33], [2, 5, 300], [1, 2, 1000], [1500, 1, 3]]
    ) {
      const name = `rANS, ${variant} contexts, ${streams} streams of ${rows} × ${tokens}`;
      checks.push([name, () => coderDifference(backend, kernels, variant, streams, rows, tokens)]);
    }
  }
  for (const [rows, tokens] of [[7, 50], [3, 70_000]]) {
    checks.push([`histogram ${rows} × ${tokens}`, () => histogramDifference(backend, kernels, rows, tokens)]);
  }
  for (const [stride, tokens, rows, chunk] of [[68, 132, 66, 64], [9, 77, 7, 20]]) {
    checks.push([
      `transposed symbols ${tokens} × ${rows} of ${stride}, chunks of ${chunk}`,
      () => transposeDifference(backend, kernels, stride, tokens, rows, chunk),
    ]);
  }
  return checks;
}

function upload(backend: Backend, data: ArrayBufferView): DeviceBuffer {
  const buffer = backend.alloc(data.byteLength);
  backend.write(buffer, data);
  return buffer;
}

function difference(found: ArrayLike<number>, wanted: ArrayLike<number>, what: string): string {
  for (let i = 0; i < wanted.length; i++) {
    if (found[i] !== wanted[i]) return `${what} ${i} is ${found[i]}, expected ${wanted[i]}`;
  }
  return "";
}

async function coderDifference(
  backend: Backend,
  kernels: GpuEntropy,
  variant: RansContexts["variant"],
  streams: number,
  rows: number,
  tokens: number,
): Promise<string> {
  const next = numbers(streams * tokens);
  const batch = { streams, rows, tokens };
  const count = rows * tokens;
  const weights = Array.from(
    { length: TABLES },
    () => Array.from({ length: 200 }, (_, s) => (1 + next(9)) / (1 + s * s)),
  );
  const tables: RansTables = normalizeTables(weights, 11);
  const list = (length: number, below: number) => Array.from({ length }, () => next(below));
  const contexts = Array.from(
    { length: streams },
    (): RansContexts =>
      variant === "plain" ? { variant, tableOf: Uint16Array.from(list(rows, TABLES)) } : {
        variant,
        classes: Uint8Array.from(list(rows * 16, TABLES / 2)),
        kinds: Uint8Array.from(list(tokens, 16)),
        next: NEXT,
      },
  );
  const symbols = Uint8Array.from({ length: streams * count }, () => next(next(next(200) + 1) + 1));
  const onDevice = kernels.uploadTables(tables);
  const chosen = kernels.uploadContexts(contexts, batch, TABLES);
  const [from, bytes, restored] = [symbols, mostBytes(batch), symbols.length].map((it) =>
    typeof it === "number" ? backend.alloc(it) : upload(backend, it)
  );
  const [begins, lengths, status] = [4, 0, 0].map((more) => backend.alloc(4 * streams + more));
  kernels.encode(from, batch, onDevice, chosen, bytes, begins, lengths);
  kernels.decode(bytes, begins, batch, onDevice, chosen, restored, status, lengths);
  const words = async (buffer: DeviceBuffer) => new Uint32Array((await backend.read(buffer)).buffer);
  const [at, length, coded] = [await words(begins), await words(lengths), await backend.read(bytes)];
  const rans = new ReferenceRans(tables);
  for (let i = 0; i < streams; i++) {
    const wanted = rans.encode(symbols.subarray(i * count, (i + 1) * count), rows, tokens, contexts[i]);
    if (length[i] !== wanted.length) return `stream ${i} has ${length[i]} bytes, expected ${wanted.length}`;
    const wrong = difference(coded.subarray(at[i], at[i] + length[i]), wanted, `stream ${i}, byte`);
    if (wrong !== "") return wrong;
  }
  return difference(await words(status), new Uint32Array(streams), "status") ||
    difference(await backend.read(restored), symbols, "symbol");
}

async function histogramDifference(
  backend: Backend,
  kernels: GpuEntropy,
  rows: number,
  tokens: number,
): Promise<string> {
  const next = numbers(rows);
  const symbols = Uint8Array.from({ length: rows * tokens }, () => next(next(256) + 1));
  const wanted = new Uint32Array(rows * 200);
  symbols.forEach((symbol, i) => symbol < 200 && wanted[Math.floor(i / tokens) * 200 + symbol]++);
  const counts = backend.alloc(wanted.byteLength);
  kernels.histogram(upload(backend, symbols), rows, tokens, 200, counts);
  return difference(new Uint32Array((await backend.read(counts)).buffer), wanted, "count");
}

async function transposeDifference(
  backend: Backend,
  kernels: GpuEntropy,
  stride: number,
  tokens: number,
  rows: number,
  chunk: number,
): Promise<string> {
  const next = numbers(stride);
  const symbols = Uint8Array.from({ length: stride * tokens }, () => next(256));
  const wanted = new Uint8Array(tokens * rows);
  for (let first = 0, at = 0; first < tokens; first += chunk) {
    for (let row = 0; row < rows; row++) {
      for (let t = first; t < Math.min(tokens, first + chunk); t++) wanted[at++] = symbols[t * stride + row];
    }
  }
  const [to, back] = [backend.alloc(wanted.length), upload(backend, new Uint8Array(symbols.length))];
  kernels.transpose(upload(backend, symbols), stride, tokens, rows, chunk, to);
  kernels.untranspose(to, stride, tokens, rows, chunk, back);
  const restored = symbols.map((symbol, i) => i % stride < rows ? symbol : 0);
  return difference(await backend.read(to), wanted, "transposed symbol") ||
    difference(await backend.read(back), restored, "symbol");
}
