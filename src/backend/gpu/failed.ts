/**
 * Errors of GPUs that are there.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";

/** A backend is there but does not start: "auto" says so, other than where there is none. */
export class FailedBackendError extends KvzBackendError {}
