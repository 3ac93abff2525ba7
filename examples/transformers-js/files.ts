/**
 * Chats as .kvz files.
 *
 * @module
 */
import { type Codec, type CompressReport, type JsonValue, KvzFormatError } from "@kvz/kvz";
import { openFile, writeFileAtomically } from "@kvz/kvz/fs";
import { restoreCache, type RestoredCache, saveCache } from "@kvz/kvz/transformers";
import type { ChatState } from "./chat.ts";
import type { DynamicCache, Message, Runtime } from "./runtime.ts";

/** How much to compress: a ratio, or every token bit-exact. */
export type Setting = number | "lossless";

/** A cache as a file in memory. Compressed ones keep their raw window in float16; lossless ones are float32. */
export async function packChat(
  runtime: Runtime,
  codec: Codec,
  { messages, ids, cache }: ChatState,
  setting: Setting,
): Promise<{ bytes: Uint8Array; report: CompressReport }> {
  if (cache === null) throw new Error("Cannot save: there is no answer yet");
  const { model, tokenizer } = runtime;
  return await saveCache(cache, {
    model,
    tokenizer,
    codec,
    inputIds: ids,
    user: { messages: messages.map((message) => ({ ...message })) },
    ...(setting === "lossless" ? { lossless: true } : { ratio: setting, dtype: "f16" }),
  });
}

/** A chat out of a file in memory or on the disk. */
export async function unpackChat(
  runtime: Runtime,
  codec: Codec,
  input: Parameters<typeof restoreCache>[0],
): Promise<{ state: ChatState; restored: RestoredCache<DynamicCache> }> {
  const { model, tokenizer, transformers } = runtime;
  const restored = await restoreCache(input, { model, tokenizer, codec, transformers });
  const { inputIds, pastKeyValues, tokens, user } = restored;
  if (inputIds === null || inputIds.length !== tokens + 1) {
    throw new KvzFormatError("Cannot restore chat: the file has no token ids, or none to go on with");
  }
  return { state: { messages: readMessages(user.messages), ids: [...inputIds], cache: pastKeyValues }, restored };
}

function readMessages(json: JsonValue | undefined): Message[] {
  const isMessage = (value: unknown): value is Message => {
    const { role, content } = (value ?? {}) as { role?: unknown; content?: unknown };
    return (role === "user" || role === "assistant") && typeof content === "string";
  };
  if (!Array.isArray(json) || !json.every(isMessage)) {
    throw new KvzFormatError("Cannot restore chat: the file has no messages; another program wrote it");
  }
  return json;
}

/** Writes a file, whole or not at all; an older one is replaced. */
export async function saveChat(
  path: string,
  runtime: Runtime,
  codec: Codec,
  state: ChatState,
  setting: Setting,
): Promise<CompressReport> {
  const { bytes, report } = await packChat(runtime, codec, state, setting);
  await writeFileAtomically(path, { force: true }, async (sink) => await sink.write(bytes));
  return report;
}

/** Reads a file, by the ranges that are needed. */
export async function restoreChat(path: string, runtime: Runtime, codec: Codec): ReturnType<typeof unpackChat> {
  await using file = await openFile(path).catch((cause) => {
    throw new Error(`Cannot restore ${path}: ${cause.message}`, { cause });
  });
  return await unpackChat(runtime, codec, file);
}
