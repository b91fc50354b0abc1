import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import type { MapperDevice, Native } from '../../native/types.ts'
import { readRecord, writeRecord } from '../../records.ts'
import { StoreLock, withLockFile } from '../lock.ts'
import { isAlive, type ProcessIdentity } from '../../process-identity.ts'

export type PoolNative = Pick<
  Native,
  'mapperCreate' | 'mapperStatus' | 'mapperRemove' | 'mapperMessage' | 'mapperSuspend' | 'blockSize' | 'lockFile'
>

export interface DevmapperSettings {
  /** Name of the pool at device mapper; devices of it are `<pool>-…`. */
  pool: string
  /** Block devices of the pool, used when it is not active yet; new ones begin with zeros. */
  dataDevice: string
  metadataDevice: string
  /** Bytes of every root file system. */
  baseSize: number
}

/** A thin device, as a file tells of it: what a pool itself does not know. */
export interface ThinRecord {
  /** Of the file, and of the device at device mapper, after the pool's. */
  readonly name: string
  /** By which the pool knows it: 24 bits. */
  readonly thinId: number
  /** `making`: of the process `maker`, and void without it. */
  readonly state: 'making' | 'ready'
  readonly maker: ProcessIdentity
  /** What it began with. */
  readonly origin: string | null
  /** Directory of the owner, of a snapshot. */
  readonly owner: string | null
  /** What of its file system is used, of a layer; what its layer uses, of a snapshot. */
  readonly used: { bytes: number; inodes: number }
  /** ms since 1970, when its content began to differ from its origin's. */
  readonly since: number
}

/** Sectors of 512 bytes in a block of the pool: 64 KiB, what containerd and Docker have. */
const blockSectors = 128
/** Blocks of data left at which the kernel tells of it. */
const lowWaterBlocks = 32768
const sector = 512
const thinIdMax = 2 ** 24 - 1
const busyTries = 50
const busyWaitMs = 100

/**
 * A pool of thin devices (Documentation/admin-guide/device-mapper/thin-provisioning.rst). Every change goes record, message,
 * record: a device is written down as being made before the pool hears of it, and as ready when it is. So a crash leaves a record
 * of what is to be taken away, never a device that nobody knows. Ids that the pool has and no record does are left alone.
 */
export class ThinPool {
  readonly settings: DevmapperSettings
  readonly #native: PoolNative
  readonly #records: string
  readonly #self: ProcessIdentity
  readonly #lock: StoreLock

  constructor(
    native: PoolNative,
    directory: string,
    lockFile: string,
    self: ProcessIdentity,
    settings: DevmapperSettings,
  ) {
    this.#native = native
    this.#records = directory
    this.#self = self
    this.settings = settings
    this.#lock = new StoreLock(native, lockFile)
  }

  /** Makes the pool active, and takes away what processes that are gone had not finished. */
  async open(): Promise<void> {
    await mkdir(this.#records, { recursive: true, mode: 0o700 })
    await this.#lock.hold(async () => {
      if ((await this.#native.mapperStatus(this.settings.pool)) === null) await this.#activatePool()
      for (const record of await this.records()) {
        if (record.state === 'making' && !(await isAlive(record.maker))) await this.#discard(record)
      }
    })
  }

  async #activatePool(): Promise<void> {
    const { pool, dataDevice, metadataDevice } = this.settings
    const data = await this.#native.blockSize(dataDevice)
    const metadata = await this.#native.blockSize(metadataDevice)
    const device = ({ major, minor }: { major: number; minor: number }): string => `${major}:${minor}`
    const params = `${device(metadata)} ${device(data)} ${blockSectors} ${lowWaterBlocks} 1 skip_block_zeroing`
    const blocks = Math.floor(data.bytes / sector / blockSectors)
    await this.#native.mapperCreate(pool, blocks * blockSectors, 'thin-pool', params, false)
  }

