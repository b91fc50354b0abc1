import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { connect } from '../dist/cri/grpc/connect.js'
import { idle, msSince, nanoseconds, processorMs } from './statistics.mjs'

const patienceMs = 20_000

/** containerd on directories of its own, in the mount namespace of a disk, driven through the same CRI calls as our service. */
export class Containerd {
  #child
  #connection
  #blobs

  /** @param directory short: a socket's path has 107 bytes; its `root` is the disk's */
  static async start(directory, disk) {
    const self = new Containerd()
    const socket = join(directory, 'c.sock')
    const root = join(directory, 'root')
    self.#blobs = disk.path(join(root, 'io.containerd.content.v1.content', 'blobs', 'sha256'))
    await mkdir(self.#blobs, { recursive: true })
    const unused = ['btrfs', 'devmapper', 'zfs', 'aufs'].map((name) => `io.containerd.snapshotter.v1.${name}`)
    const lines = [
      'version = 2',
      `root = "${root}"`,
      `state = "${join(directory, 'state')}"`,
      `disabled_plugins = ${JSON.stringify([...unused, 'io.containerd.internal.v1.opt'])}`,
      `[grpc]\naddress = "${socket}"`,
    ]
    const file = join(directory, 'config.toml')
    await writeFile(file, lines.join('\n'))
    const command = [...disk.enter, 'containerd', '-c', file]
    self.#child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'ignore', 'ignore'] })
    self.#connection = connect(socket)
    try {
      await self.#connection.ready(patienceMs)
      await self.#connection.image.listImages({})
    } catch (error) {
      await self.stop()
      throw error
    }
    return self
  }

  /** Until the image can be run, and the processor time of the daemon meanwhile. */
  async pull(image) {
    const cpu = processorMs(this.#child.pid)
    const start = nanoseconds()
    await this.#connection.image.pullImage({ image: { image } })
    return { ms: msSince(start), cpuMs: processorMs(this.#child.pid) - cpu }
  }

  /** Until it is gone from the disk: it is collected some time after the call. */
  async remove(image) {
    await this.#connection.image.removeImage({ image: { image } })
    const end = Date.now() + patienceMs
    while ((await readdir(this.#blobs)).length > 0) {
      if (Date.now() > end) throw new Error('containerd does not collect the image')
      await sleep(20)
    }
    await idle(this.#child.pid)
  }

  async stop() {
    this.#connection.close()
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    await exited
  }
}
