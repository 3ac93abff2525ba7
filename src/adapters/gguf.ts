/**
 * Model facts from GGUF files: what llama.cpp's state files leave out.
 *
 * @module
 */
import { toFloat32 } from "../cache/elements.ts";
import { checkModel } from "../cache/model.ts";
import { yarnAttentionFactor } from "../cache/rope.ts";
import type { ModelSpec, RopePairing, RopeScaling, RopeSpec } from "../cache/types.ts";
import type { ByteSource } from "../container/bytes.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { type GgufMetadata, readGgufMetadata } from "./gguf_metadata.ts";

export { isGguf } from "./gguf_metadata.ts";
export type { ByteSource } from "../container/bytes.ts";

/** Architectures whose cached keys have adjacent pairs in llama.cpp (LLAMA_ROPE_TYPE_NORM). */
const ADJACENT =
  ("arcee arctic bailingmoe chameleon chatglm command-r deci deepseek ernie4_5 ernie4_5-moe glm4 granite granitemoe " +
    "internlm2 llama minicpm mistral mistral3 olmo xverse").split(" ");

/** Architectures whose cached keys are half-split (LLAMA_ROPE_TYPE_NEOX). */
const HALF_SPLIT =
  ("apertus bailingmoe2 bitnet codeshell dbrx dots1 exaone falcon gemma gemma2 glm4moe gpt-oss gptneox grok grovemoe " +
    "hunyuan-dense hunyuan-moe minimax-m2 nemotron olmo2 olmoe openelm orion phi2 phi3 phimoe plamo qwen qwen2 qwen2moe " +
    "qwen3 qwen3moe seed_oss stablelm starcoder2").split(" ");

/** Architectures whose keys are not rotated. */
const NOT_ROTATED = ["bloom", "gpt2", "jais", "mpt", "refact", "starcoder"];

/** Architectures that cannot be described by one geometry and one RoPE for all layers, and why. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  "latent attention (MLA)": ["deepseek2", "deepseek32", "glm-dsa", "minicpm3", "mistral4", "plm"],
  "recurrent layers": (
    "arwkv7 falcon-h1 granitehybrid jamba kimi-linear lfm2 lfm2moe mamba mamba2 nemotron_h nemotron_h_moe plamo2 qwen35 " +
    "qwen35moe qwen3next rwkv6 rwkv6qwen2 rwkv7"
  ).split(" "),
  "M-RoPE (several positions per token)": ["hunyuan_vl", "paddleocr", "qwen2vl", "qwen3vl", "qwen3vlmoe"],
  "layers without RoPE": ["afmoe", "cohere2", "exaone-moe", "exaone4", "llama4", "smallthinker", "smollm3"],
  "RoPE that differs between layers": ["gemma3", "gemma3n", "gemma4", "mimo2", "plamo3", "step35"],
};

/** What a GGUF file says about its model. */
export interface GgufModel {
  /**
   * Geometry and RoPE, with the pairing that llama.cpp's cache has. `id` is left out: the names in GGUF files are free
   * text and do not match those of other sources.
   */
  readonly model: ModelSpec;
  /** `general.name`, free text. */
  readonly name?: string;
  /** Longest context of the training, tokens. */
  readonly contextLength?: number;
}

/** What the caller knows better. */
export interface GgufOptions {
  /** Pairing of the cached keys; needed for architectures that are not known here. */
  readonly pairing?: RopePairing;
}

/** Typed access to the metadata of one architecture. */
class Facts {
  readonly #metadata: GgufMetadata;
  readonly architecture: string;

  constructor(metadata: GgufMetadata) {
    this.#metadata = metadata;
    const architecture = metadata.values.get("general.architecture");
    if (typeof architecture !== "string") throw new KvzFormatError("Cannot read GGUF: general.architecture is missing");
    this.architecture = architecture;
  }

  number(name: string): number | undefined {
    const value = this.#metadata.values.get(`${this.architecture}.${name}`);
    if (value !== undefined && typeof value !== "number") {
      throw new KvzFormatError(`Cannot read GGUF: ${this.architecture}.${name} is ${value}, expected a number`);
    }
    return value;
  }

  required(name: string): number {
    const value = this.number(name);
    if (value === undefined) throw new KvzFormatError(`Cannot read GGUF: ${this.architecture}.${name} is missing`);
    return value;
  }

