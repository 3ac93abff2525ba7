/**
 * Draws what the engine reports. No state beyond the document.
 *
 * @module
 */
import type { Continuation, Facts, ReadRun, Recipe, RestoredRun, Side } from "./protocol.ts";

/** The element with an id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

function element(tag: string, text = "", className = ""): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`;
const ratio = (value: number) => `${value.toFixed(value < 10 ? 2 : 1)}×`;

function seconds(value: number): string {
  return value < 0.9995 ? `${(1000 * value).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(2)} s`;
}

/** "Model **SmolLM2**", one after another. */
function showFacts(id: string, facts: readonly (readonly [name: string, value: string])[]): void {
  const list = byId(id);
  list.replaceChildren(...facts.map(([name, value]) => {
    const item = element(list.tagName === "UL" ? "li" : "span", `${name} `);
    item.append(element("b", value));
    return item;
  }));
}

/** What runs here; says so when files cannot go where they should. */
export function showEngine(facts: Facts): void {
  showFacts("facts", [
    ["Model", facts.model],
    ["loaded in", seconds(facts.secondsModel)],
    ["Runtime", facts.runtime],
    ["kvz", facts.codec],
    ["Profile", facts.profile],
    ["Storage", facts.storage.kind],
  ]);
  if (facts.storage.kind === "IndexedDB") {
    showMessage(
      "notice",
      `The cache is kept in IndexedDB: the private file system cannot be used (${facts.storage.reason})`,
    );
  }
}

/** Shows or, with null, hides one of the two messages above the prompt. */
export function showMessage(id: "error" | "notice", text: string | null): void {
  byId(id).hidden = text === null;
  byId(id).textContent = text;
}

/** The line below the buttons; the bar runs on by itself where there is no total. */
export function showStatus(text: string, done?: number, total?: number): void {
  byId("status").textContent = text;
  const bar = byId<HTMLProgressElement>("progress");
  if (done === undefined || total === undefined) bar.removeAttribute("value");
  else bar.value = done / total;
}

interface Part {
  readonly name: string;
  readonly value: number;
  readonly color: string;
}

interface Bar {
  readonly name: string;
  readonly parts: readonly Part[];
}

/** Stacked bars on one scale, each with its values below. */
function showBars(id: string, bars: readonly Bar[], format: (value: number) => string): void {
  const totals = bars.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0));
  const scale = 100 / Math.max(...totals);
  byId(id).replaceChildren(...bars.flatMap(({ name, parts }) => {
    const bar = element("div", "", "bar");
    const track = element("div", "", "track");
    const legend = element("div", "", "legend");
    for (const { name, value, color } of parts) {
      const segment = element("i");
      segment.style.cssText = `width: ${value * scale}%; background: var(--part-${color})`;
      track.append(segment);
      const entry = element("span");
      const dot = element("i");
      dot.style.background = `var(--part-${color})`;
      entry.append(dot, `${name} ${format(value)}`);
      legend.append(entry);
    }
    bar.append(element("span", name), track);
    return [bar, legend];
  }));
}

function showFigure(id: string, from: string, to: string | null, note: string): void {
  byId(id).textContent = to === null ? from : `${from} → ${to} `;
  byId(id).append(element("small", ` ${note}`));
}

/** Seconds from the prompt, or the file, to the first new token. */
export function timeToFirstToken(run: ReadRun | RestoredRun): number {
  return Object.entries(run.seconds)
    .reduce((sum, [name, value]) => name === "compress" || name === "write" ? sum : sum + value, 0);
}

/** Times and sizes of what has been run. */
export function showFigures(read: ReadRun | null, restored: RestoredRun | null): void {
  for (const id of ["time-figure", "size-figure"]) byId(id).textContent = "–";
  for (const id of ["time-bars", "time-note", "size-bars", "size-note"]) byId(id).replaceChildren();
  if (read === null) return;
  const bars: Bar[] = [{
    name: "by reading",
    parts: [
      { name: "prefill", value: read.seconds.prefill, color: "prefill" },
      { name: "first token", value: read.seconds.firstToken, color: "first" },
    ],
  }];
  const before = timeToFirstToken(read);
  if (restored === null) {
    showFigure("time-figure", seconds(before), null, `by reading a prompt of ${read.cachedTokens + 1} tokens`);
  } else {
    const after = timeToFirstToken(restored);
    showFigure("time-figure", seconds(before), seconds(after), `${(before / after).toFixed(1)} times faster`);
    bars.push({
      name: "from the file",
      parts: [
        { name: "read", value: restored.seconds.read, color: "read" },
        { name: "decompress", value: restored.seconds.decompress, color: "decompress" },
        { name: "first token", value: restored.seconds.firstToken, color: "first" },
      ],
    });
  }
  showBars("time-bars", bars, seconds);
  byId("time-note").textContent = `Storing it once took ${seconds(read.seconds.compress)} to compress and ` +
    `${seconds(read.seconds.write)} to write. The model is loaded before, either way.`;
  showSize(read);
}

function showSize({ file, cachedTokens, recipe }: ReadRun): void {
  const { bytes, fp16Bytes, fileRatio, paperRatio } = file;
  showFigure("size-figure", megabytes(fp16Bytes), megabytes(bytes), `file ratio ${ratio(fileRatio)}`);
  showBars("size-bars", [
    { name: "cache, 16 bits", parts: [{ name: `${cachedTokens} tokens`, value: fp16Bytes, color: "prefill" }] },
    { name: "file", parts: [{ name: nameRecipe(recipe), value: bytes, color: "decompress" }] },
  ], (value) => megabytes(value));
  byId("size-note").textContent = recipe.ratio === null
    ? "Every token is kept bit by bit, in the 32 bits that the model computes with; only DEFLATE makes it smaller."
    : paperRatio === null
    ? "The raw window covers the whole prompt: nothing is coded."
    : `Tokens before the raw window: ${ratio(paperRatio)}. The ${recipe.window} newest tokens stay as they are, ` +
      "which holds back short prompts.";
}

function nameRecipe({ ratio, window }: Recipe): string {
  return ratio === null ? "bit-exact" : `kvtc ${ratio}×, window ${window}`;
}

/** Text of a continuation as it comes. */
export function showText(side: Side, text: string, count: number): void {
  byId(`${side}-text`).textContent = text;
  showFacts(`${side}-facts`, [["tokens", String(count)]]);
}

/** A finished continuation. */
export function showContinuation(
  side: Side,
  run: Continuation,
  more: readonly (readonly [string, string])[] = [],
): void {
  byId(`${side}-text`).textContent = run.text;
  const speed = run.tokensPerSecond === null ? [] : [["tokens/s", run.tokensPerSecond.toFixed(1)] as const];
  showFacts(`${side}-facts`, [["tokens", String(run.ids.length)], ...speed, ...more]);
}

/** Both continuations, the restored one marked from where its text differs. */
export function showComparison(read: ReadRun, restored: RestoredRun): void {
  showContinuation("read", read);
  showContinuation("restored", restored, [["equal", `${restored.equalTokens} of ${read.ids.length}`]]);
  if (restored.equalTokens >= Math.max(read.ids.length, restored.ids.length)) return;
  let same = 0;
  while (same < read.text.length && read.text[same] === restored.text[same]) same++;
  byId("restored-text").replaceChildren(restored.text.slice(0, same), element("mark", restored.text.slice(same)));
}

/** Empties one side. */
export function clearText(side: Side): void {
  byId(`${side}-text`).textContent = "";
  byId(`${side}-facts`).replaceChildren();
}
