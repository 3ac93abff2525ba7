/**
 * The name of a fit: a hash of everything that compression takes from it.
 *
 * @module
 */
import { modelFingerprint } from "../cache/fingerprint.ts";
import type { Kind, ModelSpec } from "../cache/types.ts";
import type { KindProfile } from "./types.ts";

async function sha256(data: ArrayBufferView): Promise<Uint8Array> {
  const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

/** The text that fingerprints begin with: the model's fingerprint and, where layers share, a space and their map. */
export async function modelText(model: ModelSpec, layerMap?: string): Promise<string> {
  const fingerprint = await modelFingerprint(model);
  return layerMap === undefined ? fingerprint : `${fingerprint} ${layerMap}`;
}

/**
 * Fingerprint of an untrimmed fit, 64 hexadecimal digits: SHA-256 over the model's text (above) and, for keys
 * and then for values, the SHA-256 digests of [features, components, rank, rows] as u32, mean, basis, energy and errors,
 * all little-endian. Trimmed forms keep the fingerprint of their fit.
 */
export async function fitFingerprint(
  model: ModelSpec,
  kinds: Readonly<Record<Kind, KindProfile>>,
  layerMap?: string,
): Promise<string> {
  return await joinDigests(
    await modelText(model, layerMap),
    [kinds.key, kinds.value].flatMap(({ features, components, mean, basis, table }) => [
      Uint32Array.of(features, components, table.rank, table.rows),
      mean,
      basis,
      table.energy,
      table.errors,
    ]),
  );
}

/** SHA-256, in hexadecimal digits, over a text and the SHA-256 digests of arrays. */
export async function joinDigests(text: string, arrays: readonly ArrayBufferView[]): Promise<string> {
  const parts: Uint8Array[] = [new TextEncoder().encode(text)];
  for (const data of arrays) parts.push(await sha256(data));
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return Array.from(await sha256(joined), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
