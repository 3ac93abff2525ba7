/**
 * What tools/kvcar.py exports, as a profile. A safetensors file with the metadata `method` ("kvcar"), `model`,
 * `architecture`, `rope` (as in cache files), `layers`, `kv_heads`, `key_dim`, `value_dim`, `pre_rope`, `slope`, `tokens`,
 * `sequences` and `seed`, and the tensors `key.sources`, `value.sources` I32 [layers][kv_heads]; for each autoencoder
 * `layers.N.key.encoder.0.weight` F32 [hidden][inputs], `….0.bias`, `….1.weight`, `….1.bias`, and `….decoder.…` likewise;
 * `input_ids` I32 [sequences][tokens] of the training texts.
 *
 * @module
 */
import { readSafetensorsHeader, type SafetensorsHeader } from "../../adapters/safetensors_file.ts";
import { parseRopeMetadata } from "../../adapters/safetensors_rope.ts";
import { checkModel } from "../../cache/model.ts";
import type { Kind, ModelSpec } from "../../cache/types.ts";
import type { ByteSource } from "../../container/bytes.ts";
import { MAX_HEAD_DIM, MAX_LAYERS_AND_HEADS } from "../../container/model_json.ts";
import { KvzFormatError } from "../../errors.ts";
import { shingleHashes } from "../shingles.ts";
import { checkAutoencoders, checkSources } from "./check.ts";
import { kvcarFingerprint } from "./fingerprint.ts";
import { type Autoencoder, type KvcarKind, type KvcarProfile, parameterCount } from "./types.ts";

const WEIGHTS = ["encoder.0", "encoder.1", "decoder.0", "decoder.1"] as const;

/**
 * Reads an export of tools/kvcar.py.
 *
 * @throws {KvzFormatError} when it is none; the message names the tensor or the field
 */
export async function importKvcar(source: ByteSource): Promise<KvcarProfile> {
  const file = new ExportFile(source, await readSafetensorsHeader(source));
  file.text("method", /^kvcar$/);
  const model = file.model();
  const kinds = { key: await file.kind("key", model), value: await file.kind("value", model) };
  const ids = await file.ids();
  const profile = {
    method: "kvcar" as const,
    model,
    calibration: {
      tokens: file.integer("tokens", 0, 2 ** 53 - 1),
      sinks: 0,
      sequences: file.integer("sequences", 0, 2 ** 53 - 1),
      seed: file.integer("seed", 0, 2 ** 32 - 1),
    },
    preRope: file.text("pre_rope", /^(true|false)$/) === "true",
    slope: file.slope(),
    kinds,
    shingles: BigUint64Array.from(new Set(ids.flatMap((row) => [...shingleHashes(row)]))).sort(),
  };
  file.done();
  return { ...profile, fingerprint: await kvcarFingerprint(profile) };
}

class ExportFile {
  readonly #source: ByteSource;
  readonly #header: SafetensorsHeader;
  readonly #asked = new Set<string>();

  constructor(source: ByteSource, header: SafetensorsHeader) {
    this.#source = source;
    this.#header = header;
  }

  text(name: string, form: RegExp): string {
    const value = this.#header.metadata[name];
    if (value === undefined || !form.test(value)) {
      throw fault(`metadata ${name} is ${value === undefined ? "absent" : JSON.stringify(value)}, expected ${form}`);
    }
    return value;
  }

  integer(name: string, min: number, max: number): number {
    const value = Number(this.text(name, /^\d{1,16}$/));
    if (value < min || value > max) throw fault(`metadata ${name} is ${value}, expected ${min} to ${max}`);
    return value;
  }

  slope(): number {
    const value = Number(this.text("slope", /^[0-9.e-]{1,32}$/));
    if (!(Number.isFinite(value) && value >= 0)) throw fault(`metadata slope is ${value}, expected a number from 0 on`);
    return value;
  }

