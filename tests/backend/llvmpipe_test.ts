/** Mesa's llvmpipe leaves the loops of a kernel after 65,535 rounds, without a word: long streams are refused there. */
import { assertEquals, assertRejects } from "deno-std/assert";
import { createBackend } from "../../src/backend/select.ts";
import { findWebGpu } from "../../src/backend/webgpu/create.ts";
import { KvzLimitError } from "../../src/errors.ts";
import { openRans } from "../../src/stages/entropy/rans_factory.ts";
import { BACKENDS } from "./backends.ts";

const tested = BACKENDS.some(([label]) => label === "webgpu") && /llvmpipe/i.test((await findWebGpu()).adapter ?? "");

Deno.test({
  name: "llvmpipe: streams are coded as on the host or refused",
  ignore: !tested,
  async fn() {
    using device = await createBackend({ backend: "webgpu" });
    using host = await createBackend({ backend: "wasm" });
    const tables = { bits: 11 as const, frequencies: new Uint16Array(256).fill(8) };
    const [coder, wanted] = [(await openRans(device))(tables), (await openRans(host))(tables)];
    const tokens = 512;
    for (const [rows, taken] of [[2700, true], [2720, false]] as const) {
      // Eight bits a symbol: as many words as there can be.
      const symbols = Uint8Array.from({ length: rows * tokens }, (_, i) => Math.imul(i, 2654435761) >>> 24);
      const contexts = { variant: "plain", tableOf: new Uint16Array(rows) } as const;
      const bytes = await wanted.encode(symbols, rows, tokens, contexts);
      if (taken) {
        assertEquals(await coder.encode(symbols, rows, tokens, contexts), bytes);
        assertEquals(await coder.decode(bytes, rows, tokens, contexts), symbols);
      } else {
        await assertRejects(
          async () => await coder.encode(symbols, rows, tokens, contexts),
          KvzLimitError,
          "after 65,535 rounds",
        );
      }
    }
  },
});
