/**
 * `kvz recipes`: what methods there are and what they take.
 *
 * @module
 */
import type { Command } from "commander";
import { listRecipes } from "../../src/recipes/registry.ts";
import type { CliContext } from "../context.ts";
import { addJsonOption, type JsonFlag } from "../options.ts";

/** Adds the command. */
export function addRecipes(program: Command, context: CliContext): void {
  const command = program.command("recipes").description("list the recipes with their options and needs");
  addJsonOption(command).action(async (flags: JsonFlag) => {
    const recipes = (await listRecipes()).map(({ name, version, description, options, needs, stages }) => ({
      name,
      version,
      description,
      options: options.map((option) => ({ ...option })),
      needs: [...needs],
      stages: [...stages],
    }));
    const lines = recipes.flatMap(({ name, description, options, needs, stages }) => [
      `${name}  ${description}`,
      `  needs   ${needs.join(", ") || "nothing"}`,
      `  stages  ${stages.join(" → ")}`,
      ...options.map((option) =>
        `  --${kebab(option.name).padEnd(12)} ${option.description}` +
        (option.default === null ? "" : ` (default ${option.default})`)
      ),
    ]);
    await context.finish(flags, { recipes }, lines);
  });
}

/** keyRatio → key-ratio, as the option is called on the command line. */
function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