  async records(): Promise<ThinRecord[]> {
    const found: ThinRecord[] = []
    for (const file of await readdir(this.#records)) {
      if (!file.endsWith('.json')) continue
      const record = await this.find(file.slice(0, -'.json'.length))
      if (record !== null) found.push(record)
    }
    return found
  }

  async find(name: string): Promise<ThinRecord | null> {
    return (await readRecord(this.#file(name))) as ThinRecord | null
  }

  /**
   * Makes a device, empty or with what `origin` has at this moment; it is being made until `ready`.
   *
   * @param origin frozen meanwhile where it is active
   */
  async make(
    name: string,
    origin: ThinRecord | null,
    more: { owner?: string; used?: ThinRecord['used'] } = {},
  ): Promise<ThinRecord> {
    return this.#lock.hold(async () => {
      const taken = new Set((await this.records()).map(({ thinId }) => thinId))
      let thinId = 1
      for (;;) {
        while (taken.has(thinId)) thinId++
        if (thinId > thinIdMax) throw new CaissonError('ERR_LIMIT_EXCEEDED', 'the thin pool has no id left')
        const record: ThinRecord = {
          name,
          thinId,
          state: 'making',
          maker: this.#self,
          origin: origin?.name ?? null,
          owner: more.owner ?? null,
          used: more.used ?? { bytes: 0, inodes: 0 },
          since: Date.now(),
        }
        await this.#write(record)
        try {
          await this.#message(thinId, origin)
          return record
        } catch (error) {
          await rm(this.#file(name), { force: true })
          // the pool has a device of this id that no record tells of: not ours to touch
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
          taken.add(thinId)
        }
      }
    })
  }

  async #message(thinId: number, origin: ThinRecord | null): Promise<void> {
    const { pool } = this.settings
    if (origin === null) return this.#native.mapperMessage(pool, `create_thin ${thinId}`)
    const device = this.#device(origin.name)
    const active = (await this.#native.mapperStatus(device)) !== null
    if (active) await this.#native.mapperSuspend(device, true)
    try {
      await this.#native.mapperMessage(pool, `create_snap ${thinId} ${origin.thinId}`)
    } finally {
      if (active) await this.#native.mapperSuspend(device, false)
    }
  }

  /** Runs `work` while no other process makes the device of this name. */
  exclusively<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return withLockFile(this.#native, join(this.#records, `${name}.lock`), signal, work)
  }

  async ready(record: ThinRecord, used: ThinRecord['used'] = record.used): Promise<ThinRecord> {
    const ready: ThinRecord = { ...record, state: 'ready', used, since: Date.now() }
    await this.#write(ready)
    return ready
  }

  /** The device at device mapper, made where it is not there. */
  async activate(record: ThinRecord, readonly: boolean): Promise<MapperDevice & { path: string }> {
    const name = this.#device(record.name)
    const device = (await this.#native.mapperStatus(name)) ?? (await this.#make(name, record, readonly))
    return { ...device, path: `/dev/dm-${device.minor}` }
  }

  async #make(name: string, record: ThinRecord, readonly: boolean): Promise<MapperDevice> {
    const pool = await this.#native.mapperStatus(this.settings.pool)
    if (pool === null) throw new CaissonError('ERR_UNAVAILABLE', `the thin pool ${this.settings.pool} is not active`)
    const sectors = Math.floor(this.settings.baseSize / sector)
    return this.#native.mapperCreate(name, sectors, 'thin', `${pool.major}:${pool.minor} ${record.thinId}`, readonly)
  }

  /** Takes a device away from device mapper; the pool keeps what it holds. A mount that is ending keeps it busy for a moment. */
  async deactivate(name: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#native.mapperRemove(this.#device(name))
        return
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || tries === busyTries) throw error
        await new Promise((resolve) => setTimeout(resolve, busyWaitMs))
      }
    }
  }

  /** Takes a device away with all that it holds; absent is fine. */
  async remove(name: string): Promise<void> {
    const record = await this.find(name)
    if (record === null) return
    await this.deactivate(name)
    await this.#lock.hold(() => this.#discard(record))
  }

  async #discard(record: ThinRecord): Promise<void> {
    await this.deactivate(record.name)
    try {
      await this.#native.mapperMessage(this.settings.pool, `delete ${record.thinId}`)
    } catch (error) {
      // written down, but the pool had not heard of it yet; or it has deleted it already
      if ((error as NodeJS.ErrnoException).code !== 'ENODATA') throw error
    }
    await rm(this.#file(record.name), { force: true })
  }

  async #write(record: ThinRecord): Promise<void> {
    await writeRecord(this.#file(record.name), { ...record })
  }

  #device(name: string): string {
    return `${this.settings.pool}-${name}`
  }

  #file(name: string): string {
    return join(this.#records, `${name}.json`)
  }
}
