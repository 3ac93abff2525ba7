/**
 * What the lines of a chat do: questions and commands.
 *
 * @module
 */
import { type Codec, inspect } from "@kvz/kvz";
import { type Answer, Chat } from "./chat.ts";
import { columns, firstDifference, markedText } from "./compare.ts";
import { packChat, restoreChat, saveChat, type Setting, unpackChat } from "./files.ts";
import type { DynamicCache, Runtime } from "./runtime.ts";

/** Texts for people. */
export const HELP = `/save FILE [RATIO|lossless]      write the chat with its cache (ratio 32 unless said)
/restore FILE                    go on with a chat, without computing it again
/read FILE [TEXT]                ask TEXT about a text file
/compare [RATIO|lossless] [TEXT] answer TEXT from the cache as it is and from a restored one, side by side;
                                 after /restore without RATIO: from the restored cache and from a computed one
/info                            what the chat and its last file hold
/help, /quit
Anything else is a question.`;

/** What a session needs. */
export interface SessionOptions {
  readonly runtime: Runtime;
  readonly codec: Codec;
  /** Most tokens of an answer. */
  readonly maxNewTokens: number;
  /** Width of the terminal. */
  readonly width: number;
  /** Writes text. */
  readonly write: (text: string) => void;
}

/** A chat with its commands. */
export class Session {
  readonly #options: SessionOptions;
  readonly #chat: Chat;
  /** Seconds that restoring took; null while the cache has never been through kvz. */
  #restoring: number | null = null;
  #file: string | null = null;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#chat = new Chat(options.runtime, options.maxNewTokens);
  }

  /** Handles a line; false ends the session. */
  async handle(line: string): Promise<boolean> {
    const text = line.trim();
    if (text === "") return true;
    if (!text.startsWith("/")) {
      await this.#ask(text);
      return true;
    }
    const [command, ...args] = text.split(/\s+/);
    switch (command) {
      case "/save":
        await this.#save(args);
        return true;
      case "/restore":
        await this.#restore(args);
        return true;
      case "/read":
        await this.#read(args);
        return true;
      case "/compare":
        await this.#compare(text.slice(command.length).trim());
        return true;
      case "/info":
        await this.#info();
        return true;
      case "/help":
        this.#line(HELP);
        return true;
      case "/quit":
        return false;
      default:
        throw new Error(`Cannot run ${command}: expected /save, /restore, /read, /compare, /info, /help or /quit`);
    }
  }

  #line(text: string): void {
    this.#options.write(`${text}\n`);
  }

  async #ask(question: string): Promise<void> {
    const answer = await this.#chat.ask(question, this.#options.write);
    this.#line("");
    this.#line(`[${facts(answer)}]`);
  }

  async #save([path, setting, ...more]: string[]): Promise<void> {
    if (path === undefined || more.length > 0) throw new Error("Cannot save: expected /save FILE [RATIO|lossless]");
    const { runtime, codec } = this.#options;
    const report = await saveChat(path, runtime, codec, this.#chat.state, settingOf(setting) ?? 32);
    this.#file = path;
    const paper = report.paperRatio === null
      ? "all tokens are in the raw window"
      : `${report.paperRatio.toFixed(1)}× without the raw window`;
    this.#line(
      `Saved ${report.tokens} tokens in ${path}: ${megabytes(report.bytesOut)} for ${
        megabytes(report.bytesIn)
      } of fp16 ` +
        `(${report.fileRatio.toFixed(2)}×; ${paper}), ${seconds(report.secondsSetup + report.seconds)}`,
    );
  }

  async #restore([path, ...more]: string[]): Promise<void> {
    if (path === undefined || more.length > 0) throw new Error("Cannot restore: expected /restore FILE");
    const { runtime, codec } = this.#options;
    const begin = performance.now();
    const { state } = await restoreChat(path, runtime, codec);
    this.#restoring = (performance.now() - begin) / 1000;
    this.#file = path;
    this.#chat.state = state;
    for (const { role, content } of state.messages) this.#line(`${role === "user" ? ">" : " "} ${shortened(content)}`);
    this.#line(
      `Restored ${state.ids.length - 1} tokens from ${path} in ${seconds(this.#restoring)}; none was computed`,
    );
  }

  async #read([path, ...question]: string[]): Promise<void> {
    if (path === undefined) throw new Error("Cannot read: expected /read FILE [TEXT]");
    const text = await Deno.readTextFile(path).catch((cause) => {
      throw new Error(`Cannot read ${path}: ${cause.message}`, { cause });
    });
    await this.#ask(`${text.trim()}\n\n${question.join(" ") || "What is this text about?"}`);
  }

  async #compare(args: string): Promise<void> {
    const { state } = this.#chat;
    if (state.cache === null) throw new Error("Cannot compare: there is no answer yet");
    const [word, ...rest] = args.split(/\s+/);
    const setting = settingOf(word, false);
    const question = (setting === undefined ? args : rest.join(" ")) || "Tell me more.";
    const { runtime, maxNewTokens, width } = this.#options;
    const ids = [...state.ids, ...this.#chat.turn(question)];
    const { cache: restored, restoring } = await this.#restoredCache(setting);

    const right = (await this.#chat.generate(ids, restored, maxNewTokens)).answer;
    const computed = (await this.#chat.generate(ids, null, this.#restoring === null ? 1 : maxNewTokens)).answer;
    // A cache that has never been saved is the uninterrupted one itself.
    const left = this.#restoring === null
      ? (await this.#chat.generate(ids, state.cache, maxNewTokens)).answer
      : computed;
    const mark = firstDifference(left.ids, right.ids);
    this.#line(`> ${question}`);
    this.#line(columns(
      [this.#restoring === null ? "uninterrupted" : "computed again", "restored"],
      [markedText(runtime.tokenizer, left.ids, mark), markedText(runtime.tokenizer, right.ids, mark)],
      width,
    ));
    this.#line(
      mark === null
        ? `All ${left.ids.length} tokens are the same`
        : `Token ${mark + 1} is the first to differ (»), of ${Math.max(left.ids.length, right.ids.length)}`,
    );
    this.#line(
      `Time to first token: ${seconds(computed.first)} computing ${computed.computed} tokens, ` +
        `${seconds(restoring + right.first)} with the cache (restoring ${seconds(restoring)})`,
    );
  }

  /** The cache through kvz and the seconds of restoring: as it was restored, or packed and unpacked now. */
  async #restoredCache(setting: Setting | undefined): Promise<{ cache: DynamicCache; restoring: number }> {
    const { state } = this.#chat;
    if (setting === undefined && this.#restoring !== null) return { cache: state.cache!, restoring: this.#restoring };
    const { runtime, codec } = this.#options;
    const { bytes, report } = await packChat(runtime, codec, state, setting ?? 32);
    const begin = performance.now();
    const { restored } = await unpackChat(runtime, codec, bytes);
    const restoring = (performance.now() - begin) / 1000;
    this.#line(
      `${report.tokens} tokens, ${setting ?? 32}${setting === "lossless" ? "" : "×"}: ${
        megabytes(report.bytesOut)
      } for ` +
        `${megabytes(report.bytesIn)} of fp16`,
    );
    return { cache: restored.pastKeyValues, restoring };
  }

  async #info(): Promise<void> {
    const { runtime, codec } = this.#options;
    const { ids, cache, messages } = this.#chat.state;
    const profile = codec.profile!; // opened with one (main.ts)
    const { model } = profile;
    const { backend, build, threads } = codec.info;
    this.#line(`model     ${runtime.name}`);
    this.#line(`runtime   Transformers.js ${runtime.transformers.env.version}`);
    this.#line(`profile   ${model.id ?? model.architecture} (${profile.fingerprint.slice(0, 12)})`);
    this.#line(`backend   ${backend}, ${build}, ${threads} thread${threads === 1 ? "" : "s"}`);
    this.#line(
      `chat      ${messages.length} messages, ${ids.length} tokens, ${cache?.get_seq_length() ?? 0} in the cache`,
    );
    if (this.#file === null) return;
    const file = await Deno.readFile(this.#file);
    const { header, regions, bytes, fileRatio } = await inspect(file);
    this.#line(
      `file      ${this.#file}: ${megabytes(bytes)}, ${
        fileRatio.toFixed(2)
      }×, ${header.recipe.name} in ${header.dtype}; ` +
        `${regions.sinks} sinks, ${regions.coded} coded, ${regions.window} raw`,
    );
  }
}

/** A ratio or "lossless"; undefined when nothing is given (or, not strict, when it is something else). */
function settingOf(word: string | undefined, strict = true): Setting | undefined {
  if (word === undefined || word === "") return undefined;
  if (word === "lossless") return word;
  const ratio = Number(word.replace(/[x×]$/, ""));
  if (Number.isFinite(ratio) && ratio >= 1) return ratio;
  if (strict) throw new Error(`Cannot compress by ${word}: expected a ratio of at least 1, or lossless`);
  return undefined;
}

/** Long texts (of /read) by their ends. */
function shortened(text: string): string {
  return text.length <= 400 ? text : `${text.slice(0, 150)} [… ${text.length - 300} characters …] ${text.slice(-150)}`;
}

function facts({ ids, reused, computed, first, seconds: all }: Answer): string {
  return `${computed} tokens computed, ${reused} reused; first token after ${seconds(first)}; ` +
    `${ids.length} tokens in ${seconds(all)}`;
}

function seconds(value: number): string {
  return `${value.toFixed(2)} s`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(2)} MB`;
}
