import { mkdir, readdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { baseSpec, makeRootfs } from '../build/test/helpers/differential/bundle.js'
import { runtimes } from '../build/test/helpers/differential/world.js'
import { holdsSysResource, peerWrapper } from './containers.mjs'
import { Spawner } from './spawner.mjs'
import { figure } from './statistics.mjs'

/**
 * The figures `oci run` and `oci life`: caisson-oci beside crun and runc, as commands on the same bundle, with a plain
 * directory as the root. The limit is what bare takes for the system calls alone, on an overlay over the same files. Every
 * round measures each candidate once, in turn.
 */
export async function measureOci({ cgroupRoot, directory, programs, rounds, progress, notes }) {
  const limited = !(await holdsSysResource())
  const wrapper = peerWrapper({
    hybrid: cgroupRoot !== '/sys/fs/cgroup',
    cgroupRoot,
    preload: limited ? programs.memlock : null,
  })
  const commands = new Spawner(programs.spawner, wrapper)
  const plain = new Spawner(programs.spawner)
  const candidates = []
  for (const { name, command } of runtimes()) {
    const bundle = join(directory, `oci-${name}`)
    makeRootfs(join(bundle, 'rootfs'), { witness: programs.witness, busybox: programs.busybox })
    const spec = baseSpec(['quiet'], `/csb-oci/${name}`)
    await writeFile(join(bundle, 'config.json'), JSON.stringify(spec))
    const call = (...args) => commands.run([...command, '--root', join(directory, `state-${name}`), ...args])
    candidates.push({ name, bundle, call })
  }
  const scratch = join(directory, 'oci-bare')
  for (const name of ['upper', 'work', 'root']) await mkdir(join(scratch, name), { recursive: true })
  for (const name of ['hostname', 'hosts', 'resolv.conf']) await writeFile(join(scratch, name), '')
  const layer = join(directory, 'oci-layer')
  makeRootfs(layer, { witness: programs.witness, busybox: programs.busybox })
  const slice = join(cgroupRoot, 'csb-oci')
  const bare = [programs.bare, 'run', layer, scratch, join(slice, 'bare'), '/witness', 'quiet']
  await mkdir(slice, { recursive: true })

  const lists = () => ({ 'caisson-oci': [], crun: null, runc: null, limit: [] })
  const run = lists()
  const life = lists()
  const phases = { create: [], start: [], delete: [] }
  for (const { name } of candidates) {
    run[name] = []
    life[name] = []
  }
  try {
    for (let round = -1; round < rounds; round++) {
      // the first is for caches, and is not counted
      const keep = (list, value) => round >= 0 && list.push(value)
      keep(run.limit, await plain.run(bare))
      for (const { name, bundle, call } of candidates) {
        keep(run[name], await call('run', '--bundle', bundle, `run-${name}`))
        const id = `life-${name}`
        const times = {
          create: await call('create', '--bundle', bundle, id),
          start: await call('start', id),
          delete: await call('delete', '--force', id),
        }
        keep(life[name], times.create + times.start + times.delete)
        if (name === 'caisson-oci') for (const [phase, time] of Object.entries(times)) keep(phases[phase], time)
      }
      progress(`oci ${Math.max(round + 1, 0)}/${rounds}`)
    }
  } finally {
    await commands.close()
    await plain.close()
    // runc leaves the parents of its cgroup
    for (const name of await readdir(slice, { withFileTypes: true }))
      if (name.isDirectory()) await rmdir(join(slice, name.name))
    await rmdir(slice)
  }
  if (!candidates.some(({ name }) => name === 'caisson-oci')) {
    notes.push('caisson-oci is not built')
    return []
  }
  const one = (name, what, lists, more) =>
    figure({
      name,
      unit: 'ms',
      what,
      ours: lists['caisson-oci'],
      peers: { crun: lists.crun, runc: lists.runc },
      limit: run.limit,
      ...more,
    })
  return [
    one('oci run', '`run` of a bundle, from the start of the command to its end', run),
    one('oci life', '`create`, `start` and `delete --force`: three commands, their times together', life, { phases }),
  ]
}
