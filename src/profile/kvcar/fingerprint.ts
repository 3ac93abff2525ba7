/**
 * The name of a kvcar profile: a hash of everything that coding takes from it.
 *
 * @module
 */
import { modelFingerprint } from "../../cache/fingerprint.ts";
import { KINDS } from "../../cache/types.ts";
import { joinDigests } from "../fingerprint.ts";
import type { KvcarProfile } from "./types.ts";

/**
 * Fingerprint, 64 hexadecimal digits: SHA-256 over the model's fingerprint (as text) and the SHA-256 digests of [preRope]
 * as u32, [slope] as f64 and, for keys and then for values, of the sources as i32, [layer, inputs, hidden, latent] of every
 * autoencoder as u32 and the parameters of each, all little-endian.
 */
export async function kvcarFingerprint(profile: Omit<KvcarProfile, "fingerprint">): Promise<string> {
  const { model, preRope, slope, kinds } = profile;
  return await joinDigests(await modelFingerprint(model), [
    Uint32Array.of(preRope ? 1 : 0),
    Float64Array.of(slope),
    ...KINDS.flatMap((kind) => {
      const { sources, autoencoders } = kinds[kind];
      return [
        sources,
        Uint32Array.from(autoencoders.flatMap(({ layer, inputs, hidden, latent }) => [layer, inputs, hidden, latent])),
        ...autoencoders.map(({ parameters }) => parameters),
      ];
    }),
  ]);
}