  string(name: string): string | undefined {
    const value = this.#metadata.values.get(`${this.architecture}.${name}`);
    if (value !== undefined && typeof value !== "string") {
      throw new KvzFormatError(`Cannot read GGUF: ${this.architecture}.${name} is ${value}, expected a string`);
    }
    return value;
  }

  /** A number that some architectures give layer by layer. */
  uniform(name: string): number | undefined {
    const value = this.#metadata.values.get(`${this.architecture}.${name}`);
    if (!Array.isArray(value)) return this.number(name);
    if (value.some((entry) => entry !== value[0])) {
      throw new KvzUnsupportedError(
        `Cannot use model: ${this.architecture}.${name} differs between layers ([${value.join(", ")}])`,
      );
    }
    return value[0];
  }

  /** Whether an entry is there and not all zero. */
  states(name: string): boolean {
    const value = this.#metadata.values.get(`${this.architecture}.${name}`);
    return Array.isArray(value) ? value.some((entry) => entry !== 0) : value !== undefined && value !== 0;
  }
}

function refuse(facts: Facts): void {
  for (const [reason, architectures] of Object.entries(REFUSED)) {
    if (architectures.includes(facts.architecture)) {
      throw new KvzUnsupportedError(`Cannot use model: ${facts.architecture} has ${reason}, which is not supported`);
    }
  }
  const keys: [string, string][] = [
    ["attention.kv_lora_rank", "latent attention (MLA)"],
    ["ssm.state_size", "recurrent layers"],
    ["rope.dimension_sections", "M-RoPE (several positions per token)"],
    ["rope.freq_base_swa", "RoPE that differs between layers"],
    ["rope.scaling.yarn_log_multiplier", "a YaRN log multiplier"],
  ];
  for (const [key, reason] of keys) {
    if (facts.states(key)) {
      throw new KvzUnsupportedError(
        `Cannot use model: ${facts.architecture} has ${reason} (${key}), which is not supported`,
      );
    }
  }
}

function readPairing(architecture: string, options: GgufOptions): RopePairing {
  if (options.pairing !== undefined) return options.pairing;
  if (ADJACENT.includes(architecture)) return "adjacent";
  if (HALF_SPLIT.includes(architecture)) return "half-split";
  throw new KvzUnsupportedError(
    `Cannot use model: RoPE pairing of architecture "${architecture}" is not known; give it as an option ("adjacent" or "half-split")`,
  );
}

function readScaling(facts: Facts): RopeScaling | undefined {
  const factor = facts.number("rope.scaling.factor") ?? facts.number("rope.scale_linear") ?? 0;
  const type = facts.string("rope.scaling.type") ?? "linear"; // llama.cpp's default; without a factor it does nothing
  if (type === "none" || (type === "linear" && (factor === 0 || factor === 1))) return undefined;
  if (type === "linear") return { type, factor };
  if (type !== "yarn") {
    throw new KvzUnsupportedError(
      `Cannot use model: RoPE scaling "${type}" is not supported, expected none, linear or yarn`,
    );
  }
  if (factor === 0) throw new KvzFormatError(`Cannot read GGUF: ${facts.architecture}.rope.scaling.factor is missing`);
  for (const name of ["yarn_ext_factor", "yarn_attn_factor"]) {
    const value = facts.number(`rope.scaling.${name}`);
    if (value !== undefined && value !== 1) {
      throw new KvzUnsupportedError(`Cannot use model: rope.scaling.${name} is ${value}, expected 1`);
    }
  }
  return {
    type,
    factor,
    originalMaxPosition: facts.number("rope.scaling.original_context_length") ?? facts.required("context_length"),
    betaFast: facts.number("rope.scaling.yarn_beta_fast") ?? 32,
    betaSlow: facts.number("rope.scaling.yarn_beta_slow") ?? 1,
    attentionFactor: yarnAttentionFactor(factor) * (facts.number("rope.scaling.attn_factor") ?? 1),
    truncate: true,
  };
}

/**
 * Llama 3.1 and later: GGUF files hold the divisors of the frequencies as a tensor instead of the parameters they come
 * from. All published models use low and high frequency factors 1 and 4 and 8192 original positions, which is checked
 * against the tensor.
 */
