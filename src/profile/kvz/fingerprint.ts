/**
 * The name of a kvz profile: a hash of everything that coding takes from it.
 *
 * @module
 */
import { joinDigests, modelText } from "../fingerprint.ts";
import type { KvzProfile } from "./types.ts";

/**
 * Fingerprint, 64 hexadecimal digits: SHA-256 over the model's text (modelText) and the SHA-256 digests of
 * [features, components, sets] as u32, mean, scales, variance, basis, sensitivity blocks, of every step set [s] as i32, rho32 and
 * logSigma, and of the tables, all little-endian. The curve, which coding does not need, may be added later.
 */
export async function kvzFingerprint(profile: Omit<KvzProfile, "fingerprint">): Promise<string> {
  const { model, layerMap, features, components, mean, scales, variance, basis, sensitivityBlocks, stepSets, tables } =
    profile;
  return await joinDigests(await modelText(model, layerMap), [
    Uint32Array.of(features, components, stepSets.length),
    mean,
    scales,
    variance,
    basis,
    sensitivityBlocks,
    ...stepSets.flatMap(({ s, rho32, logSigma }) => [Int32Array.of(s), rho32, logSigma]),
    tables.frequencies,
  ]);
}
