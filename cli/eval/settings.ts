/**
 * Which settings the page draws as one line, and which it compares.
 *
 * @module
 */
import { CONTROLS } from "../../src/eval/method.ts";
import type { EvalResult } from "../../src/eval/point.ts";

/** A setting of a method. */
export interface Setting {
  readonly method: string;
  readonly setting: string;
  /** Beside its point: "16×" of "16×, window 0"; the whole setting where it has no ratio. */
  readonly label: string;
}

/** A method, or what varies in it apart from the ratio: a line of its own in plots over the ratio. */
export interface SettingGroup {
  /** For instance "kvtc" or "kvtc, window 0". */
  readonly name: string;
  /** Number of its colour, on the whole page. */
  readonly color: number;
  readonly members: readonly Setting[];
}

/** Settings whose curves are drawn together. */
export interface CurveSet {
  readonly name: string;
  readonly members: readonly (Setting & {
    /** Name of the curve. */
    readonly curve: string;
    /** Number of its colour. */
    readonly color: number;
  })[];
}

/** Whether a method is a control, which has no ratio and is in no plot. */
export function isControl(method: string): boolean {
  return CONTROLS.some(({ name }) => name === method);
}

/** Groups all settings but the controls by method and variant, in the order in which they first appear. */
export function groupSettings({ summaries, retrieval }: EvalResult): SettingGroup[] {
  const groups = new Map<string, Setting[]>();
  const seen = new Set<string>();
  for (const { method, setting } of [...summaries, ...retrieval]) {
    const key = JSON.stringify([method, setting]);
    if (isControl(method) || seen.has(key)) continue;
    seen.add(key);
    const { label, variant } = splitSetting(setting);
    const name = variant === "" ? method : `${method}, ${variant}`;
    groups.set(name, [...groups.get(name) ?? [], { method, setting, label }]);
  }
  return [...groups].map(([name, members], color) => ({ name, color, members }));
}

/** All settings of each group, then all groups at each ratio that several of them have. */
export function listCurveSets(groups: readonly SettingGroup[]): CurveSet[] {
  const ratios = new Map<string, CurveSet["members"][number][]>();
  for (const { name, color, members } of groups) {
    for (const member of members) {
      ratios.set(member.label, [...ratios.get(member.label) ?? [], { ...member, curve: name, color }]);
    }
  }
  return [
    ...groups.map(({ name, members }) => ({
      name: `${name}: all settings`,
      members: members.map((member, color) => ({ ...member, curve: member.label || member.method, color })),
    })),
    ...[...ratios].filter(([label, members]) => label !== "" && members.length > 1)
      .map(([label, members]) => ({ name: `all methods at ${label}`, members })),
  ];
}

/**
 * The set that is shown first: the ratio that most groups have, the middle one of several; with a single group, its
 * settings.
 */
export function firstCurveSet(groups: readonly SettingGroup[], sets: readonly CurveSet[]): number {
  const most = sets.slice(groups.length).reduce((most, { members }) => Math.max(most, members.length), 0);
  const best = sets.flatMap(({ members }, i) => i >= groups.length && members.length === most ? [i] : []);
  return best.length === 0 ? 0 : best[Math.floor((best.length - 1) / 2)];
}

function splitSetting(setting: string): { readonly label: string; readonly variant: string } {
  const [, label, variant] = /^((?:file )?[\d.]+×)(?:, )?(.*)$/.exec(setting) ?? [];
  return label === undefined ? { label: setting, variant: "" } : { label, variant };
}
