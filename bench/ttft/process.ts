/**
 * The measurement as a process of its own, in Node or Deno, with the packed package: bench/ttft.ts bundles and runs it.
 * Its argument is a JSON object; it prints a row a line.
 *
 * @module
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { measureTtft } from "./measure.ts";

const options: {
  readonly package: string;
  readonly transformers: string;
  readonly model: string;
  readonly profile: string;
  readonly text: string;
  readonly tokens: number[];
  readonly ratios: number[];
  readonly window: number;
  readonly rounds: number;
  readonly threads: number;
} = JSON.parse(process.argv[2]);

const entry = (name: string) => import(pathToFileURL(path.join(options.package, name)).href);
const { castCache, loadProfile, openCodec } = await entry("mod.js");
const { openTransformersModel } = await entry("eval.js");
const transformers = createRequire(path.join(options.transformers, "package.json"))("@huggingface/transformers");
transformers.env.localModelPath = `${path.dirname(options.model)}/`;
transformers.env.allowRemoteModels = false;
const model = await openTransformersModel(transformers, path.basename(options.model), {
  device: "cpu",
  sessionOptions: { intraOpNumThreads: options.threads },
});
const codec = await openCodec(await loadProfile(new Uint8Array(await readFile(options.profile))), {
  threads: options.threads,
});
const folder = await mkdtemp(path.join(tmpdir(), "kvz-ttft-"));
try {
  const ids = model.tokenize(await readFile(options.text, "utf8"));
  const rows = measureTtft({
    ...options,
    model,
    codec,
    castCache,
    ids,
    write: (name, bytes) => writeFile(path.join(folder, name), bytes),
    read: (name) => readFile(path.join(folder, name)),
  });
  console.log(JSON.stringify({ info: codec.info }));
  for await (const row of rows) console.log(JSON.stringify(row));
} finally {
  await rm(folder, { recursive: true });
  await codec.close();
}
process.exit(0);
