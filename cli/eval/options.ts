/**
 * Options that `kvz eval` and `kvz compare` share, and what they open.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import type { Command } from "commander";
import { resolveModel } from "../../src/cache/fingerprint.ts";
import type { DType } from "../../src/cache/types.ts";
import { parseMethodSpec } from "../../src/eval/method.ts";
import type { SharingMap } from "../../src/eval/sharing_map.ts";
import { servedModel } from "../../src/profile/served.ts";
import type { Profile } from "../../src/profile/types.ts";
import { UsageError } from "../exit_codes.ts";
import { type LoadedModel, loadModel } from "../model_input.ts";
import { type BackendFlags, checkDType, type JsonFlag, laneOptions, type ModelFlags, wholeNumber } from "../options.ts";
import { addProfilesOption, type ProfilesFlag, readProfiles } from "../profile_input.ts";
import type { Scope } from "../scope.ts";
import { addMapOption, type MapFlag, mapFor, readOptionalMap } from "../sharing_input.ts";
import { asUsage } from "../usage.ts";
import type { EvalRequest, Setting } from "./run.ts";
import { checkHeldOut, loadTexts, parseTextSpec, type TextSpec } from "./texts.ts";

/** Their values. */
export type EvaluationFlags = BackendFlags & JsonFlag & ProfilesFlag & MapFlag & ModelFlags & {
  readonly texts: TextSpec[];
  readonly method?: Setting[];
  readonly contexts: number[];
  readonly continuation: number;
  readonly windows: number;
  readonly controls: boolean;
  readonly retrieval?: number[] | true;
  readonly prompts: number;
  readonly dtype: DType;
  readonly output: string;
  readonly force?: boolean;
  readonly fresh?: boolean;
};

/** Adds them; `methods` says which methods are taken where none is named, `page` where the page goes. */
export function addEvaluationOptions(command: Command, methods: string, page: string): Command {
  command
    .requiredOption("--model <folder|name>", "folder as Transformers.js lays it out, or name on the hub")
    .requiredOption(
      "--texts <file...>",
      "texts, plain or .jsonl; FILE:BEGIN-END takes a region (characters from 0; lines from 1 of .jsonl)",
    )
    .option("-m, --method <spec...>", `recipe:option=value/value,option=value (default: ${methods})`)
    .option("--contexts <list>", "tokens of the cache, separated by commas", countList("--contexts"), [1024])
    .option("--continuation <n>", "tokens predicted after it", wholeNumber("--continuation", 1, 1 << 20), 512)
    .option("--windows <n>", "passages taken of each text, evenly spread", wholeNumber("--windows", 1, 1000), 1)
    .option(
      "--retrieval [contexts]",
      "also score the retrieval tasks, at these tokens of cache",
      countList("--retrieval"),
    )
    .option("--prompts <n>", "retrieval prompts built of each text", wholeNumber("--prompts", 1, 1000), 2)
    .option("--no-controls", "leave out the controls (an untouched and a zeroed cache)")
    .option("--dtype <type>", "element type in which caches are compressed: f16, bf16, f32", "f16")
    .option("-o, --output <file>", "the page; results are kept beside it in .jsonl", page)
    .option("-f, --force", "replace the page if it is there and no page of this command")
    .option("--fresh", "begin anew, whatever results are kept beside the page");
  addProfilesOption(command);
  return addMapOption(command);
}

/** A parser of token counts separated by commas. */
function countList(name: string): (text: string) => number[] {
  const one = wholeNumber(name, 1, 1 << 24);
  return (text) => [...new Set(text.split(",").map((part) => one(part.trim())))].sort((a, b) => a - b);
}

