/**
 * The loop of `kvz eval`: every text, context and setting, kept in the journal as it is done.
 *
 * @module
 */
import type { DType } from "../../src/cache/types.ts";
import { describeModel } from "../../src/codec/decode.ts";
import type { LaneOptions } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import { ComponentMeter } from "../../src/eval/component_meter.ts";
import { evaluateText, evaluationTokens } from "../../src/eval/evaluate.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import { CONTROLS, type Method, recipeMethod } from "../../src/eval/method.ts";
import type { EvalPoint, EvalResult, RetrievalPoint } from "../../src/eval/point.ts";
import { summarize } from "../../src/eval/summary.ts";
import { sequenceHash } from "../../src/profile/shingles.ts";
import type { Profile } from "../../src/profile/types.ts";
import { scoped } from "../scope.ts";
import { VERSION } from "../version.ts";
import { Journal, resultKey } from "./journal.ts";
import { evaluateRetrieval } from "./retrieval.ts";
import type { EvalText } from "./texts.ts";

/** What `kvz eval` was asked for. */
export interface EvalRequest {
  readonly model: LanguageModel;
  /** Changes with the model's files. */
  readonly identity: string;
  readonly profile: Profile;
  readonly texts: readonly EvalText[];
  /** Whether the texts are known not to be among those of the calibration. */
  readonly heldOut: boolean;
  readonly settings: readonly { readonly recipe: string; readonly options: Method["options"] }[];
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
}

/** Runs what the journal does not hold yet; returns all that was asked for. */
export async function evaluate(request: EvalRequest): Promise<EvalResult> {
  return await scoped(async (scope) => {
    const { model, identity, profile, texts, contexts, continuation, dtype, signal } = request;
    const codec = scope.use(await openCodec(profile, request.lanes));
    const { threads: _, createWorker: _c, ...backend } = request.lanes;
    const components = profile.method === "kvtc" ? scope.use(await ComponentMeter.open(profile, backend)) : undefined;
    const journal = await Journal.open(request.journal, request.fresh);
    const methods = [
      ...(request.controls ? CONTROLS : []),
      ...request.settings.map(({ recipe, options }) => recipeMethod(codec, recipe, options)),
    ];
    const common = { version: VERSION, identity, profile: profile.fingerprint, dtype };
    const keyOf = ({ ids }: EvalText, context: number, method: Method) =>
      resultKey({
        ...common,
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
    for (const { text, context, missing } of jobs) {
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
      });
    }
    const points = jobs.flatMap(({ text, context }) =>
      methods.map((method): EvalPoint => ({
        ...journal.get(keyOf(text, context, method)) as EvalPoint,
        // Texts are known by their tokens; the name is that of today.
        text: text.name,
      }))
    );
    const retrieval: RetrievalPoint[] = request.retrieval === null
      ? []
      : await evaluateRetrieval({ ...request, contexts: request.retrieval, methods, journal, common });

    const { calibration, fingerprint } = profile;
    const { backend: name, build, threads } = codec.info;
    return {
      version: VERSION,
      model: profile.model.id ?? model.spec.id ?? "an unnamed model",
      geometry: describeModel(profile.model),
      profile: {
        fingerprint,
        tokens: calibration.tokens,
        sequences: calibration.sequences,
        heldOut: request.heldOut,
      },
      dtype,
      backend: `${name} ${build}, ${threads} ${threads === 1 ? "thread" : "threads"}`,
      texts: texts.map((text) => ({ name: text.name, tokens: text.ids.length })),
      points,
      summaries: summarize(points),
      retrieval,
    };
  });
}
