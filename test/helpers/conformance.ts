/** What the files of test/conformance share: the runtime under test, and what is known of others in its place. */
import { accessSync, constants, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Test } from 'tap'
import { needsRoot, project } from './service.ts'
import { missingTools } from './tools.ts'

/** `CAISSON_RUNTIME=/usr/sbin/runc node build/test/conformance/podman.test.js` drives another runtime: that proves the driver. */
export const runtime = process.env['CAISSON_RUNTIME'] ?? join(project, 'build', 'Release', 'caisson-oci')
export const runtimeName = basename(runtime)

const crun = runtimeName === 'crun'
/** What a runtime says of the program `none`, of `/bin/none`, and of what is there and cannot be executed: callers match runc's words. */
export const words = {
  notInPath: crun ? /executable file `none` not found in \$PATH/ : /none\\?": executable file not found in \$PATH/,
  noFile: crun ? /executable file `\/bin\/none` not found/ : /\/bin\/none\\?": .*no such file or directory/,
  notExecutable: crun
    ? /open executable: (Permission denied|Operation not permitted)/
    : /permission denied|is a directory/,
}

/** A reason to skip a whole file, or false. */
export function cannotRun(...tools: string[]): string | false {
  if (needsRoot !== false) return needsRoot
  try {
    accessSync(runtime, constants.X_OK)
  } catch {
    return `${basename(runtime)} is not built`
  }
  return missingTools(...tools)
}

/** A reason to skip what allows devices, or false: it takes a device program. */
export function noDeviceProgram(): string | false {
  const effective = BigInt(`0x${/^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`)
  if (!crun || ((effective >> 24n) & 1n) === 1n) return false
  return "Debian 12's crun raises its limit of locked memory for every device program, and this root may not"
}

/** Tests that a runtime is known to fail, by its name, with the reason. */
export type Known = Readonly<Record<string, Readonly<Record<string, string>>>>

/** Subtests of a file; those that the runtime under test is known to fail are skipped with the reason. */
export function subtests(
  t: Test,
  known: Known,
): (name: string, body: (t: Test) => Promise<void>, skip?: string | false) => void {
  return (name, body, skip = false) => {
    void t.test(name, { skip: known[runtimeName]?.[name] ?? skip }, body)
  }
}
