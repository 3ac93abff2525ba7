/**
 * WebAssembly memory that one lane (thread) uses with recipe kvtc: after loading the basis, and after a full chunk of
 * both kinds, when all its buffers exist.
 *
 *     deno run -A bench/lane_memory.ts [--cache C.safetensors] [--profile P.kvzp] [--ratios 32,64]
 *
 * @module
 */
import { createWasmBackend } from "../src/backend/wasm/create.ts";
import { KINDS } from "../src/cache/types.ts";
import { kvtc } from "../src/recipes/kvtc.ts";
import { loadInputs, option } from "./inputs.ts";

const { cache, profile } = await loadInputs();
for (const ratio of option("ratios", "32,64").split(",").map(Number)) {
  const backend = await createWasmBackend();
  const facts = {
    model: profile.model,
    storedDType: cache.dtype,
    dtype: cache.dtype,
    openBackend: () => createWasmBackend(),
  };
  const codec = await kvtc.open(backend, await kvtc.planSetup(profile, facts, kvtc.parseOptions({ ratio })));
  const basis = backend.bytesInUse;
  const [begin, end] = [0, Math.min(256, cache.tokens)];
  const positions = cache.positions.slice(begin, end);
  for (const kind of KINDS) {
    const data = cache.read(kind, begin, end);
    await codec.encode({
      op: "encode",
      after: 0,
      region: "chunk",
      kinds: [kind],
      begin,
      tokens: end - begin,
      positions,
      data: [data],
    });
  }
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  console.log(
    `ratio ${ratio}: basis and mean ${mib(basis)} MiB, with the buffers of a chunk ${mib(backend.bytesInUse)} MiB`,
  );
}
