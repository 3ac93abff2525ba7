/**
 * What the lanes of recipe kvz are given: the basis as far as the step needs it, and the coder's parameters.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { naturalLog, power } from "../cache/power.ts";
import type { DType, ModelSpec } from "../cache/types.ts";
import { KvzFormatError, KvzMismatchError } from "../errors.ts";
import { forwardMatrix } from "../profile/kvz/forward.ts";
import { keptComponents } from "../profile/kvz/cut.ts";
import type { KvzProfile } from "../profile/kvz/types.ts";
import type { RansTables } from "../stages/entropy/rans_tables.ts";
import type { StepSet } from "../stages/quantize/trellis/model.ts";
import { MAX_S } from "../stages/quantize/trellis/side.ts";
import { nearestS, stepOf } from "../stages/quantize/trellis/step.ts";
import type { IntegerBasis } from "../stages/transform/integer_basis.ts";
import { type KvzOptions, type KvzQuality, QUALITY_KL } from "./kvz.ts";
import type { KvzEncoder } from "./kvz_chunks.ts";
import type { Setup, SetupFacts } from "./recipe.ts";

/** Setup of recipe kvz. */
export interface KvzSetup extends Setup {
  readonly model: ModelSpec;
  readonly storedDType: DType;
  readonly dtype: DType;
  readonly basis: IntegerBasis;
  readonly stepSets: readonly StepSet[];
  readonly tables: RansTables;
  readonly settings: KvzSettings;
}

/** What jobs of a file carry. */
export interface KvzSettings {
  /** The most of a chunk of the file. */
  readonly components: number;
  /** Absent in a decoder. */
  readonly encoders?: KvzEncoders;
}

/** How the newest tokens are encoded, and how those before them. */
export type KvzEncoders = Readonly<Record<"older" | "recent", KvzEncoder>>;

/** Without a measured curve the qualities' distance in s from the step of the ratio that the profile is made for. */
const QUALITY_OFFSET: Readonly<Record<KvzQuality, number>> = { small: -24, balanced: 0, high: 24 };
/** Components go by groups, so that steps near each other share a basis; whole tiles of projections. */
const COMPONENT_GROUP = 16;

/** Forward matrices made so far. */
const forwards = new WeakMap<KvzProfile, Promise<Uint16Array>>();

/** The setup of an encoder. */
export async function planSetup(profile: KvzProfile, facts: SetupFacts, options: KvzOptions): Promise<KvzSetup> {
  const encoders = encodersOf(profile, profile.components, options);
  const { components } = encoders[options.recent > 0 ? "recent" : "older"];
  return makeSetup(profile, facts, components, { forward: await forwardOf(profile, facts), encoders });
}

/** @param most components of the file */
function encodersOf(profile: KvzProfile, most: number, options: KvzOptions): KvzEncoders {
  const { lambda } = options;
  const encoder = (s: number) => ({ s, components: Math.min(most, componentsFor(profile, s)), lambda });
  const s = chooseS(profile, options);
  return { older: encoder(s), recent: encoder(clampS(nearestS(stepOf(s) * options.recentStep))) };
}

/** Computed once a profile. What fails is not kept, and is the error of the codec on whose backend it failed alone. */
async function forwardOf(profile: KvzProfile, { openBackend }: SetupFacts): Promise<Uint16Array> {
  const begun = await forwards.get(profile)?.catch(() => undefined);
  if (begun !== undefined) return begun;
  const forward = computeForward(profile, openBackend);
  forwards.set(profile, forward);
  try {
    return await forward;
  } catch (error) {
    if (forwards.get(profile) === forward) forwards.delete(profile);
    throw error;
  }
}

async function computeForward(profile: KvzProfile, openBackend: () => Promise<Backend>): Promise<Uint16Array> {
  const backend = await openBackend();
  try {
    return await forwardMatrix(profile, backend);
  } finally {
    backend[Symbol.dispose]();
  }
}

/**
 * The setup of a decoder, and with the file's options of an encoder of more tokens.
 *
 * @throws {KvzFormatError} when the plan is not one
 * @throws {KvzMismatchError} when it needs more components than the profile has
 */
export async function loadSetup(
  profile: KvzProfile,
  facts: SetupFacts,
  plan: Uint8Array,
  append?: KvzOptions,
): Promise<KvzSetup> {
  if (plan.length !== 2) {
    throw new KvzFormatError(`Cannot read file: the plan of recipe kvz has ${plan.length} bytes, expected 2`);
  }
  const components = plan[0] | plan[1] << 8;
  if (components < 1 || components > profile.components) {
    throw new KvzMismatchError(
      `Cannot use profile ${profile.fingerprint.slice(0, 12)}: the file needs ${components} components, it holds ` +
        `${profile.components}`,
    );
  }
  if (append === undefined) return makeSetup(profile, facts, components, null);
  return makeSetup(profile, facts, components, {
    forward: await forwardOf(profile, facts),
    encoders: encodersOf(profile, components, append),
  });
}

