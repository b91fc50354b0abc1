import { execFile } from 'node:child_process'
import { rmdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { CaissonError } from '../../errors.ts'
import { isPresent } from '../../files.ts'
import type { ChainLink } from '../chain.ts'
import { withLayerTrees } from '../layer-trees.ts'
import type { LayerStore } from '../layers.ts'
import type { LayerDescriptor } from '../manifest.ts'
import { mountedDevice } from '../mounted.ts'
import type { ImagePaths } from '../paths.ts'
import { SingleFlight } from '../single-flight.ts'
import type { Workspace } from '../workspace.ts'
import { CommittingSnapshotter, withChanges } from './commit.ts'
import type { SnapshotNative } from './directory.ts'
import type {
  Changes,
  LayerDirectory,
  LayerOptions,
  DeviceRoot,
  PrepareOptions,
  SnapshotKey,
  Snapshotter,
  SnapshotUsage,
} from './snapshotter.ts'
import type { ThinPool, ThinRecord } from './thin-pool.ts'
import { cloneTree, diffTree } from './trees.ts'

export interface DevmapperParts {
  native: SnapshotNative
  paths: ImagePaths
  layers: LayerStore
  workspace: Workspace
  pool: ThinPool
}

const base = 'base'
const layerName = (directory: string): string => `layer-${directory}`
const snapshotName = (key: SnapshotKey): string => `snapshot-${key.id}`
const viewName = (key: SnapshotKey): string => `view-${key.id}`
const commitName = (key: SnapshotKey): string => `commit-${key.id}`
const readName = (key: SnapshotKey): string => `read-${key.id}`

const mkfsOptions = ['-q', '-F', '-m', '0', '-E', 'nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0']

/**
 * Thin devices, each with an ext4 file system: a layer's is a snapshot of its parent's with the layer applied, from the unpacked one
 * in `layers/fs`, and never written to again; a container's is a snapshot of the topmost. Records are in `layers/devmapper`.
 */
export class DevmapperSnapshotter extends CommittingSnapshotter implements Snapshotter {
  readonly name = 'devmapper'
  readonly #parts: DevmapperParts
  readonly #pool: ThinPool
  readonly #making = new SingleFlight<string, ThinRecord>()
  readonly #closing = new AbortController()

  constructor(parts: DevmapperParts) {
    super(parts)
    this.#parts = parts
    this.#pool = parts.pool
  }

  async unpack(
    link: ChainLink,
    blob: LayerDescriptor,
    signal: AbortSignal,
    options: LayerOptions = {},
  ): Promise<boolean> {
    return this.#parts.layers.unpack(link, blob, signal, options)
  }

  async prepare(key: SnapshotKey, layers: readonly ChainLink[], options: PrepareOptions = {}): Promise<DeviceRoot> {
    const { baseSize } = this.#pool.settings
    if (options.size !== undefined && options.size !== 0 && options.size < baseSize) {
      throw new CaissonError(
        'ERR_FAILED_PRECONDITION',
        `a root file system of ${options.size} bytes was asked for; devmapper.base_size makes all of ${baseSize}`,
      )
    }
    return this.#snapshot(key, layers, snapshotName(key), options.signal)
  }

  async view(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    options: { signal?: AbortSignal } = {},
  ): Promise<DeviceRoot> {
    return this.#snapshot(key, layers, viewName(key), options.signal)
  }

  async #snapshot(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    name: string,
    signal: AbortSignal | undefined,
  ): Promise<DeviceRoot> {
    try {
      const top = await this.#top(layers, signal)
      const made = await this.#pool.make(name, top, { owner: key.directory, used: top.used })
      return await this.#root(await this.#pool.ready(made))
    } catch (error) {
      await this.remove(key)
      throw error
    }
  }

  async mount(key: SnapshotKey): Promise<DeviceRoot> {
    return this.#root(await this.#find(key))
  }

  async #find(key: SnapshotKey): Promise<ThinRecord> {
    const record = (await this.#pool.find(snapshotName(key))) ?? (await this.#pool.find(viewName(key)))
    if (record === null) throw new CaissonError('ERR_NOT_FOUND', `container ${key.id} has no thin device`)
    return record
  }

  async #root(record: ThinRecord): Promise<DeviceRoot> {
    const readonly = record.name.startsWith('view-')
    const { path, major, minor } = await this.#pool.activate(record, readonly)
    return { kind: 'device', path, major, minor, type: 'ext4', readonly }
  }

  /** The device of the topmost layer; those below it are made on the way. */
  async #top(layers: readonly ChainLink[], signal: AbortSignal | undefined): Promise<ThinRecord> {
    let top = await this.#once(base, signal, () => this.#makeBase())
    for (const layer of this.#parts.layers.visible(layers)) {
      const origin = top
      top = await this.#once(layerName(layer.directory), signal, (shared) => this.#makeLayer(layer, origin, shared))
    }
    return top
  }

  /** Makes a device unless it is there; in this process once, and never while another one is at it. */
  async #once(
    name: string,
    signal: AbortSignal = this.#closing.signal,
    make: (signal: AbortSignal) => Promise<ThinRecord>,
  ): Promise<ThinRecord> {
    const found = await this.#pool.find(name)
    if (found?.state === 'ready') return found
    return this.#making.run(name, signal, (shared) =>
      this.#pool.exclusively(name, shared, async () => {
        const other = await this.#pool.find(name)
        if (other?.state === 'ready') return other
        if (other !== null) await this.#pool.remove(name) // of a process that is gone: it would hold the lock
        return make(shared)
      }),
    )
  }

  async #makeBase(): Promise<ThinRecord> {
    return this.#made(await this.#pool.make(base, null), async (device) => {
      try {
        await promisify(execFile)('mkfs.ext4', [...mkfsOptions, device.path])
      } catch (error) {
        const { stderr = '' } = error as { stderr?: string }
        throw new CaissonError('ERR_HOST_UNSUPPORTED', `mkfs.ext4: ${stderr.trim() || (error as Error).message}`, {
          cause: error,
        })
      }
      return mountedDevice(this.#parts.native, device, { readonly: false }, async (path) => {
        await rmdir(join(path, 'lost+found'))
        return used(path)
      })
    })
  }

  async #makeLayer(layer: ChainLink, origin: ThinRecord, signal: AbortSignal): Promise<ThinRecord> {
    const { native } = this.#parts
    return this.#made(await this.#pool.make(layerName(layer.directory), origin), (device) =>
      mountedDevice(native, device, { readonly: false }, async (path) => {
        await withLayerTrees(this.#parts, [layer], ([from = '']) => cloneTree(native, from, path, 'apply', signal))
        return used(path)
      }),
    )
  }

  /** Fills a new device, which nobody has active afterwards. */
  async #made(
    record: ThinRecord,
    fill: (device: { path: string; major: number; minor: number }) => Promise<SnapshotUsage>,
  ): Promise<ThinRecord> {
    try {
      const usage = await fill(await this.#pool.activate(record, false))
      await this.#pool.deactivate(record.name)
      return await this.#pool.ready(record, usage)
    } catch (error) {
      await this.#pool.remove(record.name)
      throw error
    }
  }

  async changes<T>(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    work: (changes: Changes) => Promise<T>,
    options: { signal?: AbortSignal } = {},
  ): Promise<T> {
    const { native } = this.#parts
    const record = await this.#find(key)
    const lower = await this.#top(layers, options.signal)
    return withChanges(
      this.#parts,
      async (draft) => {
        // both as snapshots of this moment: a device is mounted by one file system at a time
        const below = await this.#pool.make(`${commitName(key)}-lower`, lower)
        try {
          const above = await this.#pool.make(commitName(key), record)
          try {
            await mountedDevice(native, await this.#pool.activate(below, false), { readonly: false }, (from) =>
              this.#diff(above, from, draft, record.since, options.signal),
            )
          } finally {
            await this.#pool.remove(above.name)
          }
        } finally {
          await this.#pool.remove(below.name)
        }
      },
      work,
    )
  }

  async #diff(above: ThinRecord, lower: string, to: string, since: number, signal?: AbortSignal): Promise<void> {
    const { native } = this.#parts
    // written to by the replay of its journal
    await mountedDevice(native, await this.#pool.activate(above, false), { readonly: false }, (upper) =>
      diffTree(native, { lowers: [lower], upper, to, since }, signal),
    )
  }

  async read<T>(
    key: SnapshotKey,
    _layers: readonly LayerDirectory[],
    work: (directories: readonly string[]) => Promise<T>,
  ): Promise<T> {
    // a snapshot of this moment: a device is mounted by one file system at a time
    const moment = await this.#pool.make(readName(key), await this.#find(key))
    try {
      const device = await this.#pool.activate(moment, false)
      return await mountedDevice(this.#parts.native, device, { readonly: false }, (path) => work([path]))
    } finally {
      await this.#pool.remove(moment.name)
    }
  }

  /** By its file system: what is used, less what its layers use. */
  async usage(key: SnapshotKey): Promise<SnapshotUsage> {
    const record = await this.#find(key)
    const readonly = record.name.startsWith('view-')
    const device = await this.#pool.activate(record, readonly)
    return mountedDevice(this.#parts.native, device, { readonly }, async (path) => {
      const now = await used(path)
      return {
        bytes: Math.max(0, now.bytes - record.used.bytes),
        inodes: Math.max(0, now.inodes - record.used.inodes),
      }
    })
  }

  async remove(key: SnapshotKey): Promise<void> {
    for (const name of [readName(key), commitName(key), `${commitName(key)}-lower`, snapshotName(key), viewName(key)]) {
      await this.#pool.remove(name)
    }
  }

  async reconcile(living: ReadonlySet<string>): Promise<void> {
    for (const record of await this.#pool.records()) {
      const id = /^(?:snapshot|view)-(.+)$/.exec(record.name)?.[1]
      if (id === undefined || record.owner === null || living.has(id)) continue
      // another instance's containers are not known here, but their directories are there
      if (!(await isPresent(record.owner))) await this.#pool.remove(record.name)
    }
  }

  async collect(present: ReadonlySet<string>): Promise<void> {
    for (const { name, state } of await this.#pool.records()) {
      const directory = /^layer-(.+)$/.exec(name)?.[1]
      if (directory !== undefined && state === 'ready' && !present.has(directory)) await this.#pool.remove(name)
    }
  }

  /** Devices stay: containers that go on have them mounted. */
  async close(): Promise<void> {
    this.#closing.abort(new CaissonError('ERR_SERVICE_STOPPING', 'the image service is closing'))
    await this.#making.idle()
  }
}

async function used(path: string): Promise<SnapshotUsage> {
  const { blocks, bfree, bsize, files, ffree } = await statfs(path)
  return { bytes: (blocks - bfree) * bsize, inodes: files - ffree }
}
