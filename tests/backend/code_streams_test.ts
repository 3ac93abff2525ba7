import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type Backend, paddedLength, type QuantGroup, TYPE_BITS } from "../../src/backend/backend.ts";
import {
  type CodeForm,
  type DeviceStreams,
  type GpuCodeStreams,
  streamBytes,
} from "../../src/backend/gpu/code_streams.ts";
import { createBackend } from "../../src/backend/select.ts";
import type { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { splitCodes } from "../../src/stages/quantize/code_streams.ts";
import { splitParams } from "../../src/stages/quantize/params_layout.ts";
import { BACKENDS, dirty, firstDifference, generator, upload } from "./backends.ts";
import { plansOf } from "./plans.ts";
import { casesFor } from "../cases.ts";

const groupsOf = plansOf([1, 4, 16, 64, 256], 6, 5);

/** A chunk's codes and parameters, by the definition and as its streams. */
interface Chunk {
  readonly groups: readonly QuantGroup[];
  readonly tokens: number;
  readonly symbols: Uint8Array;
  readonly params: Uint16Array<ArrayBuffer>;
}

function chunkOf(groups: readonly QuantGroup[], tokens: number, seed: number): Chunk {
  const next = generator(seed);
  const last = groups.at(-1);
  const components = last === undefined ? 0 : last.first + last.size;
  const symbols = new Uint8Array(tokens * components);
  for (const { first, size, type } of groups) {
    for (let t = 0; t < tokens; t++) {
      for (let c = first; c < first + size; c++) symbols[t * components + c] = next() * 2 ** TYPE_BITS[type];
    }
  }
  // Any finite binary16: what is infinite, files do not hold.
  const params = Uint16Array.from({ length: tokens * groups.length * 2 }, () => {
    const bits = Math.floor(next() * 65536);
    return (bits & 0x7c00) === 0x7c00 ? bits & 0x83ff : bits;
  });
  return { groups, tokens, symbols, params };
}

/** Rows by type, a byte a code. */
function byteRows({ groups, tokens, symbols }: Chunk, wanted: number): Uint8Array {
  const last = groups.at(-1);
  const components = last === undefined ? 0 : last.first + last.size;
  const own = groups.filter(({ type }) => type === wanted);
  return Uint8Array.from(
    own.flatMap(({ first, size }) =>
      Array.from(
        { length: size },
        (_, i) => Array.from({ length: tokens }, (_, t) => symbols[t * components + first + i]),
      )
        .flat()
    ),
  );
}

/** The definition: unpack (or codes as they are), dequantize. */
async function wantedOf(host: Backend, { groups, tokens, symbols, params }: Chunk, stride: number) {
  const plan = host.uploadPlan(groups);
  const to = dirty(host, tokens * stride * 4);
  host.dequantize(upload(host, symbols), upload(host, params), plan, tokens, to, stride);
  return await host.read(to, 0, tokens * stride * 4);
}

/** The streams of chunks of one plan and length. */
async function streamsOf(
  backend: Backend,
  host: Backend,
  chunks: readonly Chunk[],
  form: CodeForm,
): Promise<DeviceStreams> {
  const parts = await Promise.all(chunks.map(async (chunk) => {
    const { groups, tokens, symbols, params } = chunk;
    const { low, high } = splitParams(params, tokens, groups.length);
    if (form === "bytes") return [...[1, 2, 3].map((type) => byteRows(chunk, type)), low, high];
    const plan = host.uploadPlan(groups);
    const packed = host.alloc(symbols.length);
    host.pack(upload(host, symbols), plan, tokens, packed);
    return [...splitCodes(await host.read(packed), groups, tokens), low, high];
  }));
  const [int2, int4, fp8, low, high] = [0, 1, 2, 3, 4].map((i) =>
    upload(backend, Uint8Array.from(parts.flatMap((streams) => [...streams[i]])))
  );
  return { int2, int4, fp8, low, high };
}

function testGpus(name: string, test: (backend: Backend, kernels: GpuCodeStreams) => Promise<void> | void): void {
  for (const [label, options] of BACKENDS.filter(([label]) => label === "webgpu" || label === "cuda")) {
    Deno.test(`${label}: ${name}`, async () => {
      using backend = await createBackend(options);
      const kernels = backend.gpu?.codeStreams ?? null;
      if (kernels === null) throw new Error("The backend takes no streams of codes");
      await test(backend, kernels);
    });
  }
}

for (const form of ["packed", "bytes"] as const) {
  testGpus(
    `streams of codes, ${form}, become the coefficients that unpack and dequantize give`,
    async (backend, kernels) => {
      using host = await createBackend({ backend: "reference" });
      const cases = fc.record({
        groups: groupsOf,
        chunks: fc.integer({ min: 1, max: 3 }),
        tokens: fc.oneof(fc.nat(9), fc.integer({ min: 10, max: 140 })),
        slack: fc.nat(3),
        // Bytes that a device binds, as if they were few.
        few: fc.constantFrom(null, null, 1 << 11, 1 << 14),
        seed: fc.nat(),
      });
      await fc.assert(
        fc.asyncProperty(cases, async ({ groups, chunks, tokens, slack, few, seed }) => {
          const all = Array.from({ length: chunks }, (_, i) => chunkOf(groups, tokens, seed + i));
          const plan = backend.uploadPlan(groups);
          const stride = paddedLength(plan.components) + 4 * slack;
          const streams = await streamsOf(backend, host, all, form);
          const to = dirty(backend, chunks * tokens * stride * 4 + 16);
          const least = Math.max(16 * stride, ...Object.values(streamBytes(groups, tokens, form)));
          if (few !== null && backend.name === "webgpu" && least <= few) {
            Object.defineProperty((backend as WebGpuBackend).device, "mostBytes", { value: few, configurable: true });
          }
          kernels.restore(streams, form, plan, { chunks, tokens }, to, stride);
          if (backend.name === "webgpu") Reflect.deleteProperty((backend as WebGpuBackend).device, "mostBytes");
          const found = await backend.read(to);
          const parts = await Promise.all(all.map((chunk) => wantedOf(host, chunk, stride)));
          const bytes = tokens * stride * 4;
          parts.forEach((wanted, i) => {
            assertEquals(firstDifference(found.subarray(i * bytes, (i + 1) * bytes), wanted), -1, `chunk ${i}`);
          });
          assert(found.subarray(chunks * bytes, chunks * bytes + 16).every((byte) => byte === 0xff));
          plan.free();
        }),
        { numRuns: casesFor(40) },
      );
    },
  );
}

testGpus("shifts and scales become their bytes", async (backend, kernels) => {
  const cases = fc.record({
    chunks: fc.integer({ min: 1, max: 3 }),
    tokens: fc.nat(70),
    groups: fc.nat(70),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ chunks, tokens, groups, seed }) => {
      const next = generator(seed);
      const parts = Array.from(
        { length: chunks },
        () => Uint16Array.from({ length: tokens * groups * 2 }, () => next() * 65536),
      );
      const all = Uint16Array.from(parts.flatMap((part) => [...part]));
      const planes = parts.map((part) => splitParams(part, tokens, groups));
      const [low, high] = [0, 1].map(() => dirty(backend, all.length + 3));
      kernels.splitParams(upload(backend, all), groups, { chunks, tokens }, low, high);
      for (const [name, found] of [["low", low], ["high", high]] as const) {
        const wanted = [...planes.flatMap((plane) => [...plane[name]]), 0xff, 0xff, 0xff];
        assertEquals(await backend.read(found), Uint8Array.from(wanted), name);
      }
    }),
    { numRuns: casesFor(40) },
  );
  const [long, short] = [backend.alloc(64), backend.alloc(4)];
  const batch = { chunks: 2, tokens: 4 };
  assertThrows(() => kernels.splitParams(short, 2, batch, long, long), RangeError, '"params" has 4 bytes, expected 64');
  assertThrows(() => kernels.splitParams(long, 2, batch, long, short), RangeError, '"high" has 4 bytes, expected 32');
});

