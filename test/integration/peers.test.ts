/**
 * crun and runc as oracles: from inside, a container of ours looks as theirs does when the specification is the same. The
 * configuration below is written by hand, as containerd would write it for the same CRI request. Each allowed difference stands
 * here with its reason.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { readlink } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { runtime as cri } from '#src/gen/cri.ts'
import { capabilitySets } from '#src/oci/capabilities.ts'
import { runtimeDefaultSeccomp } from '#src/oci/seccomp-default.ts'
import { usualMounts } from '../helpers/differential/bundle.ts'
import { type ContainerOptions, ProfileType, runPod, runShell } from '../helpers/pods.ts'
import { type MountSeen, parseMounts, parseProbe, peers, probeScript, runBundle, type Seen } from '../helpers/peers.ts'
import { cgroupRoot, needsRoot, startService } from '../helpers/service.ts'
import { missingTools } from '../helpers/tools.ts'

const namespaceNames = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts']
const hostname = 'peer-0'
const { SupplementalGroupsPolicy } = cri.v1

/** What kubelet asks to be masked and read-only in an ordinary container. */
const maskedPaths = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/sys/firmware',
]
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

interface Scenario {
  name: string
  request: ContainerOptions
  /** The same in the terms of the OCI specification: what differs from the scenario before it. */
  peer: {
    user?: object
    capabilities?: readonly string[]
    noNewPrivileges?: boolean
    readonlyRoot?: boolean
    masked?: boolean
    seccomp?: boolean
    cwd?: string
    env?: string[]
  }
}

const defaults = capabilitySets({ add: [], drop: [], ambient: [], privileged: false }, heldCapabilities()).bounding

const scenarios: Scenario[] = [
  { name: 'root, unconfined', request: {}, peer: {} },
  {
    name: 'root, as a kubelet asks for',
    request: { security: { maskedPaths, readonlyPaths, seccomp: { profileType: ProfileType.RuntimeDefault } } },
    peer: { masked: true, seccomp: true },
  },
  {
    name: 'a user with groups, fewer capabilities, no new privileges, a read-only root',
    request: {
      workingDir: '/tmp',
      envs: [{ key: 'HOME', value: Buffer.from('/nowhere') }],
      security: {
        maskedPaths,
        readonlyPaths,
        readonlyRootfs: true,
        noNewPrivs: true,
        runAsUser: { value: 1000 },
        runAsGroup: { value: 2000 },
        supplementalGroups: [3000, 4000],
        supplementalGroupsPolicy: SupplementalGroupsPolicy.Strict,
        capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['NET_BIND_SERVICE', 'KILL'] },
        seccomp: { profileType: ProfileType.RuntimeDefault },
      },
    },
    peer: {
      user: { uid: 1000, gid: 2000, additionalGids: [2000, 3000, 4000] },
      capabilities: ['CAP_KILL', 'CAP_NET_BIND_SERVICE'],
      noNewPrivileges: true,
      readonlyRoot: true,
      masked: true,
      seccomp: true,
      cwd: '/tmp',
      env: ['HOME=/nowhere'],
    },
  },
]

/** What this process may hand on. */
function heldCapabilities(): string[] {
  const mask = BigInt(`0x${/^CapBnd:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`)
  return capabilitySets({ add: ['ALL'], drop: [], ambient: [], privileged: false }, allOf(mask)).bounding
}

function allOf(mask: bigint): string[] {
  const output = execFileSync('setpriv', ['--list-caps'], { encoding: 'utf8' })
  return output
    .trim()
    .split('\n')
    .map((name) => `CAP_${name.toUpperCase()}`)
    .filter((_name, bit) => ((mask >> BigInt(bit)) & 1n) === 1n)
}

