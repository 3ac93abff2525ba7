/**
 * ggml's blocks on a GPU's backend against their definition, without the test runner.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { blockBytes } from "../../src/backend/gpu/blocks.ts";
import { BLOCK, BLOCK_BYTES, dequantizeBlocks, quantizeBlocks } from "../../src/stages/quantize/ggml_blocks.ts";

/**
 * Blocks of every size that float32 has, down to subnormal ones and up to scales beyond binary16: random values, those
 * next to the middles between codes, single ones, zeros of both signs.
 */
export function awkwardBlocks(blocks: number, seed: number): Float32Array {
  const next = () => {
    seed = Math.imul(seed, 1664525) + 1013904223 | 0;
    return (seed >>> 8) / 2 ** 24;
  };
  const x = new Float32Array(blocks * BLOCK);
  const words = new Uint32Array(x.buffer);
  for (let b = 0; b < blocks; b++) {
    const size = 2 ** Math.floor(277 * next() - 149.5);
    const most = (1 + next()) * size * (next() < 0.5 ? 1 : -1);
    const kind = Math.floor(6 * next());
    const steps = next() < 0.5 ? 127 : 8;
    for (let i = 0; i < BLOCK; i++) {
      const at = b * BLOCK + i;
      if (kind === 0) x[at] = most * (2 * next() - 1);
      else if (kind === 1) {
        x[at] = (Math.floor(2 * steps * next()) - steps + 0.5) / steps * most;
        const magnitude = words[at] & 0x7fffffff;
        if (magnitude > 1) words[at] += Math.floor(3 * next()) - 1;
      } else if (kind === 2) x[at] = most * (2 * next() - 1) * 2 ** -Math.floor(30 * next());
      else if (kind === 3) x[at] = i === Math.abs(most) % BLOCK ? most : next() < 0.5 ? 0 : -0;
      else if (kind === 4) x[at] = next() < 0.5 ? most : -most;
      else x[at] = next() < 0.5 ? 0 : -0;
    }
    if (kind < 3) x[b * BLOCK + Math.floor(BLOCK * next())] = most;
  }
  // What became infinite is no value of a cache.
  return x.map((value) => Number.isFinite(value) ? value : 1);
}

/** Checks by kernel, each giving what differs, or "". Nothing is asked of a device that does not round as the host does. */
export function blockChecks(backend: Backend): (readonly [kernel: string, run: () => Promise<string>])[] {
  const kernels = backend.gpu?.blocks ?? null;
  if (kernels === null) return [];
  return (["q8_0", "q4_0"] as const).flatMap((type) =>
    [1, 2, 301].flatMap((blocks) => {
      const x = awkwardBlocks(blocks, blocks);
      const wanted = quantizeBlocks(x, type);
      const size = blockBytes(blocks, type);
      const run = async (act: (values: ReturnType<Backend["alloc"]>, coded: ReturnType<Backend["alloc"]>) => void) => {
        const [values, coded] = [backend.alloc(x.byteLength), backend.alloc(size)];
        backend.write(values, x);
        const words = new Uint8Array(size).fill(0xff);
        words.set(wanted);
        backend.write(coded, words);
        act(values, coded);
        const result = [await backend.read(values, 0, x.byteLength), await backend.read(coded, 0, size)] as const;
        for (const buffer of [values, coded]) buffer.free();
        return result;
      };
      const difference = async (found: Uint8Array, expected: Uint8Array) => {
        if (!await kernels.exact()) return "";
        const at = expected.findIndex((byte, i) => byte !== found[i]);
        return at < 0 ? "" : `byte ${at} is ${found[at]}, expected ${expected[at]}`;
      };
      return [
        [
          `quantize ${blocks} blocks of ${type}`,
          async () => {
            const [, coded] = await run((values, coded) => kernels.quantize(values, blocks, type, coded));
            return await difference(coded, wanted);
          },
        ],
        [
          `restore ${blocks} blocks of ${type}`,
          async () => {
            const finite = finiteScales(wanted, BLOCK_BYTES[type]);
            const [values] = await run((values, coded) => {
              const words = new Uint8Array(size);
              words.set(finite);
              backend.write(coded, words);
              kernels.dequantize(coded, blocks, type, values);
            });
            return await difference(values, new Uint8Array(dequantizeBlocks(finite, type).buffer));
          },
        ],
      ] as const;
    })
  );
}

/** Blocks with scales that a decoder takes. */
function finiteScales(bytes: Uint8Array, size: number): Uint8Array {
  const out = bytes.slice();
  for (let at = 1; at < out.length; at += size) if ((out[at] & 0x7c) === 0x7c) out[at] = 0x35;
  return out;
}
