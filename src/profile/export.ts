/**
 * Profiles as .safetensors, for NumPy and PyTorch.
 *
 * @module
 */
import { layOutSafetensors, type TensorShape } from "../adapters/safetensors_file.ts";
import { planFor } from "./plan.ts";
import { KINDS } from "../cache/types.ts";
import { GROUP_SIZES, GROUP_TYPES, type KvtcProfile } from "./types.ts";

/** Options of {@linkcode exportProfile}. */
export interface ExportOptions {
  /** Also writes the plan for this ratio, as `key.groups` and `value.groups`. */
  readonly ratio?: number;
}

/**
 * A profile in a safetensors file. For `key` and `value`: `.mean` F32 [p], `.basis` F16 [components][p], `.variance` F32
 * [rank], `.energy` F64 [rank], `.errors` F32 [rank][5][3] (the error table), and for a ratio `.groups` I32 [groups][3]:
 * first component, size, type (1 = int2, 2 = int4, 3 = fp8).
 *
 * @throws {RangeError} when the ratio is not a positive number.
 * @throws {KvzMismatchError} when the profile was trimmed and lacks components for the ratio.
 */
export function exportProfile(profile: KvtcProfile, options: ExportOptions = {}): Uint8Array {
  const tensors: (TensorShape & { readonly data: ArrayBufferView })[] = [];
  for (const kind of KINDS) {
    const { features, components, mean, basis, variance, table } = profile.kinds[kind];
    const { rank, energy, errors } = table;
    tensors.push(
      { name: `${kind}.mean`, dtype: "F32", shape: [features], data: mean },
      { name: `${kind}.basis`, dtype: "F16", shape: [components, features], data: basis },
      { name: `${kind}.variance`, dtype: "F32", shape: [rank], data: variance },
      { name: `${kind}.energy`, dtype: "F64", shape: [rank], data: energy },
      { name: `${kind}.errors`, dtype: "F32", shape: [rank, GROUP_SIZES.length, GROUP_TYPES.length], data: errors },
    );
    if (options.ratio !== undefined) {
      const groups = planFor(profile, kind, options.ratio);
      const data = Int32Array.from(groups.flatMap(({ first, size, type }) => [first, size, type]));
      tensors.push({ name: `${kind}.groups`, dtype: "I32", shape: [groups.length, 3], data });
    }
  }
  const { head, tensors: places, byteLength } = layOutSafetensors(tensors, {
    format: "kvz-profile",
    fingerprint: profile.fingerprint,
    ...(profile.model.id === undefined ? {} : { model: profile.model.id }),
  });
  const out = new Uint8Array(byteLength);
  out.set(head);
  for (const { name, data } of tensors) {
    out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), places.get(name)!.begin);
  }
  return out;
}
