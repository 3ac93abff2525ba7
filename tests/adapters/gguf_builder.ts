/** Writes small GGUF files, independently of the reader. */

export type Entry = [key: string, type: number, value: unknown];

const utf8 = new TextEncoder();
export const STRING = 8;
export const ARRAY = 9;
export const U32 = 4;
export const F32 = 6;

function u32(value: number): number[] {
  return [...new Uint8Array(Uint32Array.of(value).buffer)];
}
function u64(value: number | bigint): number[] {
  return [...new Uint8Array(BigUint64Array.of(BigInt(value)).buffer)];
}
function string(text: string): number[] {
  const bytes = utf8.encode(text);
  return [...u64(bytes.length), ...bytes];
}

function scalar(type: number, value: unknown): number[] {
  switch (type) {
    case 0:
    case 1:
    case 7:
      return [Number(value) & 255];
    case 2:
    case 3:
      return u32(Number(value)).slice(0, 2);
    case 4:
    case 5:
      return u32(Number(value));
    case 6:
      return [...new Uint8Array(Float32Array.of(Number(value)).buffer)];
    case 8:
      return string(String(value));
    case 10:
    case 11:
      return u64(BigInt.asUintN(64, BigInt(value as number)));
    case 12:
      return [...new Uint8Array(Float64Array.of(Number(value)).buffer)];
    default:
      throw new Error(`type ${type}`);
  }
}

/** [element type, elements] is the value of an array entry. */
export function gguf(
  entries: readonly Entry[],
  tensors: readonly { name: string; data: Float32Array }[] = [],
  version = 3,
): Uint8Array {
  const out = [...utf8.encode("GGUF"), ...u32(version), ...u64(tensors.length), ...u64(entries.length)];
  for (const [key, type, value] of entries) {
    out.push(...string(key), ...u32(type));
    if (type === ARRAY) {
      const [elementType, elements] = value as [number, unknown[]];
      out.push(...u32(elementType), ...u64(elements.length));
      for (const element of elements) out.push(...scalar(elementType, element));
    } else out.push(...scalar(type, value));
  }
  let offset = 0;
  for (const { name, data } of tensors) {
    out.push(...string(name), ...u32(1), ...u64(data.length), ...u32(0), ...u64(offset));
    offset += Math.ceil(data.byteLength / 32) * 32;
  }
  for (const { data } of tensors) {
    while (out.length % 32 !== 0) out.push(0);
    out.push(...new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return Uint8Array.from(out);
}

/** The entries of a plain llama model, as llama.cpp's converter writes them for SmolLM2. */
export function llamaEntries(change: Record<string, [type: number, value: unknown] | undefined> = {}): Entry[] {
  const base: Record<string, [number, unknown] | undefined> = {
    "general.architecture": [STRING, "llama"],
    "general.name": [STRING, "Smollm2 135M 8k Lc100K Mix1 Ep2"],
    "general.languages": [ARRAY, [STRING, ["en"]]],
    "llama.block_count": [U32, 30],
    "llama.context_length": [U32, 8192],
    "llama.embedding_length": [U32, 576],
    "llama.attention.head_count": [U32, 9],
    "llama.attention.head_count_kv": [U32, 3],
    "llama.rope.freq_base": [F32, 100000],
    "llama.attention.layer_norm_rms_epsilon": [F32, 1e-5],
    "llama.rope.dimension_count": [U32, 64],
    "tokenizer.ggml.add_bos_token": [7, 0],
    "tokenizer.ggml.tokens": [ARRAY, [STRING, ["a", "", "Ġthe"]]],
    "tokenizer.ggml.token_type": [ARRAY, [5, [1, 3, -1]]],
    "some.long": [10, 2n ** 40n],
    "some.negative": [11, -5],
    "some.double": [12, 0.1],
    ...change,
  };
  return Object.entries(base).flatMap(([key, entry]): Entry[] => entry ? [[key, ...entry]] : []);
}
