/**
 * Dense layers of a GPU's backend against their definition, without the test runner.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { GpuNet } from "../../src/stages/transform/dense_gpu.ts";
import { ReferenceNet } from "../../src/stages/transform/dense_reference.ts";

/**
 * Checks by kernel, each giving what differs, or "". A device that does not round as the host does has to say so: nothing
 * else is asked of it, since it is not used.
 */
export function denseChecks(backend: Backend): (readonly [kernel: string, run: () => Promise<string>])[] {
  const dense = backend.gpu?.dense ?? null;
  if (dense === null) return [];
  return [[70, 37, 66, 20], [3, 192, 192, 96]].map(([rows, ...widths]) => [
    `dense layers, ${rows} × ${widths.join(" × ")}`,
    async () => {
      let state = rows;
      const next = () => {
        state = Math.imul(state, 1664525) + 1013904223 | 0;
        return state / 2 ** 31;
      };
      const numbers = (length: number) => Float32Array.from({ length }, next);
      const layers = widths.slice(1).map((outputs, i) => ({
        inputs: widths[i],
        outputs,
        weights: numbers(widths[i] * outputs),
        bias: numbers(outputs),
        slope: i === 0 ? 0.01 : 1,
      }));
      const x = numbers(rows * widths[0]);
      const [gpu, host] = [new GpuNet(backend, dense, layers), new ReferenceNet(layers)];
      const [found, wanted] = [await gpu.run(x), host.run(x)];
      const at = found.findIndex((value, i) => !Object.is(value, wanted[i]));
      for (const net of [gpu, host]) net[Symbol.dispose]();
      return at < 0 || !await dense.exact() ? "" : `number ${at} is ${found[at]}, expected ${wanted[at]}`;
    },
  ]);
}
