import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { copyOfLayer, hold, holdsSysResource, peerWrapper } from './containers.mjs'
import { peerConfig, writeBundle } from './peers.mjs'
import { figure } from './statistics.mjs'

const execute = promisify(execFile)

/**
 * What each pod costs as long as it lives: private memory of the process that stays with it. For Caisson that is one monitor a
 * pod; for conmon one a container, and CRI-O has one more for the pod itself.
 */
export async function measureMemory({
  service,
  cgroupRoot,
  directory,
  programs,
  image,
  pods,
  conmon,
  progress,
  notes,
}) {
  const held = []
  const ours = []
  try {
    for (let index = 0; index < pods; index++)
      held.push(await hold(service, image, `memory-${index}`, join(directory, 'logs')))
    for (const { podSandboxId } of held) {
      const { info } = await service.runtime.podSandboxStatus({ podSandboxId, verbose: true })
      ours.push(await privateMemory(JSON.parse(info.info).monitorPid))
    }
  } finally {
    for (const { podSandboxId } of held) await service.runtime.removePodSandbox({ podSandboxId })
  }
  progress(`memory of ${pods} pods`)
  const failed = {}
  let theirs = null
  if (conmon !== null) {
    try {
      theirs = await conmonMemory({ service, cgroupRoot, directory, programs, image, conmon, notes })
    } catch (error) {
      failed.conmon = `${error.message} ${error.stdout ?? ''}`.trim()
    }
  }
  const memory = figure({
    name: 'monitor memory',
    unit: 'KiB',
    what: 'Private_Clean and Private_Dirty of the process that stays with a pod of one running container',
    ours,
    peers: { conmon: theirs },
  })
  return Object.keys(failed).length > 0 ? { ...memory, failed } : memory
}

/** KiB that would be free if the process ended: proc_pid_smaps(5). */
async function privateMemory(pid) {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8')
  return [...text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB$/gm)].reduce((sum, [, size]) => sum + Number(size), 0)
}

/** One conmon with crun, as CRI-O and podman start it; log file as ours. */
async function conmonMemory({ service, cgroupRoot, directory, programs, image, conmon, notes }) {
  const id = 'caisson-bench-conmon'
  const files = join(directory, 'files')
  await mkdir(files, { recursive: true })
  for (const name of ['hostname', 'hosts', 'resolv.conf']) await writeFile(join(files, name), 'bench\n')
  const spec = await peerConfig({ image, args: ['sleep', '1000000'], files })
  const rootfs = await copyOfLayer(service, join(directory, 'rootfs-conmon'))
  const bundle = await writeBundle(join(directory, 'conmon'), spec, { rootfs, cgroup: `${service.slice}/peers/conmon` })
  const state = join(directory, 'crun')
  const preload = (await holdsSysResource()) ? null : programs.memlock
  const [unshare, ...wrapper] = peerWrapper({ hybrid: cgroupRoot !== '/sys/fs/cgroup', cgroupRoot, preload })
  const crun = ['--runtime-arg', `--root=${state}`, '--runtime-arg', '--cgroup-manager=cgroupfs']
  const exits = [
    '--exit-dir',
    bundle,
    '--persist-dir',
    bundle,
    '--bundle',
    bundle,
    '--conmon-pidfile',
    join(bundle, 'conmon.pid'),
  ]
  const args = [
    '--api-version',
    '1',
    '--cid',
    id,
    '--cuuid',
    id,
    '--name',
    id,
    '--runtime',
    '/usr/bin/crun',
    ...crun,
    ...exits,
  ]
  const log = [
    '--container-pidfile',
    join(bundle, 'pid'),
    '--log-path',
    `k8s-file:${join(bundle, 'log')}`,
    '--socket-dir-path',
    join(directory, 'logs'),
  ]
  await execute(unshare, [...wrapper, conmon, ...args, ...log])
  const pid = Number(await readFile(join(bundle, 'conmon.pid'), 'utf8'))
  try {
    for (let tries = 0; !(await readdir(bundle)).includes('pid'); tries++) {
      if (tries > 200) throw new Error(`conmon started no container: see ${bundle}`)
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
    await execute(unshare, [...wrapper, 'crun', '--root', state, '--cgroup-manager=cgroupfs', 'start', id])
    notes.push('conmon: one process, with crun; a pod of CRI-O has one more for its pause container')
    return [await privateMemory(pid)]
  } finally {
    const remove = ['crun', '--root', state, '--cgroup-manager=cgroupfs', 'delete', '--force', id]
    await execute(unshare, [...wrapper, ...remove])
  }
}
