/**
 * The name of a kvquant profile: a hash of everything that coding takes from it.
 *
 * @module
 */
import { joinDigests, modelText } from "../fingerprint.ts";
import type { KvquantProfile } from "./types.ts";

/**
 * Fingerprint, 64 hexadecimal digits: SHA-256 over the model's text (modelText) and the SHA-256 digests of thresholds,
 * codebooks and norms, all little-endian.
 */
export async function kvquantFingerprint(
  { model, thresholds, codebooks, norms }: Pick<KvquantProfile, "model" | "thresholds" | "codebooks" | "norms">,
): Promise<string> {
  return await joinDigests(await modelText(model), [thresholds, codebooks, norms]);
}