testGpus("restoring streams refuses what does not fit", (backend, kernels) => {
  const groups: QuantGroup[] = [{ first: 0, size: 6, type: 1 }, { first: 6, size: 2, type: 3 }];
  const plan = backend.uploadPlan(groups);
  const [long, short] = [backend.alloc(1024), backend.alloc(4)];
  const streams = { int2: long, int4: short, fp8: long, low: long, high: long };
  const restore = (change: Partial<DeviceStreams>, form: CodeForm = "packed", stride = 8) =>
    kernels.restore({ ...streams, ...change }, form, plan, { chunks: 1, tokens: 8 }, long, stride);
  restore({});
  assertThrows(() => restore({ int2: short }), RangeError, '"int2" has 4 bytes, expected 12');
  assertThrows(() => restore({ fp8: short }), RangeError, '"fp8" has 4 bytes, expected 16');
  assertThrows(() => restore({ int2: backend.alloc(12) }, "bytes"), RangeError, '"int2" has 12 bytes, expected 48');
  assertThrows(() => restore({ high: short }), RangeError, '"high" has 4 bytes, expected 32');
  assertThrows(() => restore({}, "packed", 10), RangeError, '"stride" is 10');
  assertThrows(() => restore({}, "packed", 4), RangeError, '"stride" is 4');
  assertThrows(
    () => kernels.restore(streams, "packed", plan, { chunks: 8, tokens: 8 }, long, 8),
    RangeError,
    '"coefficients"',
  );
});
