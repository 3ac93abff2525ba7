/**
 * Numbers that calibration and recipe share.
 *
 * @module
 */

/** A component is kept while its standard deviation is at least this share of the step. */
export const KEEP_SHARE = 0.6;
/** Weight of a bit against a squared step, in training and by default. */
export const LAMBDA = 0.3;
