/**
 * Time to the first token: prefill against restoring from disk, in Deno, Node and Chromium (bench/ttft/ has the
 * measurement).
 *
 *     deno run -A bench/ttft.ts --model models/smollm2 --profile smollm2.kvzp --text TEXT
 *
 * Break-even bandwidth: what a network must carry so that fetching the file and restoring takes as long as prefill.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { formatSeconds, formatTable } from "../cli/format.ts";
import { DENO, run } from "../tools/exec.ts";
import { pack } from "../tools/pack.ts";
import { measureInChromium } from "./ttft/chromium.ts";
import type { TtftRow } from "./ttft/measure.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "models/smollm2" },
    profile: { type: "string" },
    text: { type: "string" },
    tokens: { type: "string", default: "512,1024,2048,4096" },
    ratios: { type: "string", default: "16,32" },
    window: { type: "string", default: "128" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    runtimes: { type: "string", default: "deno,node,chromium" },
    json: { type: "boolean", default: false },
  },
});
if (values.profile === undefined || values.text === undefined) {
  console.error("Usage: deno run -A bench/ttft.ts --profile PROFILE --text TEXT [--model FOLDER] [--tokens 512,1024]");
  Deno.exit(2);
}
const numbers = (list: string) => list.split(",").map(Number);

const folder = `${Deno.cwd()}/.cache/ttft`;
await Deno.mkdir(folder, { recursive: true });
await pack(folder);
await run([DENO, "bundle", "--platform", "node", "-o", `${folder}/process.mjs`, "bench/ttft/process.ts"]);
const options = {
  package: `${folder}/package`,
  transformers: `${Deno.cwd()}/.cache/eval`,
  model: await Deno.realPath(values.model),
  profile: await Deno.realPath(values.profile),
  text: await Deno.realPath(values.text),
  tokens: numbers(values.tokens),
  ratios: numbers(values.ratios),
  window: Number(values.window),
  rounds: Number(values.rounds),
  threads: Number(values.threads),
};

const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  deno: [DENO, "run", "-A", "--no-lock", `${folder}/process.mjs`],
  node: ["node", `${folder}/process.mjs`],
};

for (const runtime of values.runtimes.split(",")) {
  const { info, rows } = runtime === "chromium"
    ? await measureInChromium(options, `${folder}/chromium`)
    : await measureInProcess(COMMANDS[runtime]);
  if (values.json) {
    for (const row of rows) console.log(JSON.stringify({ runtime, ...info, ...row }));
    continue;
  }
  console.log(`\n${runtime}: wasm ${info.build}, ${info.threads} threads; best of ${values.rounds}\n`);
  for (const line of table(rows)) console.log(line);
}

async function measureInProcess(command: readonly string[]): Promise<{
  info: { readonly build: string; readonly threads: number };
  rows: TtftRow[];
}> {
  const { out } = await run([...command, JSON.stringify(options)], { cwd: folder });
  const [{ info }, ...rows] = out.trim().split("\n").map((line) => JSON.parse(line));
  return { info, rows };
}

function table(rows: readonly TtftRow[]): string[] {
  return formatTable(
    [
      "tokens",
      "ratio",
      "file",
      "prefill",
      "restore",
      "times",
      "read",
      "decompress",
      "tensors",
      "step",
      "first layer",
      "break-even",
    ],
    rows.map((row) => [
      `${row.tokens}`,
      `${row.ratio}×`,
      `${(row.bytes / 1e6).toFixed(2)} MB`,
      formatSeconds(row.prefill),
      formatSeconds(row.restore),
      `${(row.prefill / row.restore).toFixed(1)}`,
      ...[row.read, row.decompress, row.load, row.step, row.firstLayer].map((s) => `${(1000 * s).toFixed(0)} ms`),
      row.prefill > row.restore ? `${(row.bytes / (row.prefill - row.restore) / 1e6).toFixed(2)} MB/s` : "–",
    ]),
  );
}