/** What commander leaves as text. */
export function readEvaluationFlags(
  flags: EvaluationFlags & { readonly texts: string[]; readonly method?: string[] },
): EvaluationFlags {
  checkDType(flags.dtype);
  if ([...flags.profile ?? [], flags.map].includes("-")) {
    throw new UsageError("Cannot read profiles and maps from standard input: -p and --map take files");
  }
  if (flags.output === "-") throw new UsageError("Cannot write the page to standard output: -o takes a file");
  return {
    ...flags,
    texts: flags.texts.map(parseTextSpec),
    ...(flags.method ? { method: asUsage(() => flags.method!.flatMap(parseMethodSpec)) } : {}),
  };
}

/** What was fitted for methods. */
export interface Artefacts {
  readonly profiles: readonly Profile[];
  readonly sharing: SharingMap | null;
  /** Bytes of the files: of profiles by method, of the layer map. */
  readonly bytes: { readonly profiles: ReadonlyMap<string, number>; readonly sharing: number | null };
}

/** Reads what the flags name. */
export async function readArtefacts(flags: EvaluationFlags): Promise<Artefacts> {
  const profiles = await readProfiles(flags);
  const sharing = await readOptionalMap(flags);
  const sizeOf = async (path: string) => (await stat(path)).size;
  const sizes = await Promise.all(profiles.map(async ({ method }, i): Promise<[string, number]> => [
    method,
    await sizeOf(flags.profile![i]),
  ]));
  return {
    ...{ profiles, sharing },
    bytes: { profiles: new Map(sizes), sharing: flags.map === undefined ? null : await sizeOf(flags.map) },
  };
}

/** The settings with the option that the layer map gives. */
export function withMap(settings: readonly Setting[], { sharing }: Artefacts, { model }: LoadedModel): Setting[] {
  return settings.map(({ recipe, options }) => ({
    recipe,
    options: { ...options, ...mapFor(sharing, recipe, options, model.spec, "the model") },
  }));
}

/** Loads the model and checks that profiles and contexts fit it. */
export async function openModel(
  flags: EvaluationFlags,
  profiles: readonly Profile[],
  scope: Scope,
): Promise<LoadedModel> {
  const loaded = await loadModel(flags.model, { graph: flags.graph, dtype: flags.weights });
  const model = scope.use(loaded.model);
  for (const profile of profiles) {
    resolveModel(model.spec, servedModel(profile), { found: "the model", wanted: "the profile" });
  }
  const context = Math.max(...flags.contexts);
  const most = context + flags.continuation;
  if (most > model.maxPositions) {
    throw new RangeError(
      `Cannot evaluate context ${context}: with ${flags.continuation} more tokens it needs ${most} ` +
        `positions, the model has ${model.maxPositions}`,
    );
  }
  return loaded;
}

/** The request for an evaluation of settings. */
export async function evaluationRequest(
  flags: EvaluationFlags,
  { model, identity }: LoadedModel,
  profiles: readonly Profile[],
  settings: readonly Setting[],
): Promise<Omit<EvalRequest, "signal" | "onProgress">> {
  const deciding = settings.find(({ options }) => options.decode !== undefined);
  if (flags.retrieval !== undefined && deciding !== undefined) {
    throw new UsageError(
      `Cannot use --retrieval with ${deciding.recipe}:decode=${deciding.options.decode}: questions are read at once, it ` +
        "would act while they are",
    );
  }
  const texts = await loadTexts(
    flags.texts,
    model,
    Math.max(...flags.contexts) + flags.continuation + 1,
    flags.windows,
  );
  const heldOut = profiles.map((profile) => checkHeldOut(texts, profile)).every((held) => held);
  return {
    ...{ model, identity, profiles, texts, heldOut, settings },
    contexts: flags.contexts,
    continuation: flags.continuation,
    controls: flags.controls,
    retrieval: flags.retrieval ?? null,
    prompts: flags.prompts,
    dtype: flags.dtype,
    lanes: laneOptions(flags),
    journal: `${flags.output.replace(/\.html?$/, "")}.jsonl`,
    fresh: flags.fresh ?? false,
  };
}