async function readLlama3Scaling(
  source: ByteSource,
  metadata: GgufMetadata,
  theta: number,
  dim: number,
): Promise<RopeScaling | undefined> {
  const named = (word: string) => metadata.tensors.find(({ name }) => name.includes(word));
  if (named("rope_factors_long")) {
    throw new KvzUnsupportedError('Cannot use model: RoPE scaling "longrope" is not supported');
  }
  const tensor = named("rope_freqs.weight");
  if (tensor === undefined) return undefined;
  const count = tensor.dims.reduce((product, size) => product * size, 1);
  if (tensor.type !== 0 || count !== dim / 2 || tensor.offset + count * 4 > source.size) {
    throw new KvzFormatError(
      `Cannot read GGUF: ${tensor.name} has type ${tensor.type} and ${count} elements at ${tensor.offset}, expected ${
        dim / 2
      } of type 0 (f32) within the file`,
    );
  }
  const divisors = toFloat32(await source.read(tensor.offset, count * 4), "f32");
  const factor = divisors.reduce((a, b) => Math.max(a, b), 0);
  if (divisors.every((divisor) => divisor === 1)) return undefined;
  const scaling = { type: "llama3", factor, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPosition: 8192 } as const;
  divisors.forEach((divisor, i) => {
    const turns = scaling.originalMaxPosition * theta ** (-2 * i / dim) / (2 * Math.PI);
    const smooth = Math.min(Math.max((turns - 1) / 3, 0), 1);
    const wanted = 1 / ((1 - smooth) / factor + smooth);
    if (!(Math.abs(divisor - wanted) <= 1e-3 * wanted)) {
      throw new KvzUnsupportedError(
        `Cannot use model: ${tensor.name}[${i}] is ${divisor}, expected ${wanted} of Llama 3 scaling by ${factor}`,
      );
    }
  });
  return scaling;
}

async function readRope(
  source: ByteSource,
  metadata: GgufMetadata,
  facts: Facts,
  keyDim: number,
  options: GgufOptions,
): Promise<RopeSpec | null> {
  if (NOT_ROTATED.includes(facts.architecture)) return null;
  const theta = facts.number("rope.freq_base") ?? 10000; // llama.cpp's default
  const dim = facts.number("rope.dimension_count") ?? keyDim;
  const pairing = readPairing(facts.architecture, options);
  const linear = readScaling(facts);
  const llama3 = await readLlama3Scaling(source, metadata, theta, dim);
  if (linear && llama3) {
    throw new KvzUnsupportedError(`Cannot use model: it has ${linear.type} RoPE scaling and rope_freqs.weight`);
  }
  const scaling = linear ?? llama3;
  return { theta, dim, pairing, ...(scaling ? { scaling } : {}) };
}

/**
 * Reads geometry and RoPE of a model from its GGUF file: metadata, tensor names and, for Llama 3 scaling, the small
 * tensor `rope_freqs.weight`.
 *
 * @throws {KvzFormatError} The file is damaged or lacks a fact.
 * @throws {KvzLimitError} The metadata are larger than 256 MiB.
 * @throws {KvzUnsupportedError} Layers that differ, latent attention, recurrent layers, M-RoPE, other RoPE scalings, or
 * an architecture of unknown pairing without the option; the message names it.
 */
export async function readGgufModel(source: ByteSource, options: GgufOptions = {}): Promise<GgufModel> {
  const metadata = await readGgufMetadata(source);
  const facts = new Facts(metadata);
  refuse(facts);
  const heads = facts.uniform("attention.head_count");
  const kvHeads = facts.uniform("attention.head_count_kv") ?? heads;
  if (kvHeads === undefined) {
    throw new KvzFormatError(`Cannot read GGUF: ${facts.architecture}.attention.head_count is missing`);
  }
  const headDim = () => facts.required("embedding_length") / (heads ?? NaN);
  const keyDim = facts.number("attention.key_length") ?? headDim();
  const model: ModelSpec = {
    architecture: facts.architecture,
    layers: facts.required("block_count"),
    kvHeads,
    keyDim,
    valueDim: facts.number("attention.value_length") ?? headDim(),
    rope: await readRope(source, metadata, facts, keyDim, options),
  };
  try {
    checkModel(model);
  } catch (error) {
    throw new KvzFormatError(`Cannot read GGUF: ${(error as Error).message}`, { cause: error });
  }
  const name = metadata.values.get("general.name");
  const contextLength = facts.number("context_length");
  return {
    model,
    ...(typeof name === "string" ? { name } : {}),
    ...(contextLength !== undefined ? { contextLength } : {}),
  };
}
