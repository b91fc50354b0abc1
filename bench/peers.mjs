import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { parseLeading } from '../dist/cli/args.js'
import { containerConfig, podConfig, runOptions } from '../dist/cli/commands/run-options.js'
import { containerConfigOf } from '../dist/cri/map/container-config.js'
import { podConfigOf } from '../dist/cri/map/pod-config.js'
import { native } from '../dist/native/index.js'
import { containerSpec } from '../dist/pod/container-spec.js'
import { readHost } from '../dist/pod/host.js'

/** The two requests that `caisson run IMAGE ARG…` makes. */
export function requests(image, args, identity) {
  const { values } = parseLeading([image], runOptions)
  return {
    pod: podConfig(values, { labels: {}, ...identity }),
    container: containerConfig(values, { reference: image, id: image }, args, { name: identity.name, labels: {} }),
  }
}

/**
 * The OCI configuration that our own service makes of the same request, in a form that any runtime takes: what a pod would
 * share is the container's own.
 */
export async function peerConfig({ image, args, files }) {
  const { pod, container } = requests(image, args, { name: 'bench', uid: 'bench', logDirectory: files })
  const podRequest = podConfigOf(pod)
  const spec = containerSpec(
    podRequest,
    containerConfigOf(container, podRequest),
    {
      image: { entrypoint: ['/bin/probe'], cmd: [], env: ['PATH=/bin:/usr/bin'], workingDir: '/', user: '' },
      podFiles: files,
      seccompProfile: null,
      devices: [],
      deviceRules: [],
    },
    await readHost(native),
  )
  spec.ociVersion = '1.0.2' // Debian 12's runc refuses what it does not know
  spec.hostname = 'bench'
  spec.linux.namespaces = spec.linux.namespaces.map(({ type }) => ({ type }))
  spec.mounts = spec.mounts.map((mount) =>
    mount.source === 'caisson:shm'
      ? { ...mount, type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'] }
      : mount,
  )
  return spec
}

/** An OCI bundle on a root file system that is there already. */
export async function writeBundle(directory, spec, { rootfs, cgroup }) {
  await mkdir(directory, { recursive: true })
  const config = { ...spec, root: { ...spec.root, path: rootfs }, linux: { ...spec.linux, cgroupsPath: cgroup } }
  await writeFile(join(directory, 'config.json'), JSON.stringify(config))
  return directory
}

/** The OCI runtimes of this machine, as commands; `state` is where they keep theirs. */
export function peerCommands(name, state) {
  const globals = { crun: ['--cgroup-manager=cgroupfs'], runc: [] }[name] ?? []
  const command = [name, '--root', join(state, name), ...globals]
  return {
    run: (bundle, id) => [...command, 'run', '--bundle', bundle, id],
    hold: (bundle, id) => [...command, 'run', '--detach', '--bundle', bundle, id],
    exec: (id, args) => [...command, 'exec', id, ...args],
    remove: (id) => [...command, 'delete', '--force', id],
  }
}
