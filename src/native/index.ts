import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { loadAddon } from './load.ts'
import type { Native, NativeFd } from './types.ts'

export { NativeLoadError } from './load.ts'
export type * from './types.ts'

const { addon, directory } = loadAddon()

/** The native half. This module is the only one that touches the .node file. */
export const native: Native = addon

/** The identity of the build, 16 hexadecimal digits: plans and the private protocol are understood within one build only. */
export const buildId: string = addon.buildId

/** The path of a static program that is built beside the addon. */
export function programPath(name: 'caisson-monitor' | 'caisson-oci' | 'caisson-probe'): string {
  return join(directory, name)
}

export const monitorPath: string = programPath('caisson-monitor')

let monitor: Promise<NativeFd> | undefined

/**
 * A sealed memfd of the monitor, made once and held for the life of the process: pods are started from what was read then,
 * also while an update replaces the file, and no container finds a file of the host behind its parent's `/proc/<pid>/exe`.
 */
export function monitorExecutable(): Promise<NativeFd> {
  monitor ??= readFile(monitorPath).then((program) => native.sealedMemfd('caisson-monitor', program, true))
  // a failure is not kept: the next caller tries again
  monitor.catch(() => (monitor = undefined))
  return monitor
}
