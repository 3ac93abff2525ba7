import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { layOutSafetensors } from "../../src/adapters/safetensors_file.ts";
import { KINDS } from "../../src/cache/types.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { importProfile } from "../../src/profile/import.ts";
import { checkAutoencoders, checkSources } from "../../src/profile/kvcar/check.ts";
import { kvcarFingerprint } from "../../src/profile/kvcar/fingerprint.ts";
import type { KvcarProfile } from "../../src/profile/kvcar/types.ts";
import { parseProfile, serializeProfile } from "../../src/profile/profile_format.ts";
import { shingleHashes } from "../../src/profile/shingles.ts";
import { random, SMALL_MODEL } from "../synthetic.ts";
import { makeProfile, RANDOM } from "./profiles.ts";

const IDS = Int32Array.from({ length: 2 * 40 }, (_, i) => i * 7 % 50);

Deno.test("kvcar profiles: written and read back", async () => {
  const reuse = { key: { 2: 0 }, value: { 5: 1 } };
  for (const parts of [{ layers: [] }, { reuse, share: 0.5, ...RANDOM, preRope: true }]) {
    const profile = await makeProfile(parts);
    assertEquals(await parseProfile(await serializeProfile(profile)), profile);
  }
});

Deno.test("kvcar profiles: every truncation and all damage is refused", async () => {
  const bytes = await serializeProfile(await makeProfile({ share: 0.5, ...RANDOM }));
  const next = random(5);
  for (let i = 0; i < 60; i++) {
    const cut = Math.floor(next() * bytes.length);
    await assertRejects(() => parseProfile(bytes.subarray(0, cut)), KvzFormatError);
    const damaged = bytes.slice();
    damaged[cut] ^= 1 + Math.floor(next() * 255);
    await assertRejects(() => parseProfile(damaged), KvzFormatError);
  }
});

Deno.test("kvcar profiles: chains, forward references, misfits and infinities are refused", async () => {
  const bad = [[0, 1, 0, 3, 2, 5], [0, 0, 2, 3, 4, 5], [2, 1, 2, 3, 4, 5], [0, 1, -1, 3, 4, 5]];
  for (const sources of bad) {
    assertThrows(() => checkSources(Int32Array.from(sources), "key", SMALL_MODEL), KvzFormatError, "reuse slot");
  }
  assertThrows(() => checkSources(Int32Array.of(0, 1, 2), "key", SMALL_MODEL), KvzFormatError, "has 3 slots");
  checkSources(Int32Array.of(0, 1, 0, 3, 0, 1), "key", SMALL_MODEL);
  const { kinds: { key } } = await makeProfile();
  const [first] = key.autoencoders;
  const nan = first.parameters.slice();
  nan[7] = NaN;
  for (
    const autoencoders of [
      [first, first],
      [{ ...first, layer: 3 }],
      [{ ...first, inputs: 10 }],
      [{ ...first, latent: 21 }],
      [{ ...first, parameters: first.parameters.subarray(1) }],
      [{ ...first, parameters: nan }],
    ]
  ) {
    assertThrows(() => checkAutoencoders({ ...key, autoencoders }, "key", SMALL_MODEL), KvzFormatError, "autoencoder");
  }
});

Deno.test("kvcar profiles: the fingerprint is of all that coding takes", async () => {
  const profile = await makeProfile({ share: 0.5 });
  const { key, value } = profile.kinds;
  const [first, ...rest] = key.autoencoders;
  const other = first.parameters.slice();
  other[3] += 1e-3;
  for (
    const changed of [
      { ...profile, preRope: true },
      { ...profile, slope: 0.02 },
      { ...profile, kinds: { key: value, value: key } },
      { ...profile, kinds: { value, key: { ...key, autoencoders: rest } } },
      { ...profile, kinds: { value, key: { ...key, autoencoders: [{ ...first, parameters: other }, ...rest] } } },
      { ...profile, kinds: { value, key: { ...key, sources: Int32Array.of(0, 1, 0, 3, 4, 5) } } },
    ]
  ) {
    assertNotEquals(await kvcarFingerprint(changed), profile.fingerprint);
  }
  assertEquals(await kvcarFingerprint({ ...profile, shingles: new BigUint64Array(0) }), profile.fingerprint);
});