function config(scenario: Scenario, rootfs: string, files: string, cgroupsPath: string): object {
  const { peer } = scenario
  const names = [...(peer.capabilities ?? defaults)]
  const capabilities = { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] }
  const file = (name: string): object => ({
    destination: `/etc/${name}`,
    type: 'bind',
    source: join(files, name),
    options: ['rbind', 'rprivate', peer.readonlyRoot === true ? 'ro' : 'rw'],
  })
  return {
    ociVersion: '1.0.2',
    hostname,
    process: {
      terminal: false,
      user: peer.user ?? { uid: 0, gid: 0, additionalGids: [0] },
      args: ['/bin/sh', '-c', probeScript],
      env: ['PATH=/bin:/usr/bin', `HOSTNAME=${hostname}`, ...(peer.env ?? ['HOME=/root'])],
      cwd: peer.cwd ?? '/',
      capabilities,
      noNewPrivileges: peer.noNewPrivileges ?? false,
    },
    root: { path: rootfs, readonly: peer.readonlyRoot ?? false },
    mounts: [...usualMounts(), file('hostname'), file('hosts'), file('resolv.conf')],
    linux: {
      namespaces: ['mount', 'cgroup', 'network', 'uts', 'ipc', 'pid'].map((type) => ({ type })),
      cgroupsPath,
      ...(peer.masked === true ? { maskedPaths, readonlyPaths } : {}),
      ...(peer.seccomp === true ? { seccomp: runtimeDefaultSeccomp(names) } : {}),
    },
  }
}

/** Masked and read-only paths: each runtime has its own flags, of which these must be there. Ours must have them all. */
function masked(mount: MountSeen): Partial<MountSeen> {
  if (!/^\/(proc|sys)\/./.test(mount.point) || mount.point === '/sys/fs/cgroup') return {}
  // crun 1.8 loses nosuid, nodev and noexec of /proc when it makes a part of it read-only; runc keeps them
  if (mount.type === 'proc') return { options: mount.options.filter((option) => option === 'ro') }
  // a file is covered by /dev/null: the host's for crun and for us, and read-only then; for runc 1.1 a node in the container's
  // own /dev, before CVE-2025-31133 showed how it could be replaced
  if (mount.type === 'devtmpfs' || mount.options.includes('rw')) return { type: 'null', options: [], superblock: '' }
  // a directory by an empty tmpfs, which runc makes read-only in its superblock, too
  return { options: mount.options.filter((option) => option === 'ro'), superblock: '' }
}

/** Takes away what differs for a reason. */
function normalise(seen: Seen): Record<string, unknown> {
  const mounts = parseMounts(seen['mounts'] ?? []).map((mount) => ({
    ...mount,
    // sysfs has one superblock for each network namespace: were it read-only, as theirs, a privileged container of the same
    // pod could not have a writable one. The mount itself is read-only everywhere
    ...(mount.type === 'sysfs' ? { superblock: '' } : {}),
    // the root: ours is an overlay of the image's layers, theirs a bind mount of the unpacked directory
    ...(mount.point === '/' ? { type: 'root', superblock: '' } : {}),
    // of a bind mount the file system is the host's, wherever its file is
    ...(mount.point.startsWith('/etc/') ? { type: 'file', superblock: '' } : {}),
    ...masked(mount),
  }))
  const root = mounts.find(({ point }) => point === '/')
  // relatime or noatime of the root come from the file system below it
  if (root !== undefined) root.options = root.options.filter((option) => option === 'ro' || option === 'rw')
  return {
    ...seen,
    mounts: mounts.sort((a, b) => (a.point < b.point ? -1 : a.point > b.point ? 1 : 0)),
    // they make the link only where the kernel has /proc/kcore
    devices: seen['devices']?.filter((line) => line !== '/dev/core -> /proc/kcore'),
  }
}