  model(): ModelSpec {
    const keyDim = this.integer("key_dim", 1, MAX_HEAD_DIM);
    const model: ModelSpec = {
      architecture: this.text("architecture", /^.{1,1024}$/),
      id: this.text("model", /^.{1,1024}$/),
      layers: this.integer("layers", 1, MAX_LAYERS_AND_HEADS),
      kvHeads: this.integer("kv_heads", 1, MAX_LAYERS_AND_HEADS),
      keyDim,
      valueDim: this.integer("value_dim", 1, MAX_HEAD_DIM),
      rope: parseRopeMetadata(this.text("rope", /./), keyDim).rope,
    };
    checkModel(model);
    return model;
  }

  async kind(kind: Kind, model: ModelSpec): Promise<KvcarKind> {
    const { bytes, shape } = await this.#tensor(`${kind}.sources`, "I32");
    if (shape.join() !== `${model.layers},${model.kvHeads}`) {
      throw fault(`${kind}.sources has the shape [${shape}], expected [${model.layers},${model.kvHeads}]`);
    }
    const sources = new Int32Array(bytes);
    checkSources(sources, kind, model);
    const autoencoders: Autoencoder[] = [];
    for (let layer = 0; layer < model.layers; layer++) {
      if (!this.#header.tensors.has(`layers.${layer}.${kind}.encoder.0.weight`)) continue;
      autoencoders.push(await this.#autoencoder(`layers.${layer}.${kind}`, layer));
    }
    const read = { sources, autoencoders };
    checkAutoencoders(read, kind, model);
    return read;
  }

  async #autoencoder(prefix: string, layer: number): Promise<Autoencoder> {
    const parts: Float32Array[] = [];
    const shapes: (readonly number[])[] = [];
    for (const name of WEIGHTS) {
      for (const part of ["weight", "bias"]) {
        const { bytes, shape } = await this.#tensor(`${prefix}.${name}.${part}`, "F32");
        parts.push(new Float32Array(bytes));
        shapes.push(shape);
      }
    }
    const [hidden, inputs] = shapes[0];
    const [latent] = shapes[2];
    const wanted = [[hidden, inputs], [hidden], [latent, hidden], [latent], [hidden, latent], [hidden], [
      inputs,
      hidden,
    ], [inputs]];
    if (shapes.some((shape, i) => shape.join() !== wanted[i].join())) {
      throw fault(`${prefix} has weights of shapes ${JSON.stringify(shapes)}, expected ${JSON.stringify(wanted)}`);
    }
    const parameters = new Float32Array(parameterCount({ inputs, hidden, latent }));
    let at = 0;
    for (const part of parts) {
      parameters.set(part, at);
      at += part.length;
    }
    return { layer, inputs, hidden, latent, parameters };
  }

  /** Token ids of the training sequences. */
  async ids(): Promise<Int32Array[]> {
    const { bytes, shape } = await this.#tensor("input_ids", "I32");
    const all = new Int32Array(bytes);
    const [rows, length] = shape;
    return Array.from({ length: rows }, (_, i) => all.subarray(i * length, (i + 1) * length));
  }

  /** Refuses tensors that nobody asked for. */
  done(): void {
    const unknown = [...this.#header.tensors.keys()].find((name) => !this.#asked.has(name));
    if (unknown !== undefined) throw fault(`tensor ${JSON.stringify(unknown.slice(0, 80))} is not known here`);
  }

  async #tensor(name: string, dtype: string): Promise<{ bytes: ArrayBuffer; shape: readonly number[] }> {
    const info = this.#header.tensors.get(name);
    if (info === undefined) throw fault(`it has no tensor ${name}`);
    this.#asked.add(name);
    const dimensions = name === "input_ids" || name.endsWith("sources") || name.endsWith("weight") ? 2 : 1;
    if (info.dtype !== dtype || info.shape.length !== dimensions) {
      throw fault(`${name} is ${info.dtype} [${info.shape}], expected ${dtype} of ${dimensions} dimensions`);
    }
    const bytes = await this.#source.read(info.begin, info.end - info.begin);
    return { bytes: bytes.slice().buffer, shape: info.shape };
  }
}

function fault(message: string): KvzFormatError {
  return new KvzFormatError(`Cannot import profile: ${message}`);
}
