/**
 * Memory of the lossless coder's kernels after a chunk of keys, whose pairs all turn, and one of values were coded and
 * decoded, f16.
 *
 *     deno run -A bench/lossless_memory.ts LAYERS HEADS DIM TOKENS
 *
 * @module
 */
import { WasmLossless } from "../src/backend/wasm/lossless_kernels.ts";
import { WasmRans } from "../src/stages/entropy/rans.ts";
import { LosslessCoder } from "../src/stages/lossless/coder.ts";
import { elementBytes, headsOf, ropeTurns } from "../src/stages/lossless/shape.ts";

const [layers, kvHeads, dim, tokens] = Deno.args.map(Number);
if (!(layers * kvHeads * dim * tokens > 0)) {
  console.error("Four numbers are wanted: LAYERS HEADS DIM TOKENS");
  Deno.exit(2);
}
const kernels = await WasmLossless.open();
const blocks = layers * kvHeads;
const positions = Int32Array.from({ length: tokens }, (_, t) => t);
for (const kind of ["keys", "values"]) {
  const turns = kind === "keys" ? ropeTurns({ theta: 500000, dim, pairing: "half-split" }) : new Uint32Array(0);
  const shape = { blocks, dim, dtype: "f16", turns } as const;
  const data = new Uint8Array(elementBytes(shape, tokens));
  // Numbers from 1/2 to 8.
  let state = 1;
  const elements = new Uint16Array(data.buffer);
  for (let i = 0; i < elements.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    elements[i] = 0x3800 + ((state >>> 20) & 0x0fff);
  }
  const coder = new LosslessCoder(kernels, (tables) => new WasmRans(kernels, tables), shape);
  const streams = await coder.encode(headsOf(data, blocks), tokens, positions);
  await coder.decode(streams, tokens, positions, 0, headsOf(data, blocks));
  const mib = kernels.exports.memory.buffer.byteLength / 2 ** 20;
  console.log(
    `after ${kind}: ${mib.toFixed(1)} MiB, ${streams.symbols.length} of ${blocks * dim * tokens} bytes of symbols`,
  );
}
