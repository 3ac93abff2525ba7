/**
 * Coders and integer product of WebAssembly, which it keeps in modules of their own, ready to run. Copies into the
 * modules' memory and out of it are part of the calls of the coders.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { hostBuild } from "../../src/backend/host.ts";
import { EntropyKernels } from "../../src/backend/wasm/entropy_kernels.ts";
import type { WasmBuild } from "../../src/backend/wasm/exports.ts";
import { HuffmanKernels, WasmCodedTensor } from "../../src/backend/wasm/huffman_kernels.ts";
import { IntegerKernels } from "../../src/backend/wasm/integer_kernels.ts";
import { TrellisKernels } from "../../src/backend/wasm/trellis_kernels.ts";
import { WasmRans } from "../../src/stages/entropy/rans.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import { escapeLevelsOn, unescapeLevelsOn } from "../../src/stages/entropy/rans_levels.ts";
import { TABLES, trellisContexts } from "../../src/stages/quantize/trellis/model.ts";
import { decodeTrellis, encodeTrellis } from "../../src/stages/quantize/trellis/trellis.ts";
import { codedKeys, drawnSymbols, tablesFor, turningContexts } from "./entropy_cases.ts";
import { DIM, FEATURES, HEADS, type Kernel, random } from "./operands.ts";
import { TRELLIS_COMPONENTS, trellisOperands } from "./trellis_cases.ts";

/** Heads whose keys are coded in Huffman's blocks. */
const CODED_HEADS = 9;

/** The kernels on so many tokens; none on other backends than wasm. */
export async function coderKernels(backend: Backend, tokens: number): Promise<Kernel[]> {
  const build = hostBuild(backend, "coders");
  if (backend.name !== "wasm" || build === null) return [];
  return [
    ...await ransKernels(build, tokens),
    ...await trellisKernels(build, Math.min(tokens, 256)),
    ...await integerKernels(build, tokens),
    ...await huffmanKernels(build, tokens),
  ];
}

async function ransKernels(build: WasmBuild, tokens: number): Promise<Kernel[]> {
  const rows = 256;
  const drawn = drawnSymbols(rows * tokens);
  const symbols = new Uint8Array(rows * tokens).map((_, i) => drawn[i % drawn.length]);
  const kernels = await EntropyKernels.open(build);
  const cases: readonly (readonly [string, RansContexts, number])[] = [
    ["", { variant: "plain", tableOf: new Uint16Array(rows) }, 1],
    [", trellis contexts", turningContexts(rows, tokens), TABLES],
  ];
  return cases.flatMap(([what, contexts, count]): Kernel[] => {
    const rans = new WasmRans(kernels, tablesFor(drawn, count));
    const bytes = rans.encode(symbols, rows, tokens, contexts);
    return [
      {
        name: `rANS encode${what}`,
        bytes: symbols.length,
        run: () => void rans.encode(symbols, rows, tokens, contexts),
      },
      { name: `rANS decode${what}`, bytes: symbols.length, run: () => void rans.decode(bytes, rows, tokens, contexts) },
    ];
  });
}

async function trellisKernels(build: WasmBuild, tokens: number): Promise<Kernel[]> {
  const [kernels, entropy] = await Promise.all([TrellisKernels.open(build), EntropyKernels.open(build)]);
  const { model, drawn } = trellisOperands(TRELLIS_COMPONENTS, tokens);
  // The host has a component's tokens side by side.
  const y = drawn.map((_, i) => drawn[i % tokens * TRELLIS_COMPONENTS + Math.floor(i / tokens)]);
  const code = encodeTrellis(kernels, model, y, tokens, 0.3);
  const sizes = [TRELLIS_COMPONENTS, tokens, trellisContexts(model, code), model.limits] as const;
  const { symbols, escapes } = escapeLevelsOn(entropy, code.levels, ...sizes);
  return [
    {
      name: "trellis encode",
      bytes: 8 * y.length,
      run: () => void encodeTrellis(kernels, model, y, tokens, 0.3),
    },
    {
      name: "trellis decode",
      bytes: 6 * y.length,
      run: () => void decodeTrellis(kernels, model, code.levels, code, tokens),
    },
    {
      name: "trellis symbols",
      bytes: 5 * y.length,
      run: () => void escapeLevelsOn(entropy, code.levels, ...sizes),
    },
    {
      name: "trellis levels",
      bytes: 5 * y.length,
      run: () => void unescapeLevelsOn(entropy, symbols, escapes, ...sizes),
    },
  ];
}

async function integerKernels(build: WasmBuild, tokens: number): Promise<Kernel[]> {
  const kernels = await IntegerKernels.open(build);
  const { exports } = kernels;
  const place = (data: ArrayBufferView) => {
    const address = kernels.alloc(data.byteLength);
    kernels.write(address, data);
    return address;
  };
  const depth = TRELLIS_COMPONENTS / 4;
  const step = exports.tokensAtOnce();
  const padded = Math.ceil(tokens / step) * step;
  const levels = place(Int16Array.from(random(tokens * TRELLIS_COMPONENTS, 200)));
  const tiles = place(new Int8Array(FEATURES * depth * 4).map(() => (Math.random() * 2 - 1) * 63));
  const low = kernels.alloc(padded * depth * 8);
  const planes = [low, low + padded * depth * 4] as const;
  const [lowRuns, highRuns] = [0, 0].map(() => kernels.alloc(padded / step * (depth + 1) * 2));
  const [sums, out] = [kernels.alloc(padded * 4), kernels.alloc(padded * FEATURES * 4)];
  const [scales, mean, tokenScales] = [FEATURES, FEATURES, padded].map((n) => place(new Float32Array(n).fill(0.01)));
  const elements = kernels.alloc(tokens * FEATURES * 2);
  return [
    {
      name: "integer product",
      bytes: tokens * (FEATURES * 4 + TRELLIS_COMPONENTS * 2) + TRELLIS_COMPONENTS * FEATURES,
      flop: 2 * tokens * TRELLIS_COMPONENTS * FEATURES,
      run: () => {
        exports.packLevels(levels, TRELLIS_COMPONENTS, tokens, ...planes, lowRuns, highRuns, sums);
        const packed = [...planes, lowRuns, highRuns, sums] as const;
        exports.multiply(tiles, depth, depth, ...packed, padded, 0, FEATURES / 16, out, FEATURES);
      },
    },
    {
      name: "scatter of sums",
      bytes: tokens * FEATURES * 6,
      run: () => {
        exports.scaleRows(out, tokens, FEATURES, scales, tokenScales);
        exports.scatter(out, FEATURES, 1, HEADS, tokens, DIM, 0, 0, mean, elements);
      },
    },
  ];
}

async function huffmanKernels(build: WasmBuild, tokens: number): Promise<Kernel[]> {
  const { shape, lengths, symbols, blocks } = codedKeys(CODED_HEADS, tokens);
  const tensor = new WasmCodedTensor(await HuffmanKernels.open(build), blocks, shape, lengths);
  const dots = ([1, 4] as const).map((lanes): Kernel => {
    const call = { layer: 0, part: 0, lanes, sets: 1, weights: random(CODED_HEADS * DIM * lanes) };
    const name = lanes === 1 ? "Huffman dots" : "Huffman dots, 4 queries";
    return { name, bytes: symbols.length, run: () => void tensor.dots(call) };
  });
  return [...dots, { name: "Huffman decode", bytes: symbols.length, run: () => void tensor.symbols() }];
}
