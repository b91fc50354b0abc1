import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CaissonError } from '../errors.ts'
import { ifPresent } from '../files.ts'
import { writeAtomically } from './atomic-file.ts'
import { isDigest, type Digest } from './digest.ts'
import type { ImagePaths } from './paths.ts'
import { isAlive, type ProcessIdentity } from '../process-identity.ts'
import type { Workspace } from './workspace.ts'

/** Keeps content that no image's name keeps: of a container for its life, of a pull for its duration. */
export interface Lease {
  readonly v: 1
  readonly kind: 'container' | 'pull'
  /** Instance of the service or library; the store is shared by several. */
  readonly instance: string
  readonly owner: string
  /** Of a pull: it ends with its process, or is interrupted with it. A container's outlives it. */
  readonly process: ProcessIdentity | null
  /** Of a pull that the next one of the same name is to go on with, should it be interrupted. */
  readonly resume?: { readonly name: string; readonly since: number }
  /** Names of layer directories. */
  readonly layers: readonly string[]
  readonly blobs: readonly Digest[]
}

/** A lease that holds. */
export interface HeldLease extends Lease {
  /** Its pull has ended without an end: what it brought waits for the next one. */
  readonly interrupted: boolean
}

/** How long what an interrupted pull has brought is kept, ms: a kubelet's next try comes within minutes, a node's after a night. */
const resumeWindowMs = 24 * 3600_000
/** Leases of pulls that this process has interrupted, and outlives. */
const endedHere = new Set<string>()

/**
 * Leases are files, so that every process that shares the store sees them, and a container's lease is there before any service
 * has adopted it. All writing and collecting happens under the store's lock.
 */
export class Leases {
  readonly #paths: ImagePaths
  readonly #self: ProcessIdentity
  readonly #workspace: Workspace
  readonly #instance: string
  /** Owners of containers that this process has claimed since it started. */
  readonly #claimed = new Set<string>()

  constructor(paths: ImagePaths, workspace: Workspace, self: ProcessIdentity, instance: string) {
    this.#paths = paths
    this.#self = self
    this.#workspace = workspace
    this.#instance = instance
  }

  /** The lease that a container has; asking claims it for this process. */
  async claim(owner: string): Promise<Lease | null> {
    this.#claimed.add(owner)
    return read(this.#file('container', owner))
  }

  async acquire(
    kind: Lease['kind'],
    owner: string,
    content: { layers: readonly string[]; blobs?: readonly Digest[]; resumeName?: string },
  ): Promise<void> {
    const lease: Lease = {
      v: 1,
      kind,
      instance: this.#instance,
      owner,
      process: kind === 'pull' ? this.#self : null,
      layers: content.layers,
      blobs: content.blobs ?? [],
      ...(content.resumeName !== undefined && { resume: { name: content.resumeName, since: Date.now() } }),
    }
    if (kind === 'container') this.#claimed.add(owner)
    await writeAtomically(this.#file(kind, owner), `${JSON.stringify(lease)}\n`, this.#workspace.path())
  }

  async release(kind: Lease['kind'], owner: string): Promise<void> {
    this.#claimed.delete(owner)
    await rm(this.#file(kind, owner), { force: true })
  }

  /** A pull that ends without an end: its lease stays, for the next one. */
  interrupt(owner: string): void {
    endedHere.add(this.#file('pull', owner))
  }

  /** Takes away the leases of interrupted pulls, of all or of one name. @returns whether there were any */
  async dropInterrupted(name?: string): Promise<boolean> {
    const dropped = (await this.list()).filter(
      ({ interrupted, resume }) => interrupted && (name === undefined || resume?.name === name),
    )
    for (const lease of dropped) await rm(this.#file('pull', lease.owner, lease.instance), { force: true })
    return dropped.length > 0
  }

  /** All leases that hold; those of pulls whose process is gone, and that nobody can go on with, are removed. */
  async list(): Promise<HeldLease[]> {
    const leases: HeldLease[] = []
    for (const name of await readdir(this.#paths.leases)) {
      const file = join(this.#paths.leases, name)
      const lease = await read(file)
      if (lease === null) continue
      const interrupted = lease.process !== null && (endedHere.has(file) || !(await isAlive(lease.process)))
      const expired = Math.abs(Date.now() - (lease.resume?.since ?? 0)) > resumeWindowMs
      if (interrupted && expired) await rm(file, { force: true })
      else leases.push({ ...lease, interrupted })
    }
    return leases
  }

  /** After adoption: containers of this instance that nobody claimed are gone, and so is their need. */
  async dropUnclaimed(): Promise<void> {
    for (const lease of await this.list()) {
      if (lease.kind !== 'container' || lease.instance !== this.#instance || this.#claimed.has(lease.owner)) continue
      await rm(this.#file('container', lease.owner), { force: true })
    }
  }

  #file(kind: Lease['kind'], owner: string, instance = this.#instance): string {
    // owners are ids of ours, but nothing that is not hashed should become a path
    const name = createHash('sha256').update(`${instance}\0${owner}`).digest('hex')
    return join(this.#paths.leases, `${kind}-${name}.json`)
  }
}

/** A lease that cannot be read might hold anything: it stops the collection instead of being passed over. */
async function read(file: string): Promise<Lease | null> {
  const text = await ifPresent(readFile(file, 'utf8'))
  if (text === null) return null
  let lease: Partial<Record<keyof Lease, unknown>>
  try {
    lease = JSON.parse(text) as typeof lease
  } catch (cause) {
    throw new CaissonError('ERR_RECORD_INVALID', `image lease ${file} is damaged`, { cause })
  }
  const strings = (value: unknown): value is string[] =>
    Array.isArray(value) && value.every((item) => typeof item === 'string')
  const valid =
    lease.v === 1 &&
    typeof lease.owner === 'string' &&
    strings(lease.layers) &&
    strings(lease.blobs) &&
    lease.blobs.every(isDigest)
  if (!valid) throw new CaissonError('ERR_RECORD_INVALID', `image lease ${file} is damaged, or of a newer version`)
  return lease as Lease
}
