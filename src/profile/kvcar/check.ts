/**
 * Checks on what a kvcar profile says, and the saving that it promises.
 *
 * @module
 */
import { type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import { KvzFormatError } from "../../errors.ts";
import { type Autoencoder, type KvcarKind, type KvcarProfile, parameterCount, storedHeads } from "./types.ts";

/** Largest width of a hidden layer or a latent; bounds what a header may ask to be allocated. */
export const MAX_WIDTH = 1 << 16;

/**
 * Checks a reuse map: every slot is its own source, or has a stored slot of an earlier layer as its source.
 *
 * @throws {KvzFormatError} naming the slot
 */
export function checkSources(sources: Int32Array, kind: Kind, { layers, kvHeads }: ModelSpec): void {
  if (sources.length !== layers * kvHeads) {
    throw new KvzFormatError(
      `Cannot read profile: the map of ${kind}s has ${sources.length} slots, expected ${layers * kvHeads}`,
    );
  }
  sources.forEach((source, slot) => {
    if (source === slot) return;
    const earlier = source >= 0 && source < slot && Math.floor(source / kvHeads) < Math.floor(slot / kvHeads);
    if (!earlier || sources[source] !== source) {
      throw new KvzFormatError(
        `Cannot read profile: ${kind}s of layer ${Math.floor(slot / kvHeads)}, head ${slot % kvHeads} reuse slot ` +
          `${source}, expected a stored one of an earlier layer`,
      );
    }
  });
}

/**
 * Checks that autoencoders stand by rising layer, fit the heads that their layers store, and hold finite numbers.
 *
 * @throws {KvzFormatError} naming kind and layer
 */
export function checkAutoencoders({ sources, autoencoders }: KvcarKind, kind: Kind, model: ModelSpec): void {
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  let last = -1;
  for (const autoencoder of autoencoders) {
    const { layer, inputs, hidden, latent, parameters } = autoencoder;
    const fault = (why: string) =>
      new KvzFormatError(`Cannot read profile: the autoencoder of the ${kind}s of layer ${layer} ${why}`);
    if (!(layer > last && layer < model.layers)) throw fault(`follows layer ${last} of ${model.layers}`);
    last = layer;
    const stored = storedHeads(sources, layer, model.kvHeads).length * dim;
    if (inputs !== stored || stored === 0) throw fault(`takes ${inputs} elements, the layer stores ${stored} a token`);
    if (!(hidden >= 1 && hidden <= MAX_WIDTH && latent >= 1 && latent <= inputs)) {
      throw fault(`has widths ${hidden} and ${latent}, expected up to ${MAX_WIDTH} and ${inputs}`);
    }
    if (parameters.length !== parameterCount(autoencoder)) {
      throw fault(`has ${parameters.length} numbers, expected ${parameterCount(autoencoder)}`);
    }
    if (!parameters.every(Number.isFinite)) throw fault("holds numbers out of range");
  }
}

/** Elements of a token that are stored, over all layers. */
function storedElements(profile: KvcarProfile, kind: Kind): number {
  const { model: { layers, kvHeads, keyDim, valueDim }, kinds } = profile;
  const { sources, autoencoders } = kinds[kind];
  const dim = kind === "key" ? keyDim : valueDim;
  const latents = new Map(autoencoders.map(({ layer, latent }: Autoencoder) => [layer, latent]));
  let elements = 0;
  for (let layer = 0; layer < layers; layer++) {
    elements += latents.get(layer) ?? storedHeads(sources, layer, kvHeads).length * dim;
  }
  return elements;
}

/**
 * Share of the cache's elements that is not stored, as the paper counts: n/L · (1 − d_z/D) with autoencoders in n of L
 * layers, slots ÷ (2 · L · H) with reuse alone. int8 latents, which halve what is left of a latent, are not in it.
 */
export function nominalSaving(profile: KvcarProfile): number {
  const { layers, kvHeads, keyDim, valueDim } = profile.model;
  const all = layers * kvHeads * (keyDim + valueDim);
  return 1 - KINDS.reduce((sum, kind) => sum + storedElements(profile, kind), 0) / all;
}
