/**
 * The suite in workerd (Cloudflare Workers), over the edge entry: fixtures are bindings, the kernels a module.
 *
 * @module
 */
import * as kvz from "@kvz/kvz/edge";
import module from "@kvz/kvz/wasm/codec_simd.wasm";
import { runSuite } from "./suite.js";

export default {
  async fetch(_request, env) {
    const fixtures = {
      profile: new Uint8Array(env.PROFILE),
      cache: new Uint8Array(env.CACHE),
      reference: new Uint8Array(env.REFERENCE),
    };
    const { checks, files } = await runSuite(kvz, fixtures, [{ name: "simd", options: { module } }]);
    const threads = await kvz.openCodec(await kvz.loadProfile(fixtures.profile), { module, threads: 2 })
      .then(() => null, (error) => error);
    const name = "threads are refused with KvzBackendError";
    checks.push(threads instanceof kvz.KvzBackendError ? { name } : { name, error: `Got ${threads}` });
    checks.push(await sampleCheck(env));
    const body = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, toBase64(bytes)]));
    return Response.json({ checks, files: body });
  },
};

/** The demo's real cache and profile (SmolLM2), for what it takes. */
async function sampleCheck(env) {
  const name = "a real cache";
  try {
    const profile = await kvz.loadProfile(new Uint8Array(env.SAMPLE_PROFILE));
    const cache = await kvz.readSafetensors(new Uint8Array(env.SAMPLE_CACHE));
    const { bytes, report } = await kvz.compress(cache, { profile, module, ratio: 32, window: 32 });
    const { cache: restored } = await kvz.decompress(bytes, { profile, module });
    const good = restored.tokens === cache.tokens && report.paperRatio > 25;
    return good ? { name } : { name, error: `${restored.tokens} tokens at ratio ${report.paperRatio}` };
  } catch (error) {
    return { name, error: error.stack };
  }
}

function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return btoa(text);
}
