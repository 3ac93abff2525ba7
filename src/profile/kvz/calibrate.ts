/**
 * Calibration for recipe kvz: statistics of keys and values together, the joint fit, its rounding to integers, and the
 * training of the coder.
 *
 * @module
 */
import { createBackend, hostOptions } from "../../backend/select.ts";
import { CalibrateKernels } from "../../backend/wasm/calibrate_kernels.ts";
import { TrellisKernels } from "../../backend/wasm/trellis_kernels.ts";
import { f16ToNumber } from "../../cache/elements.ts";
import type { Kind, ModelSpec } from "../../cache/types.ts";
import type { ByteSource } from "../../container/bytes.ts";
import { stepOf } from "../../stages/quantize/trellis/step.ts";
import { openIntegerTransform } from "../../stages/transform/integer.ts";
import { type CalibrationInputs, type LayerMapOption, type PartialOptions, readAll } from "../calibrate.ts";
import { Gatherer } from "../gatherer.ts";
import { ownLayersOfAll } from "../own_layers.ts";
import { featuresOf } from "../statistics.ts";
import { kvzFingerprint } from "./fingerprint.ts";
import { forwardMatrix } from "./forward.ts";
import { type CostBlock, roundBasis } from "./int7.ts";
import { eachBlock, fitJoint } from "./joint_fitter.ts";
import { JointReader, type RawChunk } from "./joint_reader.ts";
import { LAMBDA } from "./limits.ts";
import { stepFor } from "./rate.ts";
import {
  joinStored,
  kindDim,
  openSensitivity,
  plainSensitivity,
  scaleForHalf,
  type SensitivityBlocks,
  weighKeys,
  type Weighting,
  weightingOf,
} from "./sensitivity.ts";
import { train, type TrainingChunk } from "./train.ts";
import { keptComponents } from "./cut.ts";
import type { KvzProfile } from "./types.ts";

/** Options of {@linkcode calibrateKvz}. */
export interface CalibrateKvzOptions
  extends Pick<PartialOptions, "seed" | "sinks" | "heldOut" | "backend" | "onProgress" | "signal">, LayerMapOption {
  /**
   * What errors cost: a file of tools/sensitivity.py, or blocks (forwardBlocks of `@kvz/kvz/eval`). Default: errors count
   * relative to the spread of their layer.
   */
  readonly sensitivity?: ByteSource | SensitivityBlocks;
  /**
   * How much more errors of keys count than the sensitivity says, 0.01 to 100. What a model says of ordinary texts forgives
   * errors of keys that it needs where it looks up a fact told far back. Default 1.
   */
  readonly keyWeight?: number;
  /** Components fitted at most; how many are kept follows from `ratio`. Default 2048. */
  readonly rank?: number;
  /**
   * Ratio of the coded tokens that the profile is made for: components far below the step of this ratio are left out, so that a
   * higher one makes a smaller profile, and files of lower ratios lose some quality. Default 70.
   */
  readonly ratio?: number;
  /** Which decomposition. Default "randomized". */
  readonly svd?: "randomized" | "exact";
  /** Chunks of 512 tokens to train the coder on, at most. Default 24. */
  readonly trainingChunks?: number;
}

/** Ratio of the default quality. */
const DEFAULT_RATIO = 70;
/** Steps of training, in 1/60 octave from that of the ratio. */
const STEPS = [-60, -30, 0, 30, 60];
/** Shares of reading, fitting and training in the progress of the second phase. */
const FIT_SHARE = 0.7;

/**
 * Calibrates a profile for recipe kvz on caches of one model.
 *
 * @throws what `calibrate` throws, and
 * @throws {KvzFormatError} when the sensitivity file is none, or a block is no matrix of second moments
 * @throws {KvzMismatchError} when it is of another model
 */
