/**
 * One text at one context length: prefill, then for every method: compress, restore, continue, compare.
 *
 * @module
 */
import { castCache } from "../cache/cast.ts";
import { densify } from "../cache/densify.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import { type DType, type Kind, KINDS } from "../cache/types.ts";
import { KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import { AgreementMeter, stretches } from "./agreement.ts";
import { type PrefillOptions, prefillWithQueries, STEP, withQueries } from "./capture.ts";
import type { ComponentMeter } from "./component_meter.ts";
import { type CacheErrors, measureErrors, type RestoredBlock } from "./error_meter.ts";
import type { LanguageModel, LoadedCache, LoadOptions } from "./language_model.ts";
import { readOn } from "./read_on.ts";
import { anyNeedsQueries, type Method, type MethodOutcome } from "./method.ts";
import type { EvalPoint, PerKind, TensorErrors } from "./point.ts";

/** Most stretches of {@linkcode TensorErrors.positions}. */
const STRETCHES = 128;

/** What one text is put through. */
export interface EvaluateOptions {
  /** Tokens of the cache. */
  readonly context: number;
  /** Tokens predicted after it. */
  readonly continuation: number;
  /** Element type in which the cache is compressed. */
  readonly dtype: DType;
  /** What to compare. */
  readonly methods: readonly Method[];
  /** Last tokens whose queries are captured where a method needs some. Default: all of the context. */
  readonly queries?: number;
  /** Errors by component, where a profile is in use. */
  readonly components?: ComponentMeter;
  /** Called after each method. */
  readonly onPoint: (point: EvalPoint) => void | Promise<void>;
  /** Called where a method cannot do this cache (a typed error); absent: the evaluation ends with the error. */
  readonly onFailure?: (method: Method, error: Error) => void;
  /** Called as work is done, in tokens run through the model since the last call. */
  readonly onTokens?: (tokens: number) => void;
  /** Ends the work between steps. */
  readonly signal?: AbortSignal;
}

/** Tokens that {@linkcode evaluateText} runs through the model; the unit of progress. */
export function evaluationTokens(context: number, continuation: number, methods: number): number {
  return context + continuation * (methods + 1);
}

/**
 * Runs all methods over one text.
 *
 * @param ids at least context + continuation + 1 tokens
 * @throws {RangeError} too few tokens, or more than the model has positions
 */
export async function evaluateText(
  model: LanguageModel,
  text: string,
  ids: Int32Array,
  options: EvaluateOptions,
): Promise<void> {
  const { context, continuation, dtype, methods, components, onPoint, onFailure, onTokens, signal } = options;
  checkLength(model, text, ids, context, continuation);
  const prompt = ids.subarray(0, context);
  const queries = await anyNeedsQueries(methods) ? options.queries ?? context : 0;
  const captured = await prefillWithQueries(model, prompt, { queries, onTokens, signal });
  const { past } = captured;
  const original = withQueries(await model.unload(past, prompt), captured.queries);
  const cache = castCache(original, dtype);
  const given = ids.subarray(context, context + continuation);
  const targets = ids.subarray(context + 1, context + continuation + 1);
  const before = await continueWith(model, past, given, { onTokens, signal });

  for (const method of methods) {
    // The control goes without the rounding to `dtype`.
    const taken = method.name === "untouched" ? original : await sharedCache(model, method, prompt, options) ?? cache;
    let outcome: MethodOutcome;
    let after: Float32Array;
    let read = 0;
    const steps: StepOptions = {
      onTokens: (tokens) => {
        read += tokens;
        onTokens?.(tokens);
      },
      ...(signal ? { signal } : {}),
    };
    try {
      outcome = await method.run(taken, signal);
      const restored = await loadRestored(model, method, outcome, past);
      after = outcome.running === undefined
        ? await continueWith(model, restored, given, steps)
        : await readOn(model, restored, given, outcome.running, { ...outcome, ...steps });
    } catch (error) {
      if (onFailure === undefined || !isRefusal(error)) throw error;
      onTokens?.(continuation - read);
      onFailure(method, error);
      continue;
    }
    const meter = new AgreementMeter(model.vocabulary);
    for (let row = 0; row < continuation; row += STEP) {
      const end = Math.min(row + STEP, continuation);
      const width = model.vocabulary;
      meter.add(
        before.subarray(row * width, end * width),
        after.subarray(row * width, end * width),
        targets.subarray(row, end),
      );
    }
    await onPoint({
      text,
      context,
      method: method.name,
      setting: method.setting,
      options: method.options,
      ratios: outcome.ratios,
      bytes: outcome.bytes,
      ...(outcome.running === undefined ? {} : { decoded: decodedSize(cache, continuation, outcome.running) }),
      agreement: meter.result(),
      errors: await tensorErrors(castCache(taken, dtype), outcome, method.usesProfile ? components : undefined),
      seconds: outcome.seconds,
    });
  }
}

/** Progress and end of work that runs in steps. */
export type StepOptions = Pick<PrefillOptions, "onTokens" | "signal">;

/** Runs a prompt in steps, with its layers shared where `layerSource` says so; returns its cache. */
export async function prefill(
  model: LanguageModel,
  ids: Int32Array,
  options: StepOptions & Pick<LoadOptions, "layerSource"> = {},
): Promise<LoadedCache> {
  const { onTokens, signal, layerSource } = options;
  return (await prefillWithQueries(model, ids, { onTokens, signal, layerSource })).past;
}

/**
 * The cache of a prompt that was read with the layers shared that a method shares, as a model that shares them makes it;
 * undefined where it shares none.
 */
export async function sharedCache(
  model: LanguageModel,
  method: Method,
  prompt: Int32Array,
  { dtype, signal }: { readonly dtype: DType; readonly signal?: AbortSignal },
): Promise<KvCache | undefined> {
  const layerSource = await method.layerSource?.(model.spec.layers);
  if (layerSource === undefined) return undefined;
  const past = await prefill(model, prompt, { layerSource, ...(signal ? { signal } : {}) });
  return castCache(await model.unload(past, prompt), dtype);
}

/** Whether a method said that it cannot do a cache, and did not fail for another reason. */
function isRefusal(error: unknown): error is Error {
  // Engines have RangeErrors of their own.
  if (error instanceof RangeError) return error.message.startsWith("Cannot ");
  return error instanceof KvzUnsupportedError || error instanceof KvzMismatchError || error instanceof KvzLimitError;
}

/**
 * Loads what a method restored; the continuation must have the positions that it has after the original.
 *
 * @throws {KvzMismatchError} The restored cache ends elsewhere: its last token was evicted from every head.
 */
export async function loadRestored(
  model: LanguageModel,
  method: Method,
  { cache, layerSource }: MethodOutcome,
  original: LoadedCache,
): Promise<LoadedCache> {
  const restored = await model.load(cache, layerSource === undefined ? {} : { layerSource });
  if (restored.nextPosition !== original.nextPosition) {
    throw new KvzMismatchError(
      `Cannot evaluate ${method.name}: the restored cache ends before position ${restored.nextPosition}, expected ` +
        `${original.nextPosition}; the newest token must stay`,
    );
  }
  return restored;
}

/** All logits of tokens after a past, [tokens][vocabulary]. */
export async function continueWith(
  model: LanguageModel,
  past: LoadedCache,
  ids: Int32Array,
  { onTokens, signal }: StepOptions,
): Promise<Float32Array> {
  const all = new Float32Array(ids.length * model.vocabulary);
  let present = past;
  for (let at = 0; at < ids.length; at += STEP) {
    signal?.throwIfAborted();
    const step = ids.subarray(at, at + STEP);
    const result = await model.forward(step, { past: present });
    all.set(result.logits, at * model.vocabulary);
    present = result.present;
    onTokens?.(step.length);
  }
  return all;
}

/** Refuses what does not fit the text or the model. */
export function checkLength(
  model: LanguageModel,
  text: string,
  ids: Int32Array,
  context: number,
  continuation: number,
): void {
  const positions = context + continuation;
  if (positions > model.maxPositions) {
    throw new RangeError(
      `Cannot evaluate context ${context}: with ${continuation} more tokens it needs ${positions} positions, the model ` +
        `has ${model.maxPositions}`,
    );
  }
  if (ids.length < positions + 1) {
    throw new RangeError(
      `Cannot evaluate context ${context}: ${text} has ${ids.length} tokens, expected at least ${positions + 1}`,
    );
  }
}

/** What a method held after the continuation. */
function decodedSize(
  { model, tokens: context }: KvCache,
  continuation: number,
  { every, cache: { bytes } }: NonNullable<MethodOutcome["running"]>,
): EvalPoint["decoded"] {
  const tokens = context + continuation;
  const whole = 2 * tokens * model.layers * model.kvHeads * (model.keyDim + model.valueDim);
  return { every, tokens, bytes, ratio: whole / bytes };
}

async function tensorErrors(
  original: KvCache,
  { cache, regions }: MethodOutcome,
  meter: ComponentMeter | undefined,
): Promise<PerKind<TensorErrors>> {
  // Tokens that a head does not hold any more count as zeros.
  const gaps = cache.ragged || cache.tokens !== original.tokens;
  const restored = castCache(gaps ? densify(cache, original.positions).cache : cache, original.dtype);
  const errors: CacheErrors = await measureErrors(original, blocksOf(restored), regions);
  const { sinks, coded } = regions;
  const components = meter === undefined || coded === 0
    ? null
    : await meter.measure(original, restored, sinks, sinks + coded);
  const of = (kind: Kind): TensorErrors => ({
    coded: errors[kind].regions.coded,
    layers: errors[kind].layers,
    positions: stretches(original.tokens, STRETCHES).map(([begin, end]) =>
      rootMeanSquare(errors[kind].tokens.slice(begin, end))
    ),
    components: components === null ? null : components[kind],
  });
  return { key: of("key"), value: of("value") };
}

/** A cache in memory as the blocks that the error meter takes. */
function* blocksOf(cache: KvCache): Generator<RestoredBlock> {
  for (const kind of KINDS) {
    yield { kind, begin: 0, tokens: cache.tokens, positions: cache.positions, data: cache.read(kind, 0, cache.tokens) };
  }
}

function rootMeanSquare(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  return Math.sqrt(known.reduce((sum, value) => sum + value * value, 0) / known.length);
}
