/**
 * The loop of `kvz eval`: every text, context and setting, kept in the journal as it is done.
 *
 * @module
 */
import type { DType } from "../../src/cache/types.ts";
import { describeModel } from "../../src/cache/describe_model.ts";
import type { LaneOptions } from "../../src/codec/lanes.ts";
import { ComponentMeter } from "../../src/eval/component_meter.ts";
import { evaluateText, evaluationTokens } from "../../src/eval/evaluate.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import { CONTROLS, type Method } from "../../src/eval/method.ts";
import type { EvalPoint, EvalResult, RetrievalPoint } from "../../src/eval/point.ts";
import { summarize } from "../../src/eval/summary.ts";
import { sequenceHash } from "../../src/profile/shingles.ts";
import { servedModel } from "../../src/profile/served.ts";
import type { Profile } from "../../src/profile/types.ts";
import { scoped } from "../scope.ts";
import { VERSION } from "../version.ts";
import { CodecPool } from "./codec_pool.ts";
import { Journal, resultKey } from "./journal.ts";
import { evaluateRetrieval } from "./retrieval.ts";
import type { EvalText } from "./texts.ts";

/** A recipe with options. */
export interface Setting {
  readonly recipe: string;
  readonly options: Method["options"];
}

/** What `kvz eval` was asked for. */
export interface EvalRequest {
  readonly model: LanguageModel;
  /** Changes with the model's files. */
  readonly identity: string;
  /** At most one a recipe; those that need none do without. */
  readonly profiles: readonly Profile[];
  readonly texts: readonly EvalText[];
  /** Whether the texts are known not to be among those of the calibration. */
  readonly heldOut: boolean;
  readonly settings: readonly Setting[];
  readonly contexts: readonly number[];
  readonly continuation: number;
  readonly controls: boolean;
  /** Tokens of cache for the retrieval tasks, true for the default, null for none. */
  readonly retrieval: readonly number[] | true | null;
  /** Prompts of each retrieval task that are built of each text. */
  readonly prompts: number;
  readonly dtype: DType;
  readonly lanes: LaneOptions;
  /** Path of the journal. */
  readonly journal: string;
  readonly fresh: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: { readonly done: number; readonly total: number; readonly stage?: string }) => void;
  /** Told of settings that cannot compress or restore a text's cache; absent: the evaluation ends with the error. */
  readonly onFailure?: (failure: Failure) => void;
}

/** A setting that could not do a text. */
export interface Failure {
  readonly method: string;
  readonly setting: string;
  readonly text: string;
  readonly error: Error;
}

/** Runs what the journal does not hold yet; returns all that was asked for. */
export async function evaluate(request: EvalRequest): Promise<EvalResult> {
  return await scoped(async (scope) => {
    const { model, identity, profiles, texts, contexts, continuation, dtype, signal, onFailure } = request;
    const { threads: _, createWorker: _c, ...backend } = request.lanes;
    // Components are of all layers.
    const kvtc = profiles.filter((profile) => profile.method === "kvtc").find(({ layerMap }) => layerMap === undefined);
    const components = kvtc === undefined ? undefined : scope.use(await ComponentMeter.open(kvtc, backend));
    const journal = await Journal.open(request.journal, request.fresh);
    const codecs = new CodecPool(profiles, request.lanes, scope);
    const settings = await Promise.all(request.settings.map(({ recipe, options }) => codecs.method(recipe, options)));
    const methods = [...(request.controls ? CONTROLS : []), ...settings];
    const common = { version: VERSION, identity, dtype };
    const keyOf = ({ ids }: EvalText, context: number, method: Method) =>
      resultKey({
        ...common,
        profile: codecs.fingerprintOf(method),
        ids: sequenceHash(ids.subarray(0, context + continuation + 1)).toString(16),
        context,
        continuation,
        method: method.name,
        options: method.options,
      });

    const jobs = texts.flatMap((text) =>
      contexts.map((context) => {
        const missing = methods.filter((method) => journal.get(keyOf(text, context, method)) === undefined);
        const tokens = missing.length === 0 ? 0 : evaluationTokens(context, continuation, missing.length);
        return { text, context, missing, tokens };
      })
    );
    const total = jobs.reduce((sum, { tokens }) => sum + tokens, 0);
    let done = 0;
    const failed = new Set<string>();
    for (const { text, context, missing: all } of jobs) {
      const missing = all.filter(({ name, setting }) => !failed.has(JSON.stringify([name, setting])));
      if (missing.length === 0) continue;
      await evaluateText(model, text.name, text.ids, {
        context,
        continuation,
        dtype,
        methods: missing,
        components,
        signal,
        onTokens: (tokens) => request.onProgress({ done: done += tokens, total }),
        onPoint: async (point) => {
          const method = missing.find(({ name, setting }) => name === point.method && setting === point.setting)!;
          await journal.add(keyOf(text, context, method), point);
        },
        ...(onFailure === undefined ? {} : {
          onFailure: ({ name, setting }: Method, error: Error) => {
            failed.add(JSON.stringify([name, setting]));
            onFailure({ method: name, setting, text: text.name, error });
          },
        }),
      });
    }
    // A mean over other texts than those of the rest compares nothing.
    const whole = methods.filter(({ name, setting }) => !failed.has(JSON.stringify([name, setting])));
    const points = jobs.flatMap(({ text, context }) =>
      whole.map((method): EvalPoint => ({
        ...journal.get(keyOf(text, context, method)) as EvalPoint,
        // Texts are known by their tokens; the name is that of today.
        text: text.name,
      }))
    );
    const retrieval: RetrievalPoint[] = request.retrieval === null ? [] : await evaluateRetrieval({
      ...request,
      contexts: request.retrieval,
      methods: whole,
      journal,
      common: (method) => ({ ...common, profile: codecs.fingerprintOf(method) }),
    });

    const [profile = null] = profiles;
    return {
      version: VERSION,
      model: profile?.model.id ?? model.spec.id ?? "an unnamed model",
      geometry: describeModel(profile === null ? model.spec : servedModel(profile)),
      profile: profile && {
        fingerprint: profile.fingerprint,
        tokens: profile.calibration.tokens,
        sequences: profile.calibration.sequences,
        heldOut: request.heldOut,
      },
      dtype,
      backend: await codecs.describe(),
      texts: texts.map((text) => ({ name: text.name, tokens: text.ids.length })),
      points,
      summaries: summarize(points),
      retrieval,
    };
  });
}