export async function calibrateKvz(caches: CalibrationInputs, options: CalibrateKvzOptions = {}): Promise<KvzProfile> {
  const {
    seed = 0,
    sinks = 4,
    keyWeight = 1,
    rank = 2048,
    ratio = DEFAULT_RATIO,
    svd = "randomized",
    trainingChunks = 24,
    layerMap,
    onProgress,
    signal,
  } = options;
  for (const [name, value, max] of [["rank", rank, 4096], ["trainingChunks", trainingChunks, 4096]] as const) {
    if (!(Number.isInteger(value) && value >= 1 && value <= max)) {
      throw new RangeError(`Cannot calibrate: ${name} is ${value}, expected a whole number from 1 to ${max}`);
    }
  }
  if (layerMap !== undefined && options.sensitivity !== undefined) {
    throw new TypeError(
      'Cannot calibrate: "sensitivity" is of all layers of the model, and "layerMap" leaves some out',
    );
  }
  if (!(keyWeight >= 0.01 && keyWeight <= 100)) {
    throw new RangeError(`Cannot calibrate: keyWeight is ${keyWeight}, expected 0.01 to 100`);
  }
  if (!(ratio >= 1 && ratio <= 10000)) {
    throw new RangeError(`Cannot calibrate: ratio is ${ratio}, expected 1 to 10000`);
  }
  const kernels = await CalibrateKernels.open(options.backend?.build ?? "auto");
  let reader: JointReader | null = null;
  let blocks: SensitivityBlocks | null = null;
  const gatherer = new Gatherer({
    ...options,
    threads: 1,
    openEngines: async (model) => {
      // Read before the caches: a file of another model should not be found out after minutes.
      if (options.sensitivity !== undefined) blocks = await openSensitivity(options.sensitivity, model);
      reader = new JointReader(model, await createBackend(hostOptions(options.backend)), kernels, trainingChunks);
      return reader.engines();
    },
  });
  try {
    await readAll(gatherer, layerMap === undefined ? caches : ownLayersOfAll(caches, layerMap), options);
    const { tokens } = gatherer;
    if (reader === null || tokens < 2) {
      throw new RangeError(`Cannot calibrate: ${tokens} tokens are left after ${sinks} sinks a sequence, expected 2`);
    }
    const report = (fraction: number) => {
      signal?.throwIfAborted();
      onProgress?.({ phase: "fit", fraction, tokens });
    };
    const model = gatherer.model!;
    const { chunks, gram } = reader as JointReader;
    const fitted = fitRounded(kernels, gram, model, { blocks, keyWeight, ratio }, {
      rank,
      svd,
      seed,
      onProgress: (fraction) => report(FIT_SHARE * fraction),
    });
    const untrained: Omit<KvzProfile, "fingerprint" | "stepSets" | "stepBits" | "tables"> = {
      method: "kvz",
      model,
      ...(layerMap === undefined ? {} : { layerMap }),
      calibration: { tokens, sinks, sequences: gatherer.sequences, svd, seed },
      shingles: gatherer.shingles(),
      ...fitted.profile,
      curve: [],
    };
    const steps = STEPS.map((offset) => fitted.profile.finestS + offset);
    const coefficients = await project(untrained as KvzProfile, chunks, options.backend ?? {});
    const trellis = await TrellisKernels.open(options.backend?.build ?? "auto");
    const { stepSets, tables, bits } = train(trellis, coefficients, untrained.variance, {
      steps,
      lambda: LAMBDA,
      onProgress: (fraction) => report(FIT_SHARE + (1 - FIT_SHARE) * fraction),
    });
    const profile = { ...untrained, stepSets, stepBits: bits.map(Math.round), tables };
    return { ...profile, fingerprint: await kvzFingerprint(profile) };
  } finally {
    gatherer.close();
    (reader as JointReader | null)?.[Symbol.dispose]();
  }
}

/** The joint fit, cut to the components that the finest step needs and rounded. */
function fitRounded(
  kernels: CalibrateKernels,
  gram: JointReader["gram"],
  model: ModelSpec,
  { blocks, keyWeight, ratio }: {
    readonly blocks: SensitivityBlocks | null;
    readonly keyWeight: number;
    readonly ratio: number;
  },
  options: Parameters<typeof fitJoint>[4],
) {
  let used = blocks;
  const joint = fitJoint(kernels, gram, model, (variance) => {
    used = scaleForHalf(weighKeys(used ?? plainSensitivity(model, variance), keyWeight), model);
    const { key, value } = used;
    return {
      key: weightingOf(kernels, key, model.keyDim),
      value: weightingOf(kernels, value, model.valueDim),
    };
  }, options);
  const features = gram.features;
  const finestS = stepFor(joint.variance, features * 16 / ratio);
  const kept = keptComponents(joint.variance, finestS);
  const variance = joint.variance.slice(0, kept);
  const { basis, scales } = roundBasis(
    joint.back.subarray(0, kept * features),
    features,
    costBlocks(features, featuresOf(model).key, joint.weightings),
    variance,
    stepOf(finestS),
  );
  return {
    profile: {
      sensitivity: used!.source,
      features,
      components: kept,
      finestS,
      variance: Float32Array.from(variance),
      mean: Float32Array.from(joint.mean),
      basis,
      scales,
      sensitivityBlocks: joinStored(joint.weightings),
    },
  };
}

/** A² of every head, as a profile stores it. */
function costBlocks(
  features: number,
  keyFeatures: number,
  weightings: Readonly<Record<Kind, Weighting>>,
): CostBlock[] {
  const out: CostBlock[] = [];
  eachBlock(keyFeatures, features, weightings, ({ stored, dim }, block, begin) => {
    const size = dim * dim;
    const cost = Float64Array.from(stored.subarray(block * size, (block + 1) * size), f16ToNumber);
    out.push({ begin, dim, cost });
  });
  return out;
}

/** Coefficients of chunks under a profile's forward matrix. */
async function project(
  profile: KvzProfile,
  chunks: readonly RawChunk[],
  options: NonNullable<PartialOptions["backend"]>,
): Promise<TrainingChunk[]> {
  const { model } = profile;
  const backend = await createBackend(hostOptions(options));
  const out: TrainingChunk[] = [];
  try {
    const forward = await forwardMatrix(profile, backend);
    const opened = new Map<string, Awaited<ReturnType<typeof openIntegerTransform>>>();
    for (const { tokens, dtype, data, positions } of chunks) {
      let transform = opened.get(dtype);
      if (transform === undefined) {
        const geometry = {
          layers: model.layers,
          heads: model.kvHeads,
          keyDim: kindDim(model, "key"),
          valueDim: kindDim(model, "value"),
          rope: model.rope,
          dtype,
        };
        transform = await openIntegerTransform(backend, geometry, { ...profile, forward });
        opened.set(dtype, transform);
      }
      const ctx = { tokens, positions, layerBegin: 0, layerEnd: model.layers };
      out.push({ tokens, coefficients: await transform.encode(data, ctx) });
    }
    for (const transform of opened.values()) transform[Symbol.dispose]();
    return out;
  } finally {
    backend[Symbol.dispose]();
  }
}
