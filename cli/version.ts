/** Version of the package; tests compare it with deno.json. */
export const VERSION = "0.1.0";
