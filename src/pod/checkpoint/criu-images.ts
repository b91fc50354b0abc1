import { readdir, lstat, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import protobuf from 'protobufjs/minimal.js'

import { CaissonError } from '../../errors.ts'

const { Reader, Writer } = protobuf

/** criu's magic.h: an image begins with two of them, and then has entries, each with its length before it. */
const commonMagic = 0x54564319
const magics = { core: 0x55053847, mountpoints: 0x55563928, seccomp: 0x64413049, utsns: 0x54473203 } as const
const imageMax = 64 << 20

/** enum fstype of criu's mnt.proto: those that a container of ours has of its own. */
const madeTypes = new Map([
  [1, 'proc'],
  [2, 'sysfs'],
  [5, 'tmpfs'],
  [6, 'devpts'],
  [14, 'mqueue'],
])
const seccompFilter = 2

/** What the configuration of a container allows its processes. */
export interface Allowed {
  /** Mount points of what comes from outside. */
  mounts: readonly string[]
  /** Numbers of capabilities. */
  capabilities: ReadonlySet<number>
  /** The filter that every thread has; null: none is asked for. */
  filter: Buffer | null
}

/**
 * Looks at what criu would do by its images, which it believes: mounts of the host's devices, capabilities beyond the bounding set,
 * threads without the filter of system calls (CVE-2024-8676: mounts of a checkpoint were taken as they came).
 *
 * @throws CaissonError ERR_FAILED_PRECONDITION
 */
export async function checkImages(directory: string, what: string, allowed: Allowed): Promise<void> {
  const refuse = (why: string): CaissonError => new CaissonError('ERR_FAILED_PRECONDITION', `${what}: ${why}`)
  const names = await readdir(directory)
  for (const name of names) {
    // a link would let an image be any file of the host's
    const stats = await lstat(join(directory, name))
    if (!stats.isFile()) throw refuse(`image ${name} is no regular file`)
  }
  const read = async (kind: keyof typeof magics, name: string): Promise<Uint8Array[]> => {
    const path = join(directory, name)
    if ((await lstat(path)).size > imageMax) throw refuse(`image ${name} is larger than ${imageMax} bytes`)
    try {
      return entriesOf(await readFile(path), magics[kind])
    } catch (error) {
      throw refuse(`image ${name} is damaged: ${(error as Error).message}`)
    }
  }
  const named = (pattern: RegExp): string[] => names.filter((name) => pattern.test(name))

  for (const name of named(/^mountpoints-\d+\.img$/)) {
    for (const entry of await read('mountpoints', name)) checkMount(mountOf(entry), allowed.mounts, refuse)
  }
  const filters = allowed.filter === null ? [] : (await read('seccomp', 'seccomp.img')).flatMap(filtersOf)
  const cores = named(/^core-\d+\.img$/)
  if (cores.length === 0) throw refuse('it has no process')
  for (const name of cores) {
    for (const entry of await read('core', name)) {
      const thread = threadOf(entry)
      const extra = thread.capabilities.find((capability) => !allowed.capabilities.has(capability))
      if (extra !== undefined) throw refuse(`${name}: a process has a capability (${extra}) that the container has not`)
      if (allowed.filter !== null && !isFiltered(thread, filters, allowed.filter)) {
        throw refuse(`${name}: a process is without the container's seccomp profile`)
      }
    }
  }
}

/** criu gives the UTS namespace that it joins the name that it has written down, and that namespace is the new pod's. */
export async function setHostname(directory: string, hostname: string): Promise<void> {
  for (const name of (await readdir(directory)).filter((each) => /^utsns-\d+\.img$/.test(each))) {
    const path = join(directory, name)
    const image = await readFile(path)
    let domain = '(none)'
    for (const entry of entriesOf(image, magics.utsns)) fields(entry, { 2: (reader) => (domain = reader.string()) })
    const nameTag = (1 << 3) | 2
    const domainTag = (2 << 3) | 2
    const entry = Writer.create().uint32(nameTag).string(hostname).uint32(domainTag).string(domain).finish()
    const size = Buffer.alloc(4)
    size.writeUInt32LE(entry.length)
    await writeFile(path, Buffer.concat([image.subarray(0, 8), size, entry]))
  }
}

function entriesOf(image: Buffer, magic: number): Uint8Array[] {
  if (image.readUInt32LE(0) !== commonMagic || image.readUInt32LE(4) !== magic) throw new Error('no such image of criu')
  const entries: Uint8Array[] = []
  for (let at = 8; at < image.length;) {
    const size = image.readUInt32LE(at)
    at += 4
    if (size > image.length - at) throw new Error('an entry is cut off')
    entries.push(image.subarray(at, at + size))
    at += size
  }
  return entries
}

/** Calls `take` for every field that it has a reader for. */
function fields(message: Uint8Array, take: Record<number, (reader: protobuf.Reader) => void>): void {
  const reader = Reader.create(message)
  while (reader.pos < reader.len) {
    const tag = reader.uint32()
    const known = take[tag >>> 3]
    if (known === undefined) reader.skipType(tag & 7)
    else known(reader)
  }
}

interface MountEntry {
  type: number
  point: string
  plugin: boolean
  /** Name of an external mount; '' of one that criu makes. */
  external: string
}

function mountOf(message: Uint8Array): MountEntry {
  const mount: MountEntry = { type: 0, point: '', plugin: false, external: '' }
  fields(message, {
    1: (reader) => (mount.type = reader.uint32()),
    7: (reader) => (mount.point = reader.string()),
    12: (reader) => (mount.plugin ||= reader.bool()),
    18: (reader) => (mount.external = reader.string()),
  })
  return mount
}

function checkMount(mount: MountEntry, outside: readonly string[], refuse: (why: string) => CaissonError): void {
  const { type, point, plugin, external } = mount
  if (point === '/' && external === '' && !plugin) return // the root is what is given to criu as such
  if (plugin || (external !== '' && !outside.includes(external)))
    throw refuse(`the mount at ${point} is not of its record`)
  if (external === '' && !madeTypes.has(type)) {
    const types = [...madeTypes.values()].join(', ')
    throw refuse(`the mount at ${point} is of a type that criu is not to make (${type}; allowed: ${types})`)
  }
}

interface Thread {
  capabilities: number[]
  mode: number
  filter: number
}

function threadOf(message: Uint8Array): Thread {
  const thread: Thread = { capabilities: [], mode: 0, filter: -1 }
  const sets = new Map<number, number[]>()
  const words = (set: number) => (reader: protobuf.Reader) => {
    sets.set(set, [...(sets.get(set) ?? []), reader.uint32()])
  }
  fields(message, {
    5: (core) => {
      fields(core.bytes(), {
        10: (creds) => {
          // inheritable, permitted, effective, bounding
          fields(creds.bytes(), { 9: words(9), 10: words(10), 11: words(11), 12: words(12) })
        },
        11: (reader) => (thread.mode = reader.uint32()),
        12: (reader) => (thread.filter = reader.uint32()),
      })
    },
  })
  for (const set of sets.values()) {
    set.forEach((word, index) => {
      for (let bit = 0; bit < 32; bit++) if (((word >>> bit) & 1) !== 0) thread.capabilities.push(index * 32 + bit)
    })
  }
  return thread
}

interface Filter {
  program: Uint8Array
  /** Of the filter that was there before it; -1: none. */
  previous: number
}

function filtersOf(message: Uint8Array): Filter[] {
  const filters: Filter[] = []
  fields(message, {
    1: (reader) => {
      const filter: Filter = { program: new Uint8Array(), previous: -1 }
      fields(reader.bytes(), {
        1: (inner) => (filter.program = inner.bytes()),
        2: (inner) => (filter.previous = inner.uint32()),
      })
      filters.push(filter)
    },
  })
  return filters
}

function isFiltered({ mode, filter }: Thread, filters: readonly Filter[], wanted: Buffer): boolean {
  if (mode !== seccompFilter) return false
  for (let at = filter, steps = 0; at >= 0 && steps <= filters.length; steps++) {
    const found = filters[at]
    if (found === undefined) return false
    if (wanted.equals(found.program)) return true
    at = found.previous
  }
  return false
}
