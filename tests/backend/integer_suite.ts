/**
 * The integer transform of a GPU's backend against its definition, without the test runner.
 *
 * @module
 */
import { type Backend, paddedLength } from "../../src/backend/backend.ts";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";

/** Checks by kernel, each giving what differs, or "". None for a backend without these kernels. */
export function integerChecks(backend: Backend): (readonly [kernel: string, run: () => Promise<string>])[] {
  const integer = backend.gpu?.integer ?? null;
  if (integer === null) return [];
  const put = (to: Backend, data: ArrayBufferView) => {
    const buffer = to.alloc(data.byteLength);
    to.write(buffer, data);
    return buffer;
  };
  return [[70, 90, 100], [130, 17, 24]].map(([tokens, components, features]) => [
    `integer sums and their rows, ${tokens} × ${components} × ${features}`,
    async () => {
      const stride = Math.ceil(components / 16) * 16;
      const basis = Int8Array.from({ length: components * features }, (_, i) => (i * 37 + (i >> 5)) % 127 - 63);
      const levels = Int16Array.from({ length: tokens * stride }, (_, i) => {
        if (i % stride >= components) return 0;
        return i % 41 === 0 ? (i * 7919) % 65279 - 32639 : (i * 31) % 255 - 127;
      });
      const columns = paddedLength(features);
      const sums = put(backend, new Uint8Array(tokens * columns * 4).fill(0xff));
      const uploaded = integer.uploadBasis(basis, components, features);
      integer.multiply(uploaded, put(backend, levels), stride, tokens, 0, features, sums);
      const found = new Int32Array((await backend.read(sums)).buffer);
      const scales = Float32Array.from({ length: features }, (_, f) => 2 ** -20 * (1 + f / 64));
      const tokenScales = Float32Array.from({ length: tokens }, (_, t) => 1 + t / 7);
      const mean = Float32Array.from({ length: features }, (_, f) => Math.fround(f / 3) - 9);
      const rows = new Float32Array(tokens * columns);
      for (let t = 0; t < tokens; t++) {
        for (let f = 0; f < columns; f++) {
          let sum = 0;
          for (let c = 0; c < (f < features ? components : 0); c++) {
            sum += basis[c * features + f] * levels[t * stride + c];
          }
          if (found[t * columns + f] !== sum) return `[${t}][${f}] is ${found[t * columns + f]}, expected ${sum}`;
          if (f < features) {
            rows[t * columns + f] = Math.fround(sum) * Math.fround(scales[f] * tokenScales[t]);
          }
        }
      }
      const host = new ReferenceBackend();
      const shape = { dtype: "f16", blocks: 2, tokens, dim: features / 2, rotaryDim: 0 } as const;
      const [wanted, dst] = [host, backend].map((of) => of.alloc(tokens * features * 2));
      host.scatter(put(host, rows), shape, null, put(host, mean), wanted);
      const [a, b, c] = [scales, tokenScales, mean].map((data) => put(backend, data));
      integer.scatterSums(sums, shape, a, b, null, c, dst);
      const [is, should] = [await backend.read(dst), await host.read(wanted, 0, tokens * features * 2)];
      const at = is.findIndex((byte, i) => byte !== should[i]);
      return at < 0 ? "" : `byte ${at} of the rows is ${is[at]}, expected ${should[at]}`;
    },
  ]);
}
