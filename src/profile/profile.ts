/**
 * Profiles: reading and writing, trimming, planning, exporting.
 *
 * @module
 */
export { type ExportOptions, exportProfile } from "./export.ts";
export { fitFingerprint } from "./fingerprint.ts";
export { allocationFor, planFor } from "./plan.ts";
export { parseProfile, serializeProfile, writeProfile } from "./profile_format.ts";
export { trimProfile } from "./trim.ts";
export type { CalibrationFacts, ErrorTable, KindProfile, KvtcProfile, Profile, ProfileBase } from "./types.ts";
