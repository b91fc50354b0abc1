import { readFile, readlink, stat } from 'node:fs/promises'

import { CaissonError } from '../../errors.ts'
import { ifPresent } from '../../files.ts'

/** A line of /proc/pid/mountinfo, proc_pid_mountinfo(5). */
interface MountLine {
  readonly id: string
  readonly device: string
  readonly root: string
  readonly point: string
  readonly type: string
}

/** File systems that criu makes anew. */
const ownTypes = new Set(['proc', 'sysfs', 'tmpfs', 'devpts', 'mqueue'])
const standardStreams = [0, 1, 2] as const

/** What is written beside criu's images: what in the processes is not theirs. */
export interface Outside {
  /** Mount points of what is not of the container's own making, by their paths in it. */
  mounts: string[]
  /** Standard input, output and error as criu names them, `pipe:[…]` or `file[…]`; '' of one that is the container's own. */
  descriptors: string[]
  /** A network namespace to be joined again; '' for the host's. */
  network: string
}

/** @param binds paths in the container at which something is bound that its configuration names */
export async function outsideOf(pid: number, binds: readonly string[], hostNetwork: boolean): Promise<Outside> {
  const lines = mountLines(await readFile(`/proc/${pid}/mountinfo`, 'utf8'))
  const own = new Set(lines.map(({ id }) => id))
  const descriptors = await Promise.all(standardStreams.map((number) => descriptorName(pid, number, own)))
  return {
    mounts: outsideMounts(lines, binds),
    descriptors,
    network: hostNetwork ? '' : `net[${(await stat(`/proc/${pid}/ns/net`)).ino}]`,
  }
}

/** Exported for its test. */
export function outsideMounts(lines: readonly MountLine[], binds: readonly string[]): string[] {
  const isBound = ({ point }: MountLine): boolean =>
    binds.some((path) => point === path || point.startsWith(path === '/' ? '/' : `${path}/`))
  const made = new Set(
    lines.filter((each) => ownTypes.has(each.type) && each.root === '/' && !isBound(each)).map(({ device }) => device),
  )
  return lines
    .filter((each) => each.point !== '/' && (isBound(each) || !ownTypes.has(each.type) || !made.has(each.device)))
    .map(({ point }) => point)
}

export function mountLines(text: string): MountLine[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [left = '', right = ''] = line.split(' - ')
      const [id = '', , device = '', root = '', point = ''] = left.split(' ')
      return { id, device, root: unescaped(root), point: unescaped(point), type: right.split(' ')[0] ?? '' }
    })
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(parseInt(digits, 8)))
}

/** A pipe of the monitor's, or a file that is on no mount of the container's. */
async function descriptorName(pid: number, number: number, ownMounts: ReadonlySet<string>): Promise<string> {
  const target = await ifPresent(readlink(`/proc/${pid}/fd/${number}`))
  if (target === null) return ''
  if (target.startsWith('pipe:[')) return target
  const info = await readFile(`/proc/${pid}/fdinfo/${number}`, 'utf8')
  const mount = /^mnt_id:\s*(\d+)$/m.exec(info)?.[1]
  if (mount === undefined) throw new CaissonError('ERR_INTERNAL', `/proc/${pid}/fdinfo/${number} names no mount`)
  if (ownMounts.has(mount)) return ''
  const { ino, mode } = await stat(`/proc/${pid}/fd/${number}`)
  if ((mode & 0o170000) === 0o140000) return '' // a socket: --ext-unix-sk
  return `file[${Number(mount).toString(16)}:${ino.toString(16)}]`
}
