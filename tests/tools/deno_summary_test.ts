import { assertEquals } from "deno-std/assert";
import { parseDenoSummary } from "../../tools/gate/deno_summary.ts";

Deno.test("parseDenoSummary() adds up the sums of several runs, coloured or not", () => {
  const log =
    "a ... ok (1ms)\n\n\x1b[0m\x1b[32mok\x1b[0m | 10 passed (3 steps) | 0 failed \x1b[0m\x1b[38;5;245m(1s)\x1b[0m\n" +
    "FAILED | 4 passed | 2 failed (1 step) | 1 ignored (2s)\n";
  assertEquals(parseDenoSummary(log), { passed: 14, failed: 2 });
});

Deno.test("parseDenoSummary() counts nothing where no sum was printed, or a test printed one of its own", () => {
  assertEquals(parseDenoSummary("error: Module not found\n"), { passed: 0, failed: 0 });
  assertEquals(parseDenoSummary("expected ok | 3 passed | 0 failed\n"), { passed: 0, failed: 0 });
});
