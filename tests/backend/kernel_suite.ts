/**
 * Every kernel of a backend against the reference, without the test runner: for pages and for other runtimes. Each
 * check says what differs, or nothing.
 *
 * @module
 */
import {
  type Backend,
  type BlockShape,
  packedLength,
  paddedLength,
  type QuantGroup,
} from "../../src/backend/backend.ts";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";
import { fromFloat32 } from "../../src/cache/elements.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../src/cache/types.ts";
import { blockChecks } from "./blocks_suite.ts";
import { denseChecks } from "./dense_suite.ts";
import { entropyChecks } from "./entropy_suite.ts";
import { groupChecks } from "./groups_suite.ts";
import { huffmanChecks } from "./huffman_suite.ts";
import { integerChecks } from "./integer_suite.ts";
import { trellisChecks } from "./trellis_suite.ts";

/** What a check found: "" when all is as it should be. */
export interface Checked {
  readonly kernel: string;
  readonly difference: string;
}

/** Uniform numbers in (-scale, scale) from a seed (mulberry32). */
function values(length: number, seed: number, scale: number): Float32Array {
  return Float32Array.from({ length }, () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1) * scale;
  });
}

type Run = (backend: Backend) => Promise<Uint8Array>;

/** Bytes that a kernel writes into a buffer filled with 0xff. */
function result(byteLength: number, run: (backend: Backend, to: ReturnType<Backend["alloc"]>) => void): Run {
  return async (backend) => {
    const to = upload(backend, new Uint8Array(byteLength).fill(0xff));
    run(backend, to);
    return await backend.read(to);
  };
}

function upload(backend: Backend, data: ArrayBufferView): ReturnType<Backend["alloc"]> {
  const buffer = backend.alloc(data.byteLength);
  backend.write(buffer, data);
  return buffer;
}

async function sameBytes(backend: Backend, reference: Backend, run: Run): Promise<string> {
  return firstDifference(await run(backend), await run(reference));
}

function firstDifference(found: Uint8Array, wanted: Uint8Array): string {
  const at = found.findIndex((byte, i) => byte !== wanted[i]);
  return at < 0 ? "" : `byte ${at} is ${found[at]}, expected ${wanted[at]}`;
}

/** Float32 results within a share of the largest. */
async function nearFloats(backend: Backend, reference: Backend, share: number, run: Run): Promise<string> {
  const [found, wanted] = [await run(backend), await run(reference)].map(({ buffer }) => new Float32Array(buffer));
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const at = found.findIndex((value, i) => !(Math.abs(value - wanted[i]) <= share * largest));
  return at < 0 ? "" : `element ${at} is ${found[at]}, expected ${wanted[at]} within ${share * largest}`;
}

/** Plans with the slack of their rows and numbers of tokens: whole words and not, several segments, gaps, large groups. */
const QUANTIZED: readonly {
  readonly groups: readonly QuantGroup[];
  readonly slack: number;
  readonly tokens: number;
}[] = [
  {
    groups: [{ first: 0, size: 1024, type: 1 }, { first: 1024, size: 1024, type: 2 }, {
      first: 2048,
      size: 64,
      type: 3,
    }],
    slack: 0,
    tokens: 7,
  },
  {
    groups: [
      ...Array.from({ length: 5 }, (_, i): QuantGroup => ({ first: i, size: 1, type: 3 })),
      { first: 5, size: 1024, type: 1 },
      { first: 1029, size: 1024, type: 2 },
      { first: 2060, size: 64, type: 3 },
      { first: 2124, size: 16, type: 1 },
    ],
    slack: 4,
    tokens: 5,
  },
  { groups: [{ first: 0, size: 2100, type: 2 }, { first: 2100, size: 6, type: 3 }], slack: 1, tokens: 3 },
  { groups: [{ first: 2, size: 3, type: 2 }], slack: 3, tokens: 33 },
  {
    groups: [{ first: 0, size: 64, type: 3 }, { first: 64, size: 16, type: 2 }, { first: 80, size: 64, type: 1 }],
    slack: 0,
    tokens: 144,
  },
  {
    groups: [{ first: 0, size: 1, type: 3 }, { first: 1, size: 16, type: 2 }, { first: 19, size: 5, type: 1 }, {
      first: 30,
      size: 90,
      type: 2,
    }],
    slack: 8,
    tokens: 144,
  },
];