Deno.test("kvcar export: becomes the profile it was made of; shingles are those of its texts", async () => {
  const profile = await makeProfile({ share: 0.5, ...RANDOM, reuse: { key: { 2: 0 } } });
  const imported = await importProfile(memorySource(exported(profile)));
  const hashes = [IDS.subarray(0, 40), IDS.subarray(40)].flatMap((ids) => [...shingleHashes(ids)]);
  assertEquals(imported, { ...profile, shingles: BigUint64Array.from(hashes).sort() });
});

Deno.test("kvcar export: what it lacks or has too much is refused by name", async () => {
  const profile = await makeProfile({ share: 0.5, ...RANDOM });
  const cases: [Change, string][] = [
    [{ drop: "value.sources" }, "no tensor value.sources"],
    [{ drop: "layers.2.key.decoder.1.bias" }, "no tensor layers.2.key.decoder.1.bias"],
    [{ drop: "input_ids" }, "no tensor input_ids"],
    [{ drop: "layers.2.key.encoder.0.weight" }, "is not known here"],
    [{ metadata: { method: "kvtc" } }, "its method is kvtc, expected kvcar"],
    [{ metadata: { layers: "4" } }, "key.sources has the shape [3,2], expected [4,2]"],
    [{ metadata: { slope: "-1" } }, "slope"],
    [{ metadata: { rope: "{" } }, "not JSON"],
    [{ metadata: { pre_rope: "maybe" } }, "pre_rope"],
  ];
  for (const [change, message] of cases) {
    await assertRejects(() => importProfile(memorySource(exported(profile, change))), KvzFormatError, message);
  }
  const bytes = exported(profile);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), async (cut) => {
      await assertRejects(() => importProfile(memorySource(bytes.subarray(0, cut))), KvzFormatError);
    }),
    { numRuns: 30 },
  );
});

interface Change {
  readonly drop?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** As tools/kvcar.py writes it. */
function exported(profile: KvcarProfile, { drop, metadata = {} }: Change = {}): Uint8Array {
  const { model, calibration, preRope, slope, kinds } = profile;
  const { theta, dim, pairing } = model.rope!;
  const tensors: { name: string; dtype: string; shape: number[]; data: ArrayBufferView }[] = [
    { name: "input_ids", dtype: "I32", shape: [2, 40], data: IDS },
  ];
  for (const kind of KINDS) {
    const { sources, autoencoders } = kinds[kind];
    tensors.push({ name: `${kind}.sources`, dtype: "I32", shape: [model.layers, model.kvHeads], data: sources });
    for (const { layer, inputs, hidden, latent, parameters } of autoencoders) {
      const sizes = [[hidden, inputs], [latent, hidden], [hidden, latent], [inputs, hidden]];
      let at = 0;
      ["encoder.0", "encoder.1", "decoder.0", "decoder.1"].forEach((name, i) => {
        const [rows, columns] = sizes[i];
        const prefix = `layers.${layer}.${kind}.${name}`;
        const weight = parameters.slice(at, at + rows * columns);
        const bias = parameters.slice(at + rows * columns, at + rows * (columns + 1));
        at += rows * (columns + 1);
        tensors.push({ name: `${prefix}.weight`, dtype: "F32", shape: [rows, columns], data: weight });
        tensors.push({ name: `${prefix}.bias`, dtype: "F32", shape: [rows], data: bias });
      });
    }
  }
  const kept = tensors.filter(({ name }) => name !== drop);
  const { head, tensors: places, byteLength } = layOutSafetensors(kept, {
    method: "kvcar",
    model: model.id!,
    architecture: model.architecture!,
    rope: JSON.stringify({ theta, dim, pairing, first_position: 0 }),
    layers: `${model.layers}`,
    kv_heads: `${model.kvHeads}`,
    key_dim: `${model.keyDim}`,
    value_dim: `${model.valueDim}`,
    pre_rope: `${preRope}`,
    slope: `${slope}`,
    tokens: `${calibration.tokens}`,
    sequences: `${calibration.sequences}`,
    seed: `${calibration.seed}`,
    ...metadata,
  });
  const out = new Uint8Array(byteLength);
  out.set(head);
  for (const { name, data } of kept) {
    out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), places.get(name)!.begin);
  }
  return out;
}
