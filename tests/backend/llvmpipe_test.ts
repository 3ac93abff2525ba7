/** Mesa's llvmpipe leaves the loops of a kernel after 65,535 rounds, without a word: long streams are refused there. */
import { assertEquals, assertRejects } from "deno-std/assert";
import { createBackend } from "../../src/backend/select.ts";
import { findWebGpu } from "../../src/backend/webgpu/create.ts";
import { KvzLimitError } from "../../src/errors.ts";
import { openRans } from "../../src/stages/entropy/rans_factory.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import { NEXT } from "../stages/rans_cases.ts";
import { BACKENDS, firstDifference } from "./backends.ts";

const tested = BACKENDS.some(([label]) => label === "webgpu") && /llvmpipe/i.test((await findWebGpu()).adapter ?? "");

/** Rows and tokens of the longest streams that are taken, in several shapes: rows × (groups of 32 + 2) rounds a walk. */
const PLAIN = [[3611, 512], [21666, 7], [1, 2_079_900]] as const;
const TRELLIS = [[1805, 512], [10833, 1], [1, 1_039_900]] as const;

Deno.test({
  name: "llvmpipe: streams are coded as on the host or refused",
  // Where CI runs, its adapter is this one.
  ignore: !tested && !Deno.env.get("CI"),
  async fn() {
    using device = await createBackend({ backend: "webgpu" });
    using host = await createBackend({ backend: "wasm" });
    const [onDevice, onHost] = [await openRans(device), await openRans(host)];
    for (const variant of ["plain", "trellis"] as const) {
      const frequencies = new Uint16Array(256 * (variant === "plain" ? 1 : 2)).fill(8);
      const [coder, wanted] = [onDevice({ bits: 11, frequencies }), onHost({ bits: 11, frequencies })];
      const contextsOf = (rows: number, tokens: number): RansContexts =>
        variant === "plain"
          ? { variant, tableOf: new Uint16Array(rows) }
          : { variant, classes: new Uint8Array(rows * 16), kinds: new Uint8Array(tokens), next: NEXT };
      for (const [rows, tokens] of variant === "plain" ? PLAIN : TRELLIS) {
        // Eight bits a symbol: as many words as there can be.
        const symbols = Uint8Array.from({ length: rows * tokens }, (_, i) => Math.imul(i, 2654435761) >>> 24);
        const contexts = contextsOf(rows, tokens);
        const bytes = await wanted.encode(symbols, rows, tokens, contexts);
        assertEquals(firstDifference(await coder.encode(symbols, rows, tokens, contexts), bytes), -1);
        assertEquals(firstDifference(await coder.decode(bytes, rows, tokens, contexts), symbols), -1);
        const [more, longer] = rows > 1 ? [rows + 2, tokens] : [1, tokens + 256];
        await assertRejects(
          async () => await coder.encode(new Uint8Array(more * longer), more, longer, contextsOf(more, longer)),
          KvzLimitError,
          "after 65,535 rounds",
        );
      }
    }
  },
});
