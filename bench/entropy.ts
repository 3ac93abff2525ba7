/**
 * The rANS coder against other coders of bytes, one core, all in one run, interleaved; the best of N counts. Rates are MB/s
 * of symbols (one a byte) through the public calls, copies into and out of WebAssembly included; `model` is the coded
 * length over the code length that the tables promise.
 *
 *     deno run -A bench/entropy.ts [--cache C.safetensors] [--profile P.kvzp] [--ratio 32] [--rounds 15] [--json]
 *         [--kvz-profile P.kvzp] [--kvz-cache C.safetensors]
 *
 * @module
 */
import { EntropyKernels } from "../src/backend/wasm/entropy_kernels.ts";
import { WASM_BUILDS } from "../src/backend/wasm/exports.ts";
import { WasmRans } from "../src/stages/entropy/rans.ts";
import { modelBits } from "../src/stages/entropy/rans_counts.ts";
import { ReferenceRans } from "../src/stages/entropy/rans_reference.ts";
import type { HostRans } from "../src/stages/entropy/rans_stream.ts";
import { type EntropyData, realData, recipeData, syntheticData } from "./entropy/data.ts";
import { type NativeRow, openPeers, type Peer, runHtscodecs } from "./entropy/peers.ts";
import { flag, option } from "./inputs.ts";
import { seconds } from "./peak.ts";

interface Row extends NativeRow {
  readonly data: string;
  /** Symbols ÷ bytes. */
  readonly ratio: number;
  /** Coded length ÷ code length of the model; of rANS only. */
  readonly model?: number;
}

/** rANS as a coder of one data set. With `given` results go into arrays that are there, as recipe lossless has it. */
function ransPeer(name: string, rans: HostRans, { rows, tokens, contexts, symbols }: EntropyData, given = false): Peer {
  const [room, out] = given ? [new Uint8Array(2 * symbols.length + 128), new Uint8Array(symbols.length)] : [];
  return {
    name,
    encode: (data) => rans.encode(data, rows, tokens, contexts, room),
    decode: (bytes) => rans.decode(bytes, rows, tokens, contexts, out),
  };
}

const rounds = Number(option("rounds", "15"));
const peers = await openPeers();
const kernels = await Promise.all([...WASM_BUILDS].reverse().map((build) => EntropyKernels.open(build)));
const rows: Row[] = [];
let native = true;
const levels = await recipeData();
for (const data of [...syntheticData(), await realData(), ...(levels === null ? [] : [levels])]) {
  const { name, symbols, tables } = data;
  const coders = [
    ...kernels.map((on) => ransPeer(`kvz rANS ${on.build}`, new WasmRans(on, tables), data)),
    ransPeer(`kvz rANS ${kernels[0].build}, given arrays`, new WasmRans(kernels[0], tables), data, true),
    ransPeer("kvz rANS reference", new ReferenceRans(tables), data),
    ...peers,
  ];
  const best = coders.map(() => ({ bytes: 0, encode: Infinity, decode: Infinity }));
  for (let round = 0; round < rounds; round++) {
    for (const [i, coder] of coders.entries()) {
      // Slow and not what is measured: twice, to see that it is slow.
      if (coder.name.endsWith("reference") && round > 1) continue;
      let bytes!: Uint8Array;
      let back!: Uint8Array;
      best[i].encode = Math.min(best[i].encode, seconds(() => void (bytes = coder.encode(symbols))));
      best[i].decode = Math.min(best[i].decode, seconds(() => void (back = coder.decode(bytes))));
      best[i].bytes = bytes.length;
      if (back.length !== symbols.length || back.some((symbol, at) => symbol !== symbols[at])) {
        throw new Error(`${coder.name} does not give ${name} back`);
      }
    }
  }
  const ideal = modelBits(tables, symbols, data.rows, data.tokens, data.contexts) / 8;
  const rate = (took: number) => symbols.length / took / 1e6;
  coders.forEach((coder, i) => {
    const { bytes, encode, decode } = best[i];
    const model = coder.name.startsWith("kvz") ? { model: bytes / ideal } : {};
    const ratio = symbols.length / bytes;
    rows.push({ data: name, name: coder.name, bytes, ratio, encode: rate(encode), decode: rate(decode), ...model });
  });
  const natively = await runHtscodecs(symbols, rounds);
  native &&= natively !== null;
  for (const row of natively ?? []) rows.push({ data: name, ratio: symbols.length / row.bytes, ...row });
}
if (flag("json")) {
  console.log(JSON.stringify(rows, null, 1));
} else {
  console.log("| data | coder | ratio | encode MB/s | decode MB/s | ÷ model |\n| - | - | - | - | - | - |");
  for (const { data, name, ratio, encode, decode, model } of rows) {
    const cells = [ratio.toFixed(3), encode.toFixed(0), decode.toFixed(0), model?.toFixed(4) ?? ""];
    console.log(`| ${[data, name, ...cells].join(" | ")} |`);
  }
  if (!native) console.log("htscodecs: not measured, cc or libhtscodecs-dev is missing");
}
