/** What tests/backend/make_kernel_golden.py computed, on every backend. Bits are equal but for products, which keep their bound. */
import { assert, assertEquals } from "deno-std/assert";
import { type Backend, type BlockShape, type DeviceBuffer, paddedLength } from "../../src/backend/backend.ts";
import type { GpuEntropy } from "../../src/backend/gpu/entropy.ts";
import { hostBuild } from "../../src/backend/host.ts";
import { createBackend } from "../../src/backend/select.ts";
import { HuffmanKernels, WasmCodedTensor } from "../../src/backend/wasm/huffman_kernels.ts";
import { rotationTable } from "../../src/cache/rope.ts";
import type { DType } from "../../src/cache/types.ts";
import { checkBlocks, encodeBlocks, KEY_BLOCKS, VALUE_BLOCKS } from "../../src/stages/entropy/huffman_blocks.ts";
import { type DotCall, ReferenceCodedTensor } from "../../src/stages/entropy/huffman_dots.ts";
import { GpuCodedTensor } from "../../src/stages/entropy/huffman_gpu.ts";
import { openBlocks, openGroups } from "../../src/stages/quantize/group_kernels.ts";
import { openNets } from "../../src/stages/transform/dense.ts";
import { BACKENDS, dirty, readFloats, testBackends, upload } from "./backends.ts";
import golden from "./kernel_golden.json" with { type: "json" };

const bytesOf = (text: string) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const floatsOf = (text: string) => new Float32Array(bytesOf(text).buffer);
const halvesOf = (text: string) => new Uint16Array(bytesOf(text).buffer);

/** A buffer with these bytes, or null. */
const optional = (backend: Backend, text: string | null) => text === null ? null : upload(backend, bytesOf(text));

/** A copy that may be cut to `length` bytes: buffers of GPUs are whole words. */
async function bytesIn(backend: Backend, buffer: DeviceBuffer, length: number): Promise<Uint8Array> {
  return (await backend.read(buffer, 0, length)).slice();
}

testBackends("golden: gather and scatter turn, centre and convert", async (backend) => {
  for (const { dtype, blocks, positions, dim, rotaryDim, theta, ...of } of golden.layout) {
    const tokens = positions.length;
    const shape: BlockShape = { dtype: dtype as DType, blocks, tokens, dim, rotaryDim };
    const mean = optional(backend, of.mean);
    const rows = dirty(backend, tokens * paddedLength(blocks * dim) * 4);
    backend.gather(upload(backend, bytesOf(of.source)), shape, optional(backend, of.undo), mean, rows);
    assertEquals(await bytesIn(backend, rows, rows.byteLength), bytesOf(of.gathered), `gather, ${dtype}`);
    const wanted = bytesOf(of.scattered);
    const elements = dirty(backend, wanted.length);
    backend.scatter(upload(backend, bytesOf(of.rows)), shape, optional(backend, of.redo), mean, elements);
    assertEquals(await bytesIn(backend, elements, wanted.length), wanted, `scatter, ${dtype}`);
    if (of.undo === null) continue;
    // The angles are the library's own.
    for (const direction of ["undo", "redo"] as const) {
      const table = rotationTable(
        { dim: rotaryDim, theta, pairing: "half-split" },
        Int32Array.from(positions),
        direction,
      );
      assertEquals(new Uint8Array(table.buffer), bytesOf(of[direction]!));
    }
  }
});

testBackends("golden: project and reconstruct keep their bound", async (backend) => {
  for (const { tokens, components, features, leading, ...of } of golden.product) {
    const basis = backend.uploadBasis(halvesOf(of.basis), components, features);
    const within = async (
      out: DeviceBuffer,
      { result, weight }: { result: string; weight: string },
      depth: number,
      columns: number,
      all: number,
    ) => {
      const found = await readFloats(backend, out);
      const [wanted, weights] = [result, weight].map((text) => new Float64Array(bytesOf(text).buffer));
      const stride = paddedLength(columns);
      for (let t = 0; t < tokens; t++) {
        for (let j = 0; j < stride; j++) {
          const [value, of] = j < columns ? [wanted[t * all + j], weights[t * all + j]] : [0, 0];
          assert(Math.abs(found[t * stride + j] - value) <= (depth + 1) * 2 ** -24 * of, `[${t}][${j}]`);
        }
      }
    };
    for (const count of [components, leading]) {
      const out = dirty(backend, tokens * paddedLength(count) * 4);
      backend.project(upload(backend, floatsOf(of.x)), tokens, basis, out, count);
      await within(out, of.projected, features, count, components);
    }
    const out = dirty(backend, tokens * paddedLength(features) * 4);
    backend.reconstruct(upload(backend, floatsOf(of.y)), tokens, basis, 0, features, out);
    await within(out, of.reconstructed, components, features, features);
  }
});

