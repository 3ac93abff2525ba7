/**
 * The measurement as a table.
 *
 * @module
 */
import { formName } from "./arguments.ts";
import type { FormResult, MethodResult } from "./measure_form.ts";

/** What the program found. */
export interface Measurement {
  readonly model: string | null;
  readonly text: string;
  readonly skip: number;
  readonly prompt: number;
  readonly follow: number;
  readonly window: number;
  readonly profile: string;
  readonly backend: { readonly backend: string; readonly build: string; readonly threads: number };
  readonly forms: readonly FormResult[];
}

const HEAD = [
  "cache",
  "kept",
  "paper",
  "file",
  "bytes",
  "same state",
  "KL, nats",
  "largest KL",
  "top-1",
  "perplexity",
  "compress, s",
  "restore, s",
];

function ratioText(ratio: number | null): string {
  return ratio === null ? "–" : ratio.toFixed(2);
}

function row(form: FormResult, { method, ratios, bytes, sameState, seconds, ...figures }: MethodResult): string[] {
  return [
    formName(form),
    ratios.target === null ? method : `${method} ${ratios.target}×`,
    ratioText(ratios.paper),
    ratioText(ratios.file),
    String(bytes),
    sameState ? "yes" : "no",
    figures.kl === 0 ? "0" : figures.kl.toExponential(2),
    figures.klMax === 0 ? "0" : figures.klMax.toExponential(2),
    figures.topOne.toFixed(3),
    figures.perplexity.toFixed(3),
    seconds.compress === null ? "–" : seconds.compress.toFixed(2),
    seconds.restore.toFixed(3),
  ];
}

/** Conditions, a Markdown table, and a line for each form that has none. */
export function formatMeasurement(result: Measurement): string {
  const { forms, backend } = result;
  const rows = forms.flatMap((form) => (form.methods ?? []).map((method) => row(form, method)));
  const widths = HEAD.map((name, i) => Math.max(name.length, ...rows.map((cells) => cells[i].length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  const notes = forms.map((form) =>
    form.refused === undefined
      ? `${formName(form)}: prefill ${form.secondsPrefill!.toFixed(2)} s, state ${form.stateBytes} bytes, ` +
        `uninterrupted perplexity ${form.perplexity!.toFixed(3)}` +
        (form.klOfForm === undefined ? "" : `, KL of ${formName(forms[0])} to it ${form.klOfForm.toExponential(2)}`)
      : `${formName(form)}: not measured, ${form.refused}`
  );
  return [
    `${result.model ?? "unnamed model"}: ${result.prompt} tokens of ${result.text} from token ${result.skip} on, ` +
    `${result.follow} that follow; window ${result.window}; ${backend.backend} ${backend.build}, 1 thread each`,
    "",
    line(HEAD),
    line(widths.map((width) => "-".repeat(width))),
    ...rows.map(line),
    "",
    ...notes,
  ].join("\n");
}
