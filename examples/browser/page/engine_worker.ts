/**
 * The worker that holds the engine: requests in, events out. The page stays free to draw while the model computes.
 *
 * @module
 */
import { Engine } from "./engine.ts";
import type { Event, Request } from "./protocol.ts";

const emit = (event: Event) => postMessage(event);
let engine: Engine | null = null;
let busy: Promise<void> = Promise.resolve();

async function answer(request: Request): Promise<void> {
  if (request.type === "open") {
    engine = await Engine.open(emit);
    emit({ type: "ready", facts: engine.facts });
    await tellStored(engine);
    return;
  }
  if (engine === null) throw new Error("Cannot run: the model is not loaded");
  switch (request.type) {
    case "read":
      emit({ type: "read", run: await engine.read(request.prompt, request.newTokens, request.recipe, emit) });
      break;
    case "restore":
      emit({ type: "restored", run: await engine.restore(emit) });
      break;
    case "forget":
      await engine.forget();
      await tellStored(engine);
  }
}

async function tellStored(engine: Engine): Promise<void> {
  const stored = await engine.stored();
  emit({ type: "stored", run: stored?.run ?? null, bytes: stored?.bytes.length ?? 0 });
}

addEventListener("message", ({ data }: MessageEvent<Request>) => {
  busy = busy.then(() => answer(data)).then(() => emit({ type: "idle" }), (error) => {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    emit({ type: "failed", name, message });
  });
});
