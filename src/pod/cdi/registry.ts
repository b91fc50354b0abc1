import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { ifPresent, readRegularFile } from '../../files.ts'
import { parseCdiSpec, parseDeviceName } from './spec.ts'
import type { CdiDevice, CdiSpec, ContainerEdits } from './types.ts'

const filesMax = 1024
const specSizeMax = 8 << 20

interface Found {
  file: string
  spec: CdiSpec
  device: CdiDevice
}

/**
 * The edits of devices, in the order that they are applied in: those of a device's specification before the first of its devices. The
 * directories are read each time, so that what a driver has just written counts.
 *
 * @param directories the later ones win over the earlier ones, file names do not matter
 * @param names `vendor/class=name`; one that is given twice counts once
 * @throws CaissonError ERR_INVALID_ARGUMENT: no name of a device; ERR_FAILED_PRECONDITION: nobody offers it, two do, or its file is wrong
 */
export async function cdiEdits(directories: readonly string[], names: readonly string[]): Promise<ContainerEdits[]> {
  if (names.length === 0) return []
  for (const name of names) {
    if (parseDeviceName(name) === null) {
      throw new CaissonError('ERR_INVALID_ARGUMENT', `CDI device "${name}" is not vendor/class=name`)
    }
  }
  const { devices, damaged } = await readAll(directories)
  const used = new Set<CdiSpec>()
  const edits: ContainerEdits[] = []
  for (const name of new Set(names)) {
    const found = devices.get(name) ?? []
    const [first] = found
    if (first === undefined) throw unresolved(name, directories, damaged)
    if (found.length > 1) {
      throw new CaissonError(
        'ERR_FAILED_PRECONDITION',
        `CDI device "${name}" is described twice: ${found.map(({ file }) => file).join(', ')}`,
      )
    }
    if (!used.has(first.spec)) edits.push(first.spec.containerEdits)
    used.add(first.spec)
    edits.push(first.device.containerEdits)
  }
  return edits
}

function unresolved(name: string, directories: readonly string[], damaged: readonly string[]): CaissonError {
  const where = directories.length === 0 ? 'CDI is switched off' : `no file of ${directories.join(', ')} describes it`
  const also = damaged.length === 0 ? '' : `; not understood: ${damaged.join('; ')}`
  return new CaissonError('ERR_FAILED_PRECONDITION', `CDI device "${name}" is not known: ${where}${also}`)
}

async function readAll(
  directories: readonly string[],
): Promise<{ devices: Map<string, Found[]>; damaged: readonly string[] }> {
  const devices = new Map<string, Found[]>()
  const damaged: string[] = []
  for (const directory of directories) {
    const ofDirectory = new Map<string, Found[]>()
    for (const file of await specFiles(directory)) {
      let spec: CdiSpec
      try {
        spec = parseCdiSpec(await readRegularFile(file, specSizeMax))
      } catch (error) {
        // other devices are not to fail for it
        damaged.push(`${file}: ${(error as Error).message.split('\n', 1)[0] ?? ''}`)
        continue
      }
      for (const device of spec.devices) {
        const name = `${spec.kind}=${device.name}`
        ofDirectory.set(name, [...(ofDirectory.get(name) ?? []), { file, spec, device }])
      }
    }
    for (const [name, found] of ofDirectory) devices.set(name, found)
  }
  return { devices, damaged }
}

async function specFiles(directory: string): Promise<string[]> {
  const names = (await ifPresent(readdir(directory))) ?? []
  const files = names.filter((name) => /\.(json|yaml)$/.test(name)).sort()
  if (files.length > filesMax) {
    throw new CaissonError('ERR_LIMIT_EXCEEDED', `${directory} has more than ${filesMax} files of CDI`)
  }
  return files.map((name) => join(directory, name))
}

/** Annotations by which old kubelets and device plugins name devices: `cdi.k8s.io/<anything>: vendor/class=name,…`. */
export function annotatedDevices(annotations: Readonly<Record<string, string>>): string[] {
  return Object.keys(annotations)
    .filter((key) => key.startsWith('cdi.k8s.io/'))
    .sort()
    .flatMap((key) => (annotations[key] ?? '').split(',').map((name) => name.trim()))
    .filter((name) => name !== '')
}