t.test('peers', { skip: needsRoot || missingTools('unshare', 'setpriv', 'tar') }, async (t) => {
  const service = await startService(t)
  const pod = await runPod(service, { hostname })
  const host = Object.fromEntries(
    await Promise.all(namespaceNames.map(async (type) => [type, await readlink(`/proc/self/ns/${type}`)])),
  ) as Record<string, string>

  // the layers of the same image in one directory
  const rootfs = join(service.directory, 'rootfs')
  const layout = join(service.directory, 'busybox')
  mkdirSync(rootfs)
  const blobs = join(layout, 'blobs', 'sha256')
  const json = (digest: string): { manifests?: { digest: string }[]; layers: { digest: string }[] } =>
    JSON.parse(readFileSync(join(blobs, digest.slice(7)), 'utf8')) as { layers: { digest: string }[] }
  const [manifest] = (
    JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as { manifests: { digest: string }[] }
  ).manifests
  for (const { digest } of json(manifest?.digest ?? '').layers) {
    execFileSync('tar', ['-x', '-p', '-C', rootfs, '-f', join(blobs, digest.slice(7))])
  }
  const files = join(service.directory, 'files')
  mkdirSync(files)
  for (const name of ['hostname', 'hosts', 'resolv.conf']) writeFileSync(join(files, name), '')

  for (const scenario of scenarios) {
    const ours = await runShell(service, pod, probeScript, scenario.request)
    const seen = parseProbe(ours.stdout)
    t.equal(ours.exitCode, 0, `${scenario.name}: ours runs`)
    t.same(seen['descriptors'], ['0', '1', '2'], `${scenario.name}: no descriptor of ours is open inside`)
    for (const { point, options } of parseMounts(seen['mounts'] ?? [])) {
      // stricter than both peers: no part of what is masked or read-only is writable, set-uid or executable
      if (!/^\/(proc|sys)\/./.test(point)) continue
      t.same(
        ['ro', 'nosuid', 'noexec'].filter((option) => !options.includes(option)),
        [],
        `${scenario.name}: ${point}`,
      )
    }

    for (const peer of ['crun', 'runc'] as const) {
      const skip = peers.includes(peer) ? false : `not installed: ${peer}`
      t.test(`${scenario.name}: ${peer}`, { skip }, async (t) => {
        const bundle = join(service.directory, `${peer}-${scenarios.indexOf(scenario)}`)
        const cgroup = `${service.slice}/${peer}`
        const result = await runBundle(peer, bundle, config(scenario, rootfs, files, cgroup))
        if (!t.equal(result.status, 0, result.stderr)) return
        const theirs = parseProbe(result.stdout)
        const [a, b] = [normalise(seen), normalise(theirs)]
        for (const section of Object.keys(seen)) {
          if (section === 'namespaces') continue
          t.same(a[section], b[section], section)
        }
        const distinct = (of: Seen): string[] =>
          (of['namespaces'] ?? [])
            .filter((line) => host[line.split(' ')[0] ?? ''] !== line.split(' ')[1])
            .map((line) => line.split(' ')[0] ?? '')
        t.same(distinct(seen), distinct(theirs), 'the namespaces that are not the host’s')
        t.same(
          distinct(seen),
          namespaceNames.filter((name) => name !== 'user'),
        )
      })
    }
  }

  t.test('a mask is no way to the host’s /dev/null', async (t) => {
    const mode = statSync('/dev/null').mode
    t.teardown(() => chmodSync('/dev/null', mode))
    const { stdout } = await runShell(
      service,
      pod,
      `(chmod 600 /proc/keys) 2>&1 | sed 's/.*: //'; (chown 1 /proc/keys) 2>&1 | sed 's/.*: //'; echo x >/proc/keys && echo written`,
      { security: { maskedPaths } },
    )
    t.equal(stdout, 'Read-only file system\nRead-only file system\nwritten\n')
    t.equal(statSync('/dev/null').mode, mode)
  })

  await t.test('at the end', async () => {
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    // runc leaves the parents of its cgroup
    const slice = join(cgroupRoot(), service.slice)
    for (const name of readdirSync(slice)) if (/^(crun|runc)$/.test(name)) rmdirSync(join(slice, name))
  })
})
