/** The examples have configurations of their own: their types are checked here. */
import { assertEquals } from "deno-std/assert";
import { DENO, exec } from "../../tools/exec.ts";

const EXAMPLES = [...Deno.readDirSync("examples")].filter(({ isDirectory }) => isDirectory).map(({ name }) => name);

Deno.test("there are examples", () => {
  assertEquals(EXAMPLES.sort(), ["browser", "node-llama-cpp", "transformers-js"]);
});

for (const name of EXAMPLES) {
  Deno.test(`types of examples/${name}`, async () => {
    const { code, log } = await exec([DENO, "task", "check"], { cwd: `examples/${name}`, env: { NO_COLOR: "1" } });
    assertEquals(code, 0, log);
  });
}