const SHAPES: readonly BlockShape[] = (["f32", "f16", "bf16"] as const).flatMap((dtype: DType) => [
  { dtype, blocks: 6, tokens: 37, dim: 64, rotaryDim: 32 },
  { dtype, blocks: 3, tokens: 19, dim: 80, rotaryDim: 80 },
  { dtype, blocks: 5, tokens: 7, dim: 9, rotaryDim: 4 },
]);

/** Runs everything. */
export async function checkKernels(backend: Backend): Promise<Checked[]> {
  const reference = new ReferenceBackend();
  const checked: Checked[] = [];
  const bytes = async (kernel: string, run: Run) => {
    checked.push({ kernel, difference: await sameBytes(backend, reference, run) });
  };
  const floats = async (kernel: string, share: number, run: Run) => {
    checked.push({ kernel, difference: await nearFloats(backend, reference, share, run) });
  };

  for (const shape of SHAPES) {
    const { dtype, blocks, tokens, dim, rotaryDim } = shape;
    const label = `${dtype} ${blocks} × ${tokens} × ${dim}, ${rotaryDim} rotated`;
    const stride = paddedLength(blocks * dim);
    const elements = fromFloat32(values(blocks * tokens * dim, 1, 5), dtype);
    const rows = values(tokens * stride, 2, 5);
    // No cosines and sines, which engines compute differently: any numbers will do.
    const [turns, means] = [values(tokens * rotaryDim, 3, 1), values(blocks * dim, 4, 2)];
    for (const [rotated, centred] of [[false, false], [true, true], [true, false]]) {
      const tables = (b: Backend) => [rotated ? upload(b, turns) : null, centred ? upload(b, means) : null] as const;
      const name = `${label}${rotated ? ", turned" : ""}${centred ? ", centred" : ""}`;
      await bytes(
        `gather ${name}`,
        result(tokens * stride * 4, (b, to) => b.gather(upload(b, elements), shape, ...tables(b), to)),
      );
      await bytes(
        `scatter ${name}`,
        result(elements.length, (b, to) => b.scatter(upload(b, rows), shape, ...tables(b), to)),
      );
    }
  }

  const [components, features, tokens] = [75, 6 * 64, 37];
  const basis = new Uint16Array(fromFloat32(values(components * features, 5, 0.1), "f16").buffer);
  const rows = values(tokens * features, 6, 3);
  const coefficients = values(tokens * paddedLength(components), 7, 3);
  await floats("project", 2 ** -20, async (b) => {
    const to = b.alloc(tokens * paddedLength(components) * 4);
    b.project(upload(b, rows), tokens, b.uploadBasis(basis, components, features), to);
    return await b.read(to);
  });
  await floats("reconstruct", 2 ** -20, async (b) => {
    const to = b.alloc(tokens * 104 * 4);
    b.reconstruct(upload(b, coefficients), tokens, b.uploadBasis(basis, components, features), 3, 107, to);
    return await b.read(to);
  });
  const shape: BlockShape = { dtype: "f32", blocks: 6, tokens, dim: 64, rotaryDim: 0 };
  await floats("gather and project", 2 ** -9, async (b) => {
    const to = b.alloc(tokens * paddedLength(components) * 4);
    b.gatherProject(upload(b, rows), shape, null, null, b.uploadBasis(basis, components, features), to);
    return await b.read(to);
  });
  await floats("reconstruct and scatter", 2 ** -9, async (b) => {
    const to = b.alloc(tokens * features * 4);
    b.reconstructScatter(upload(b, coefficients), b.uploadBasis(basis, components, features), 0, shape, null, null, to);
    return await b.read(to);
  });

  for (const { groups, slack, tokens } of QUANTIZED) {
    const width = groups[groups.length - 1].first + groups[groups.length - 1].size;
    const stride = width + slack;
    const x = values(tokens * stride, 8, 30);
    x.forEach((_, i) => x[i] *= 2 ** -(i % 13));
    const run = async (b: Backend) => {
      const dirty = (byteLength: number) => upload(b, new Uint8Array(byteLength).fill(0xff));
      const plan = b.uploadPlan(groups);
      const [symbols, params] = [dirty(tokens * width), dirty(tokens * groups.length * 4)];
      const [back, packed] = [dirty(tokens * stride * 4), dirty(packedLength(groups, tokens))];
      const unpacked = dirty(tokens * width);
      b.quantize(upload(b, x), stride, tokens, plan, symbols, params);
      b.dequantize(symbols, params, plan, tokens, back, stride);
      b.pack(symbols, plan, tokens, packed);
      b.unpack(packed, plan, tokens, unpacked);
      return await Promise.all([symbols, params, back, packed, unpacked].map((buffer) => b.read(buffer)));
    };
    const [found, wanted] = [await run(backend), await run(reference)];
    ["quantize: codes", "quantize: parameters", "dequantize", "pack", "unpack"].forEach((kernel, i) => {
      checked.push({
        kernel: `${kernel} of ${groups.length} groups, stride ${stride}, ${tokens} tokens`,
        difference: firstDifference(found[i], wanted[i]),
      });
    });
  }

  for (const [count, length] of [[5, 77], [4, 320], [5, 7], [3, 2500]]) {
    const x = values(count * length, 11, 100);
    x.forEach((_, i) => x[i] *= 2 ** -(i % 15));
    await bytes(
      `encode fp8: codes, ${count} × ${length}`,
      result(x.length, (b, to) => b.encodeFp8(upload(b, x), count, length, to, b.alloc(count * 2))),
    );
    await bytes(
      `encode fp8: scales, ${count} × ${length}`,
      result(count * 2, (b, to) => b.encodeFp8(upload(b, x), count, length, b.alloc(x.length), to)),
    );
    await bytes(
      `decode fp8, ${count} × ${length}`,
      result(x.byteLength, (b, to) => {
        const [codes, scales] = [b.alloc(x.length), b.alloc(count * 2)];
        b.encodeFp8(upload(b, x), count, length, codes, scales);
        b.decodeFp8(codes, scales, count, length, to);
      }),
    );
  }

  const block = values(1024, 12, 1);
  await bytes("copy", result(2048, (b, to) => b.copy(upload(b, block), 1024, to, 512, 1024)));
  await bytes("copy within a buffer, by views", async (b) => {
    const buffer = upload(b, block);
    b.copy(b.view(buffer, 256, 512), 4, b.view(buffer, 2048, 1024), 8, 400);
    return await b.read(buffer);
  });
  await bytes("kernels between views of one buffer", async (b) => {
    const buffer = upload(b, block);
    const shape: BlockShape = { dtype: "f32", blocks: 2, tokens: 4, dim: 16, rotaryDim: 0 };
    b.gather(b.view(buffer, 0, 512), shape, null, b.view(buffer, 512, 128), b.view(buffer, 1024, 512));
    return await b.read(buffer);
  });
  await bytes("writes and reads at any byte", async (b) => {
    const buffer = upload(b, block);
    b.write(buffer, Uint8Array.from({ length: 21 }, (_, i) => i), 3);
    b.write(buffer, Uint8Array.of(1, 2), 1001);
    b.write(b.view(buffer, 256, 5), Uint8Array.of(7, 8), 3);
    return await b.read(buffer, 1, BYTES_PER_ELEMENT.f32 * 1000 + 2);
  });
  const { memory = null } = backend.gpu ?? {};
  for (const bad of memory === null ? [] : [[], [1500], [2999, 1501, 2310]]) {
    const x = values(3000, 13, 1);
    for (const at of bad) x[at] = at % 2 === 0 ? Infinity : NaN;
    const found = backend.alloc(4);
    memory!.findNonFinite(upload(backend, x), "f32", x.length, found);
    const [first] = new Uint32Array((await backend.read(found)).buffer);
    const wanted = Math.min(0xffffffff, ...bad);
    const difference = first === wanted ? "" : `element ${first}, expected ${wanted}`;
    checked.push({ kernel: `find what is not finite, ${bad.length} elements`, difference });
  }
  const coders = [entropyChecks, integerChecks, trellisChecks, huffmanChecks];
  const more = [...coders, denseChecks, blockChecks, groupChecks];
  for (const [kernel, run] of more.flatMap((checks) => checks(backend))) {
    checked.push({ kernel, difference: await run() });
  }
  return checked;
}