/** The step asked for, as its s. */
function chooseS(profile: KvzProfile, { step, quality, maxKl }: KvzOptions): number {
  if (step !== null) return clampS(nearestS(step));
  if (maxKl !== null && profile.curve.length === 0) {
    throw new KvzMismatchError(
      `Cannot use option "maxKl": profile ${profile.fingerprint.slice(0, 12)} has no measured curve of KL by step`,
    );
  }
  if (profile.curve.length > 0) {
    const finest = profile.curve[profile.curve.length - 1];
    if (maxKl !== null && maxKl < finest.kl) {
      throw new KvzMismatchError(
        `Cannot use option "maxKl": it is ${maxKl}, the curve of profile ${profile.fingerprint.slice(0, 12)} ends at ` +
          `${Number(finest.kl.toPrecision(3))}; a profile made for a lower ratio reaches further`,
      );
    }
    return clampS(stepForKl(profile, maxKl ?? QUALITY_KL[quality]));
  }
  return clampS(profile.finestS + QUALITY_OFFSET[quality]);
}

/** Straight lines through the logarithms of the curve's KL; nothing is said of what lies beyond its ends. */
function stepForKl({ curve }: KvzProfile, kl: number): number {
  // Rising s, falling KL.
  const i = curve.findIndex((point) => point.kl <= kl);
  if (i === 0) return curve[0].s;
  if (i < 0) return curve[curve.length - 1].s;
  const [a, b] = [curve[i - 1], curve[i]];
  const wanted = naturalLog(kl);
  const slope = (b.s - a.s) / (naturalLog(b.kl) - naturalLog(a.kl));
  return Math.ceil(a.s + slope * (wanted - naturalLog(a.kl)));
}

/** The step at which the training chunks had about this ratio: straight lines through the logarithms. */
export function startStep(fileRatio: number, { stepSets, stepBits, features }: KvzProfile): number {
  const wanted = naturalLog(Math.max(1, 16 * features / fileRatio));
  const points = stepSets.map(({ s }, i) => ({ s, bits: naturalLog(Math.max(1, stepBits[i])) }));
  let i = 1;
  while (i < points.length - 1 && points[i].bits < wanted) i++;
  const [a, b] = points.length > 1 ? [points[i - 1], points[i]] : [points[0], { ...points[0], s: points[0].s + 60 }];
  const slope = b.bits === a.bits ? 0 : (b.s - a.s) / (b.bits - a.bits);
  // Steps from 2^-29 to 2^29, about what the knob can be turned to.
  const s = Math.max(-1740, Math.min(1740, Math.round(a.s + slope * (wanted - a.bits))));
  return power(2, -s, 60);
}

function clampS(s: number): number {
  return Math.max(-MAX_S, Math.min(MAX_S, s));
}

/** Components whose standard deviation is not far below the step. */
function componentsFor({ variance, components }: KvzProfile, s: number): number {
  const wanted = keptComponents(variance, s);
  return Math.min(components, Math.ceil(wanted / COMPONENT_GROUP) * COMPONENT_GROUP);
}

/**
 * Lanes get the whole basis, whatever part of it a file needs, and the forward matrix to encode: files of any step and any
 * quality, and decoding after encoding, find it there.
 *
 * @param components the most of a chunk of the file
 * @param encoder null in a decoder
 */
function makeSetup(
  profile: KvzProfile,
  { model, storedDType, dtype }: SetupFacts,
  components: number,
  encoder: { readonly forward: Uint16Array; readonly encoders: KvzEncoders } | null,
): KvzSetup {
  const { features, basis, scales, mean, stepSets, tables, fingerprint } = profile;
  const key = (what: string) => `kvz ${JSON.stringify([fingerprint, storedDType, dtype])} ${what}`;
  const plan = Uint8Array.of(components & 0xff, components >> 8);
  const transform = { components: profile.components, features, basis, scales, mean };
  const common = { recipe: "kvz", plan, model, storedDType, dtype, stepSets, tables };
  if (encoder === null) {
    return { ...common, key: key("decode"), within: key("encode"), basis: transform, settings: { components } };
  }
  const { forward, encoders } = encoder;
  return { ...common, key: key("encode"), basis: { ...transform, forward }, settings: { components, encoders } };
}
