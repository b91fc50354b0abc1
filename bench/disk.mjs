import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * A file system of its own, ext4 with a journal on a loop device, mounted in a mount namespace of its own: what the machine has may
 * be something that no host has, as an ext4 without a journal, where a new inode is looked for beyond all that were given back in
 * the last minutes (fs/ext4/ialloc.c, recently_deleted()).
 */
export class Disk {
  #holder
  #directory

  /** @param mounts directories that are there; a folder of the disk lies over each, to who enters */
  static async open(bytes, mounts) {
    const disk = new Disk()
    disk.#directory = await mkdtemp('/var/tmp/caisson-disk-')
    const image = join(disk.#directory, 'image')
    const file = await open(image, 'w')
    await file.truncate(bytes)
    await file.close()
    execFileSync('mkfs.ext4', ['-q', '-F', image])
    const script = `set -e; disk=$1; shift; mount -o loop "$disk/image" "$disk"
      n=0; for to; do mkdir "$disk/$n"; mount --bind "$disk/$n" "$to"; n=$((n + 1)); done
      echo ready; exec cat`
    const command = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', disk.#directory, ...mounts]
    disk.#holder = spawn('unshare', command, { stdio: ['pipe', 'pipe', 'inherit'] })
    const ready = once(disk.#holder.stdout, 'data')
    const ended = once(disk.#holder, 'exit').then(() => {
      throw new Error('no disk of its own')
    })
    ended.catch(() => undefined) // its end later is close()'s
    await Promise.race([ready, ended])
    return disk
  }

  /** What a command begins with that is to see the disk. */
  get enter() {
    return ['nsenter', `--mount=/proc/${this.#holder.pid}/ns/mnt`, '--']
  }

  /** A path as the disk's users see it, for everybody else. */
  path(inside) {
    return join('/proc', String(this.#holder.pid), 'root', inside)
  }

  /** The last process in the namespace takes the mounts with it. */
  async close() {
    const ended = once(this.#holder, 'exit')
    this.#holder.stdin.end()
    await ended
    await rm(this.#directory, { recursive: true, force: true })
  }
}