testBackends("golden: dense layers", async (backend) => {
  const nets = await openNets(backend);
  for (const { x, layers, result } of golden.dense) {
    using net = nets(layers.map((it) => ({ ...it, weights: floatsOf(it.weights), bias: floatsOf(it.bias) })));
    assertEquals(new Uint8Array((await net.run(floatsOf(x))).buffer), bytesOf(result));
  }
});

testBackends("golden: groups in few bits, rotated and not", async (backend) => {
  const kernels = await openGroups(backend);
  for (const { x, codes, params, restored, ...shape } of golden.groups) {
    const coded = await kernels.quantize(floatsOf(x), shape);
    assertEquals([coded.codes, coded.params], [bytesOf(codes), halvesOf(params)], JSON.stringify(shape));
    const back = await kernels.dequantize(coded, shape);
    assertEquals(new Uint8Array(back.buffer), bytesOf(restored), JSON.stringify(shape));
  }
});

testBackends("golden: ggml's blocks", async (backend) => {
  const kernels = await openBlocks(backend);
  for (const type of ["q8_0", "q4_0"] as const) {
    const [coded, restored] = [bytesOf(golden.ggml[type].coded), bytesOf(golden.ggml[type].restored)];
    assertEquals(await kernels.quantize(floatsOf(golden.ggml.x), type), coded);
    assertEquals(new Uint8Array((await kernels.dequantize(coded, type)).buffer), restored);
  }
});

testBackends("golden: Huffman's blocks, and products with what they hold", async (backend) => {
  for (const { along, heads, tokens, dim, lanes, sets, alphabet, raw, ...of } of golden.huffman) {
    const layout = along === "channels" ? KEY_BLOCKS : VALUE_BLOCKS;
    const shape = { layers: 1, heads, tokens, dim, layout };
    const blocks = { table: bytesOf(of.table), vectors: bytesOf(of.vectors), codes: bytesOf(of.codes) };
    const lengths = [bytesOf(of.lengths)];
    assertEquals([lengths[0].length, raw > 0], [alphabet, heads * dim === 7], "Only the foreign code leaves bytes");
    assertEquals(encodeBlocks(bytesOf(of.symbols), shape, lengths), blocks);
    checkBlocks(blocks, shape);
    const huffman = backend.gpu?.huffman;
    const build = hostBuild(backend, "Huffman codes");
    const kernels = build === null ? null : await HuffmanKernels.open(build);
    using tensor = huffman
      ? new GpuCodedTensor(backend, huffman, blocks, shape, lengths)
      : kernels
      ? new WasmCodedTensor(kernels, blocks, shape, lengths)
      : new ReferenceCodedTensor(blocks, shape, lengths);
    const call: DotCall = { layer: 0, part: 0, weights: floatsOf(of.weights), sets, lanes: lanes as 1 | 4 };
    // Weights are whole, so that sums are exact.
    assertEquals(await tensor.dots(call), floatsOf(of.dots));
    if (tensor instanceof WasmCodedTensor) assertEquals(tensor.symbols(), bytesOf(of.symbols));
  }
});

async function checkSymbols(backend: Backend, entropy: GpuEntropy): Promise<void> {
  for (const { rows, tokens, alphabet, symbols, counts } of golden.histogram) {
    const out = dirty(backend, rows * alphabet * 4);
    entropy.histogram(upload(backend, bytesOf(symbols)), rows, tokens, alphabet, out);
    assertEquals(await bytesIn(backend, out, rows * alphabet * 4), bytesOf(counts));
  }
  for (const { tokens, stride, rows, chunk, symbols, transposed } of golden.transpose) {
    const [from, out] = [upload(backend, bytesOf(symbols)), dirty(backend, tokens * rows)];
    entropy.transpose(from, stride, tokens, rows, chunk, out);
    assertEquals(await bytesIn(backend, out, tokens * rows), bytesOf(transposed));
    // Columns beyond the rows stay as they are.
    const whole = upload(backend, bytesOf(symbols));
    entropy.untranspose(upload(backend, bytesOf(transposed)), stride, tokens, rows, chunk, whole);
    assertEquals(await bytesIn(backend, whole, tokens * stride), bytesOf(symbols));
  }
}

for (const [label, options] of BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu")) {
  Deno.test(`${label}: golden: counts and transposition of symbols`, async () => {
    using backend = await createBackend(options);
    await checkSymbols(backend, backend.gpu!.entropy!);
  });
}
