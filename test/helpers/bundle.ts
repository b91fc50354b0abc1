/** A bundle as an engine writes it: busybox as the root file system, and a configuration that a test adds to. */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './tools.ts'

const mount = (destination: string, type: string, ...options: string[]): object => ({
  destination,
  type,
  source: type,
  options,
})

/** What every container here has, as runc's `spec` writes it, with its own namespaces and no capabilities beyond a few. */
export function configuration(process: object, more: object = {}): object {
  const capabilities = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_KILL', 'CAP_SETGID', 'CAP_SETUID', 'CAP_SYS_CHROOT']
  return {
    ociVersion: '1.0.2',
    root: { path: 'rootfs' },
    hostname: 'bundle',
    process: {
      user: { uid: 0, gid: 0 },
      env: ['PATH=/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      ...process,
    },
    mounts: [
      mount('/proc', 'proc', 'nosuid', 'noexec', 'nodev'),
      mount('/dev', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
      mount('/dev/pts', 'devpts', 'nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'),
    ],
    linux: { namespaces: ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'].map((type) => ({ type })), ...more },
  }
}

/** Writes it. @returns the bundle's directory */
export async function writeBundle(directory: string, config: object): Promise<string> {
  const root = join(directory, 'rootfs')
  await rm(directory, { recursive: true, force: true })
  for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp']) await mkdir(join(root, name), { recursive: true })
  await run('busybox', 'cp', '/bin/busybox', join(root, 'bin/busybox'))
  await run('chroot', root, '/bin/busybox', '--install', '/bin')
  await writeFile(join(directory, 'config.json'), JSON.stringify(config))
  return directory
}
