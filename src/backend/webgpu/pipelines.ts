/**
 * Compute pipelines: compiled once for a shader, an entry point and constants.
 *
 * @module
 */
import { variantText } from "./variants.ts";

/** A shader module as tools/build_wgsl.ts embeds it. */
export interface Shader {
  /** Its file's name without extension; names the kernel in errors and profiles. */
  readonly name: string;
  /** Both variants, as `variantText` tells them apart. */
  readonly text: string;
}

/** A compiled kernel. */
export interface Pipeline {
  /** "shader.entry". */
  readonly label: string;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** The pipelines of one device. */
export class Pipelines {
  readonly #device: GPUDevice;
  readonly #modules = new Map<string, GPUShaderModule>();
  readonly #pipelines = new Map<string, Pipeline>();

  readonly #subgroups: boolean;

  /** @param subgroups which variants are compiled */
  constructor(device: GPUDevice, subgroups: boolean) {
    this.#device = device;
    this.#subgroups = subgroups;
  }

  /** A pipeline that is there already. */
  find(key: string): Pipeline | undefined {
    return this.#pipelines.get(key);
  }

  /** Compiles; errors go to the device's error scope. */
  compile(key: string, shader: Shader, entry: string, constants: Readonly<Record<string, number>>): Pipeline {
    const { name } = shader;
    const label = `${name}.${entry}`;
    let module = this.#modules.get(name);
    if (module === undefined) {
      module = this.#device.createShaderModule({ label: name, code: variantText(shader, this.#subgroups) });
      this.#modules.set(name, module);
    }
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: "auto",
      compute: { module, entryPoint: entry, constants: { ...constants } },
    });
    const compiled = { label, pipeline, layout: pipeline.getBindGroupLayout(0) };
    this.#pipelines.set(key, compiled);
    return compiled;
  }
}

/** What tells pipelines apart. */
export function pipelineKey(shader: Shader, entry: string, constants: Readonly<Record<string, number>>): string {
  let key = `${shader.name}.${entry}`;
  for (const name in constants) key += ` ${name}=${constants[name]}`;
  return key;
}
