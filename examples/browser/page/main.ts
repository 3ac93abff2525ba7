/**
 * The page: buttons to requests, events to the document. What was run is also at `globalThis.kvzResults`, for tests.
 *
 * @module
 */
import { DEFAULT_PROMPT } from "./prompt.ts";
import type { Event, ReadRun, Recipe, Request, RestoredRun } from "./protocol.ts";
import {
  byId,
  clearText,
  showComparison,
  showContinuation,
  showEngine,
  showFigures,
  showMessage,
  showStatus,
  showText,
} from "./view.ts";

/** What was run since the page was loaded. */
interface Results {
  /** The uninterrupted run, also when it was run before the reload. */
  read: ReadRun | null;
  /** The run from the file. */
  restored: RestoredRun | null;
}

const results: Results = { read: null, restored: null };
Object.assign(globalThis, { kvzResults: results });

const worker = new Worker("/app/engine_worker.js", { type: "module" });
let opened = false;
/** Requests that have not been answered. */
let pending = 0;

type State = "loading" | "busy" | "idle" | "failed";

function setState(state: State): void {
  document.body.dataset.state = state;
  const free = opened && (state === "idle" || state === "failed");
  byId<HTMLButtonElement>("read").disabled = !free;
  for (const id of ["reload", "restore", "forget"]) {
    byId<HTMLButtonElement>(id).disabled = !free || results.read === null;
  }
}

function send(request: Request): void {
  showMessage("error", null);
  setState(opened ? "busy" : "loading");
  pending++;
  worker.postMessage(request);
}

function offerRatios(ratios: readonly number[]): void {
  const option = (value: string, text: string) => new Option(text, value);
  const select = byId<HTMLSelectElement>("ratio");
  select.replaceChildren(...ratios.map((ratio) => option(String(ratio), `${ratio}×`)), option("exact", "bit-exact"));
}

function readRecipe(): Recipe {
  const chosen = byId<HTMLSelectElement>("ratio").value;
  return { ratio: chosen === "exact" ? null : Number(chosen), window: byId<HTMLInputElement>("window").valueAsNumber };
}

/** Puts a prompt into its field and shows its end, where the question is. */
function showPrompt(text: string): void {
  const field = byId<HTMLTextAreaElement>("prompt");
  field.value = text;
  field.scrollTop = field.scrollHeight;
}

/** Shows a run of an earlier load and its choices. */
function recall(run: ReadRun): void {
  showPrompt(run.prompt);
  byId<HTMLInputElement>("count").value = String(run.newTokens);
  byId<HTMLInputElement>("window").value = String(run.recipe.window);
  const select = byId<HTMLSelectElement>("ratio");
  select.value = run.recipe.ratio === null ? "exact" : String(run.recipe.ratio);
  showContinuation("read", run);
}

function restore(): void {
  results.restored = null;
  clearText("restored");
  send({ type: "restore" });
}

function onEvent(event: Event): void {
  switch (event.type) {
    case "progress":
      showStatus(event.text, event.done, event.total);
      break;
    case "ready":
      opened = true;
      showEngine(event.facts);
      offerRatios(event.facts.ratios);
      break;
    case "stored":
      results.read = event.run;
      results.restored = null;
      for (const side of ["read", "restored"] as const) clearText(side);
      showFigures(event.run, null);
      if (event.run === null) break;
      recall(event.run);
      restore();
      break;
    case "token":
      showText(event.side, event.text, event.count);
      showStatus(event.side === "read" ? "Answering" : "Answering from the file");
      break;
    case "read":
      results.read = event.run;
      showContinuation("read", event.run);
      showFigures(event.run, null);
      break;
    case "restored":
      results.restored = event.run;
      showComparison(results.read!, event.run);
      showFigures(results.read, event.run);
      break;
    case "idle":
      if (--pending === 0) showIdle();
      break;
    case "failed":
      pending--;
      showMessage("error", `${event.name}: ${event.message}`);
      showStatus(opened ? "The last step failed" : "The page cannot start");
      setState("failed");
  }
}

function showIdle(): void {
  if (results.read === null) showStatus("Ready: nothing is stored");
  else if (results.restored === null) showStatus("Stored. Reload the page: the model goes on from the file");
  else showStatus("Restored from the file");
  setState("idle");
}

worker.addEventListener("message", ({ data }: MessageEvent<Event>) => onEvent(data));
worker.addEventListener("error", (event) => {
  onEvent({ type: "failed", name: "Error", message: `The worker failed: ${event.message ?? "it cannot be loaded"}` });
});

showPrompt(DEFAULT_PROMPT);
byId("read").addEventListener("click", () => {
  const count = byId<HTMLInputElement>("count");
  const window = byId<HTMLInputElement>("window");
  if (!count.reportValidity() || !window.reportValidity()) return;
  results.read = results.restored = null;
  for (const side of ["read", "restored"] as const) clearText(side);
  showFigures(null, null);
  send({
    type: "read",
    prompt: byId<HTMLTextAreaElement>("prompt").value,
    newTokens: count.valueAsNumber,
    recipe: readRecipe(),
  });
});
byId("reload").addEventListener("click", () => location.reload());
byId("restore").addEventListener("click", restore);
byId("forget").addEventListener("click", () => send({ type: "forget" }));

send({ type: "open" });
