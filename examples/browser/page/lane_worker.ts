/**
 * The worker behind kvz' threads, as a file of its own beside the bundles that start it.
 *
 * @module
 */
import "@kvz/kvz/lane-worker";
