/**
 * A Python of our own in .cache/python with the exact packages that the export of models needs.
 *
 * @module
 */
import { exec, run } from "../exec.ts";

const DIR = ".cache/python";
const REQUIREMENTS = "tools/model_requirements.txt";
const OLDEST = [3, 11] as const;

/** Where the packages are, and whether they were there already. */
export interface Python {
  /** Path of the interpreter. */
  readonly path: string;
  readonly installed: boolean;
}

/**
 * Makes the environment and installs the packages, unless both are there.
 *
 * @param say Told what is going on.
 * @throws {Error} There is no Python 3.11 or later, or an installation failed.
 */
export async function preparePython(say: (line: string) => void): Promise<Python> {
  const path = Deno.build.os === "windows" ? `${DIR}/Scripts/python.exe` : `${DIR}/bin/python`;
  const wanted = await Deno.readTextFile(REQUIREMENTS);
  // Written last: what an interrupted installation left is installed again.
  const marker = `${DIR}/installed.txt`;
  if (await textOf(marker) === wanted && (await exec([path, "--version"])).code === 0) {
    return { path, installed: false };
  }
  const { program, version } = await findPython();
  say(`Installing the packages of ${REQUIREMENTS} into ${DIR} (Python ${version})`);
  await run([program, "-m", "venv", "--clear", DIR]);
  await run([path, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]);
  await Deno.writeTextFile(marker, wanted);
  return { path, installed: true };
}

async function findPython(): Promise<{ program: string; version: string }> {
  let found: string | null = null;
  for (const program of ["python3", "python"]) {
    let version: string;
    try {
      version = (await run([program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])).out.trim();
    } catch {
      // Not there, or only a stand-in that says where to get it.
      continue;
    }
    const [major, minor] = version.split(".").map(Number);
    if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return { program, version };
    found = version;
  }
  throw new Error(
    `Cannot export model: ${found === null ? "python3 was not found" : `python3 is ${found}`}, expected Python ` +
      `${OLDEST.join(".")} or later with pip`,
  );
}

/** The text of a file; null when there is none. */
export async function textOf(path: string): Promise<string | null> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
