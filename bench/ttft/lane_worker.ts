/**
 * The worker behind kvz' threads, bundled beside the page that starts it.
 *
 * @module
 */
import "../../src/codec/lane_worker.ts";
