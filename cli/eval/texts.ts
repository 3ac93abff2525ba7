/**
 * Texts that a model is evaluated on: plain text or JSON lines, whole files or regions of them.
 *
 * @module
 */
import path from "node:path";
import { KvzFormatError, KvzMismatchError } from "../../src/errors.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import { ShingleSet } from "../../src/profile/shingles.ts";
import type { Profile } from "../../src/profile/types.ts";
import { UsageError } from "../exit_codes.ts";
import { readInput } from "../files.ts";

/** A text by its specification `FILE` or `FILE:BEGIN-END`. */
export interface TextSpec {
  readonly file: string;
  /** Characters from 0, end exclusive; of JSON lines the lines from 1, end included. */
  readonly region: readonly [begin: number, end: number] | null;
}

/** Tokens to evaluate on. */
export interface EvalText {
  readonly name: string;
  readonly ids: Int32Array;
  /** The characters, of which the retrieval tasks build their prompts. */
  readonly text: string;
}

/** Parses `FILE` or `FILE:BEGIN-END`. */
export function parseTextSpec(text: string): TextSpec {
  const match = /^(.+):(\d+)-(\d+)$/.exec(text);
  if (match === null) return { file: text, region: null };
  const [begin, end] = [Number(match[2]), Number(match[3])];
  if (begin >= end) throw new UsageError(`Cannot use text ${text}: its region ends before it begins`);
  return { file: match[1], region: [begin, end] };
}

/** The characters of a text. CRLF is read as LF. */
export async function readText({ file, region }: TextSpec): Promise<string> {
  const text = decodeText(file, await readInput(file)).replaceAll("\r\n", "\n");
  if (file.endsWith(".jsonl")) return joinRecords(file, text, region);
  return region === null ? text : text.slice(...region);
}

function decodeText(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new KvzFormatError(`Cannot read text ${file}: it is not UTF-8`, { cause });
  }
}

/** Records joined by blank lines: their "text", or "question" and "answer" as tools/kvzlib/texts.py joins them. */
function joinRecords(file: string, text: string, region: TextSpec["region"]): string {
  const records = text.split("\n").flatMap((line, i) => {
    const number = i + 1;
    if (line.trim() === "" || (region !== null && (number < region[0] || number > region[1]))) return [];
    const record = parseRecord(file, number, line);
    if (typeof record.text === "string") return [record.text];
    if (typeof record.question === "string" && typeof record.answer === "string") {
      return [`Question: ${record.question}\nAnswer: ${record.answer}`];
    }
    throw new KvzFormatError(
      `Cannot read text ${file}: line ${number} has neither "text" nor "question" and "answer"`,
    );
  });
  return records.join("\n\n");
}

function parseRecord(file: string, number: number, line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new KvzFormatError(`Cannot read text ${file}: line ${number} is not a JSON object`);
}

/**
 * Cuts windows of `tokens` tokens out of a text, evenly spread and not overlapping.
 *
 * @throws {RangeError} the text is too short
 */
export function cutWindows(
  name: string,
  ids: Int32Array,
  tokens: number,
  windows: number,
): Pick<EvalText, "name" | "ids">[] {
  const available = Math.floor(ids.length / tokens);
  if (available < windows) {
    throw new RangeError(
      `Cannot evaluate on ${name}: it has ${ids.length} tokens, ` +
        `expected at least ${tokens * windows}${windows > 1 ? ` for ${windows} windows` : ""}`,
    );
  }
  return Array.from({ length: windows }, (_, i) => {
    const at = windows === 1 ? 0 : Math.floor((2 * i + 1) * available / (2 * windows)) * tokens;
    return { name: windows === 1 ? name : `${name} #${i + 1}`, ids: ids.slice(at, at + tokens) };
  });
}

/** Names of texts, those of their files; with the region where a file is taken twice. */
export function textNames(specs: readonly TextSpec[]): string[] {
  return specs.map(({ file, region }) => {
    const base = path.basename(file).replace(/\.(txt|md|jsonl)$/, "");
    const same = specs.filter((other) => path.basename(other.file) === path.basename(file)).length > 1;
    return same && region !== null ? `${base}:${region.join("-")}` : base;
  });
}

/** Reads all texts and gives them names that differ. */
export async function loadTexts(
  specs: readonly TextSpec[],
  model: LanguageModel,
  tokens: number,
  windows: number,
): Promise<EvalText[]> {
  const texts: EvalText[] = [];
  const names = textNames(specs);
  for (const [i, spec] of specs.entries()) {
    const name = names[i];
    // 16 characters a token is more than any text has; a whole book need not be tokenized.
    const text = await readText(spec);
    const ids = model.tokenize(windows === 1 ? text.slice(0, 16 * tokens) : text);
    const cut = cutWindows(name, ids, tokens, windows);
    texts.push(...cut.map((part) => ({ ...part, text: windows === 1 ? text : model.detokenize(part.ids) })));
  }
  return texts;
}

/**
 * Refuses texts that the profile was calibrated on, by the hashes that it holds.
 *
 * @throws {KvzMismatchError} a run of 32 tokens of a text was among the calibration texts
 * @returns whether the profile holds hashes at all
 */
export function checkHeldOut(
  texts: readonly Pick<EvalText, "name" | "ids">[],
  { shingles, fingerprint }: Profile,
): boolean {
  const set = new ShingleSet(shingles);
  for (const { name, ids } of texts) {
    const found = set.find(ids);
    if (found >= 0) {
      throw new KvzMismatchError(
        `Cannot evaluate on ${name}: its tokens from ${found} on were used to calibrate profile ${
          fingerprint.slice(0, 12)
        }`,
      );
    }
  }
  return set.size > 0;
}
