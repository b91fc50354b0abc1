/**
 * Bad input: one clear line and an entry of the log, exit status 1, nothing left behind. The peers show that it is refused at
 * all; ours is held to the rest by every case.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Change, mount, type Place } from '../helpers/differential/bundle.ts'
import type { Step } from '../helpers/differential/script.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

/** Writes over config.json: what no object can say. */
const text =
  (content: string | Buffer): Step =>
  ({ place }) => {
    writeFileSync(join(place.bundle, 'config.json'), content)
    return {}
  }
const tried = ['create -b $B $ID', 'state $ID', 'run -b $B $ID']
const raw = (name: string, content: string | Buffer): Case => ({
  name,
  steps: [text(content), ...tried],
  sees: { '2 create -b $B $ID: exit': '1', '4 run -b $B $ID: exit': '1' },
})

differential('config.json that is none', {}, [
  raw('empty', ''),
  raw('blanks', ' \n\t '),
  raw('no JSON', 'hello'),
  raw('an open object', '{"ociVersion":"1.0.2"'),
  raw('a comma too many', '{"ociVersion":"1.0.2",}'),
  raw('something after its end', '{"ociVersion":"1.0.2"} x'),
  raw('an array', '[]'),
  { ...raw('null', 'null'), but: { runc: 'ends with a panic and 2' } },
  raw('a number', '7'),
  raw('an empty object', '{}'),
  raw('deep arrays', '['.repeat(100_000)),
  raw('deep objects', '{"a":'.repeat(100_000)),
  raw('NUL bytes', Buffer.alloc(1000)),
  raw('bytes that are no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])),
  raw('a byte order mark', '\ufeff{}'),
])

differential('versions', {}, [
  ...['2.0.0', '0.9', '', 'one', '1', '1.x', '99.0.0'].map((ociVersion): Case => ({
    name: JSON.stringify(ociVersion),
    but: { runc: 'runc 1.1.5 does not look' },
    spec: { ociVersion },
    refused: true,
  })),
  {
    name: 'none',
    spec: { ociVersion: null },
    refused: true,
    but: { runc: 'runc 1.1.5 does not look' },
  },
  { name: 'a number', spec: { ociVersion: 1 }, refused: true },
  ...['1.0.0', '1.1.0', '1.2.0', '1.2.0+dev', '1.0.2-dev'].map((ociVersion): Case => ({
    name: ociVersion,
    ...(ociVersion.startsWith('1.2') && { but: { crun: 'crun 1.8.1 knows 1.0 and 1.1' } }),
    spec: { ociVersion },
    sees: { outcome: 'ran' },
  })),
])

/** Each property with a value of another type. */
const types: Record<string, Record<string, unknown>> = {
  'process: text': { process: 'x' },
  'process: array': { process: [] },
  'process.args: text': { process: { args: '/bin/true' } },
  'process.args: numbers': { process: { args: [1] } },
  'process.env: object': { process: { env: {} } },
  'process.cwd: number': { process: { cwd: 1 } },
  'process.user: text': { process: { user: 'root' } },
  'process.capabilities: array': { process: { capabilities: ['CAP_KILL'] } },
  'process.rlimits: object': { process: { rlimits: {} } },
  'process.noNewPrivileges: text': { process: { noNewPrivileges: 'true' } },
  'process.terminal: number': { process: { terminal: 1 } },
  'root: text': { root: 'rootfs' },
  'root.path: array': { root: { path: [] } },
  'root.readonly: text': { root: { readonly: 'yes' } },
  'hostname: number': { hostname: 1 },
  'mounts: object': { mounts: {} },
  'mounts: texts': { mounts: ['/proc'] },
  'hooks: array': { hooks: [] },
  'linux: text': { linux: 'x' },
  'linux.namespaces: object': { linux: { namespaces: {} } },
  'linux.namespaces: texts': { linux: { namespaces: ['pid'] } },
  'linux.cgroupsPath: number': { linux: { cgroupsPath: 1 } },
  'linux.resources: array': { linux: { resources: [] } },
  'linux.resources.pids.limit: text': { linux: { resources: { pids: { limit: 'many' } } } },
  'linux.sysctl: array': { linux: { sysctl: [] } },
  'linux.maskedPaths: text': { linux: { maskedPaths: '/proc/keys' } },
  'linux.seccomp: text': { linux: { seccomp: 'none' } },
  'linux.devices: object': { linux: { devices: {} } },
  'linux.uidMappings: text': { linux: { uidMappings: 'x' } },
  'annotations: numbers': { annotations: { a: 1 } },
}

/** What crun 1.8.1 does not look at. */
const ignored = new Set([
  'process.env: object',
  'process.user: text',
  'process.capabilities: array',
  'process.rlimits: object',
  'process.noNewPrivileges: text',
  'process.terminal: number',
  'root.readonly: text',
  'hostname: number',
  'hooks: array',
  'linux.cgroupsPath: number',
  'linux.resources: array',
  'linux.resources.pids.limit: text',
  'linux.sysctl: array',
  'linux.maskedPaths: text',
  'linux.seccomp: text',
  'linux.devices: object',
  'linux.uidMappings: text',
])

differential(
  'wrong types',
  {},
  Object.entries(types).map(([name, spec]): Case => ({
    name,
    spec,
    refused: true,
    ...(ignored.has(name) && { but: { crun: 'ignores what is not of the type' } }),
  })),
)

const nul = 'a\0b'
const strings: Record<string, Change> = {
  'process.args': { process: { args: ['/witness', nul] } },
  'process.env': { process: { env: [`A=${nul}`] } },
  'process.cwd': { process: { cwd: `/${nul}` } },
  'root.path': { root: { path: nul } },
  hostname: { hostname: nul },
  'mounts.destination': mount(`/${nul}`, 'tmpfs', 'x'),
  'mounts.source': mount('/mnt', 'bind', `/${nul}`, ['bind']),
  'mounts.options': mount('/mnt', 'tmpfs', 'x', [`mode=${nul}`]),
  'mounts.type': mount('/mnt', nul, 'x'),
  'linux.cgroupsPath': { linux: { cgroupsPath: `/${nul}` } },
  'linux.maskedPaths': { linux: { maskedPaths: [`/${nul}`] } },
  'linux.readonlyPaths': { linux: { readonlyPaths: [`/${nul}`] } },
  'linux.devices.path': { linux: { devices: [{ path: `/dev/${nul}`, type: 'c', major: 1, minor: 3 }] } },
  'linux.namespaces.path': (spec) => {
    spec.linux.namespaces[1] = { type: 'cgroup', path: `/${nul}` }
  },
  'linux.sysctl': { linux: { sysctl: { 'net.ipv4.ip_forward': nul } } },
  'hooks.path': (spec) => {
    spec.hooks = { createRuntime: [{ path: `/${nul}` }] }
  },
}

/** Who cuts a text at its NUL. */
const cut = (name: string): Pick<Case, 'but'> => {
  const crun =
    ['process.args', 'process.env', 'process.cwd', 'hostname', 'mounts.destination'].includes(name) ||
    /^linux\.(c|m|r|devices)/.test(name)
  if (!crun) return {}
  return { but: { crun: 'cuts the text there', ...(name === 'hostname' && { runc: 'gives the kernel any bytes' }) } }
}

differential(
  'NUL in texts',
  {},
  Object.entries(strings).map(([name, spec]): Case => ({
    name,
    spec,
    refused: true,
    ...cut(name),
  })),
)

const up = '/../../../../../../../..'
differential('.. in paths', {}, [
  {
    name: 'cgroupsPath',
    but: { crun: 'follows the dots out of its mount' },
    spec: (spec, place) => {
      spec.linux.cgroupsPath = `${place.cgroup}/../../..${place.cgroup}up`
    },
    sees: { outcome: 'ran' },
  },
  { name: 'a mount', spec: mount(`${up}/mnt`, 'tmpfs', 'x'), sees: { 'mounts./mnt': /^tmpfs/ } },
  {
    name: 'maskedPaths',
    spec: { linux: { maskedPaths: [`${up}/data`] } },
    args: ['look=/data'],
    sees: { 'asked.look=/data': /EROFS/ },
    differences: [{ at: /mounts|look/, follow: 'any', why: 'how it is covered' }],
  },
  {
    name: 'readonlyPaths',
    spec: { linux: { readonlyPaths: [`${up}/data`] } },
    args: ['look=/data'],
    sees: { 'asked.look=/data': /EROFS/ },
  },
  {
    name: 'devices',
    spec: { linux: { devices: [{ path: `${up}/data/x`, type: 'c', major: 1, minor: 3, fileMode: 0o600 }] } },
    args: ['look=/data/x'],
    sees: { 'asked.look=/data/x': /^character device/ },
  },
  { name: 'cwd', spec: { process: { cwd: `${up}/data` } }, sees: { cwd: '/data' } },
  {
    name: 'a hook',
    spec: (spec) => {
      spec.hooks = { createRuntime: [{ path: '/bin/../bin/busybox', args: ['busybox', 'sh', '-c', 'cat >/dev/null'] }] }
    },
    sees: { outcome: 'ran' },
  },
  { name: 'a program', spec: { process: { args: [`${up}/witness`] } }, sees: { cwd: '/' } },
])

/** A description of 100 MB: an annotation, and mounts. */
differential('large', {}, [
  {
    name: 'an annotation of 100 MB',
    steps: [
      ({ place }) => {
        writeFileSync(
          join(place.bundle, 'config.json'),
          `{"ociVersion":"1.0.2","annotations":{"a":"${'x'.repeat(100 << 20)}"}}`,
        )
        return {}
      },
      'create -b $B $ID',
      'state $ID',
    ],
  },
  {
    name: '10 000 mounts',
    spec: (spec) => {
      for (let i = 0; i < 10_000; i++) {
        spec.mounts.push({ destination: '/data', type: 'tmpfs', source: 'x', options: ['ro'] })
      }
    },
    steps: [
      async ({ run, runtime, place }) =>
        runtime.name === 'caisson-oci'
          ? { exit: String((await run('create', '-b', place.bundle, place.id)).status) }
          : { exit: 'not asked' },
      'state $ID',
    ],
    sees: { '2 state $ID: exit': '1' },
    differences: [
      {
        at: '1 function: exit',
        follow: { ours: '1' },
        why: 'crun and runc mount them all, which takes a minute of each',
      },
    ],
  },
  {
    name: 'an argument of 1 MB',
    spec: (spec) => {
      spec.process.args.push('x'.repeat(1 << 20))
    },
    refused: true,
  },
  { name: 'a path of 5000 bytes', spec: mount(`/${'x'.repeat(5000)}`, 'tmpfs', 'x'), refused: true },
  { name: 'a name of 300 bytes', spec: mount(`/${'x'.repeat(300)}`, 'tmpfs', 'x'), refused: true },
  {
    name: '400 id maps',
    spec: (spec) => {
      const list = Array.from({ length: 400 }, (_one, index) => ({
        containerID: index,
        hostID: 100_000 + 2 * index,
        size: 1,
      }))
      spec.linux['uidMappings'] = list
      spec.linux['gidMappings'] = list
      spec.linux.namespaces.push({ type: 'user' })
    },
    refused: true,
  },
])

const inState =
  (make: (directory: string, place: Place) => void): Step =>
  ({ place }) => {
    mkdirSync(place.state, { recursive: true })
    make(place.state, place)
    return {}
  }
const whatIsThere: Step = ({ place }) => ({ files: existsSync(place.state) ? readdirSync(place.state).join() : '' })

differential(
  'the state directory',
  {
    spec: (spec) => {
      spec.process.args = ['/bin/sleep', '1000']
    },
  },
  [
    {
      name: 'an empty directory of the id',
      differences: [
        { at: /: exit$/, follow: { ours: '0' }, why: 'nobody holds it: it is what a create that was killed has left' },
      ],
      steps: [
        inState((state, { id }) => mkdirSync(join(state, id))),
        'create -b $B $ID',
        '? delete --force $ID',
        whatIsThere,
      ],
    },
    {
      name: 'a file of the id',
      steps: [
        inState((state, { id }) => writeFileSync(join(state, id), '')),
        'create -b $B $ID',
        'state $ID',
        inState((state, { id }) => rmSync(join(state, id))),
      ],
    },
    ...['', '{', '[]', '{}', '{"id":7}', 'null'].map((content): Case => ({
      name: `a state of ${content === '' ? 'nothing' : content}`,
      steps: [
        inState((state, { id, runtime }) => {
          mkdirSync(join(state, id))
          writeFileSync(join(state, id, runtime === 'crun' ? 'status' : 'state.json'), content)
        }),
        'state $ID',
        'kill $ID KILL',
        'start $ID',
        '> list --quiet',
        'delete --force $ID',
        whatIsThere,
      ],
      differences: [
        {
          at: /(list|delete|function|exit)/,
          follow: 'any',
          why: 'crun and runc fail or not at half a state: ours can always be removed',
        },
      ],
      sees: { '6 delete --force $ID: exit': '0', '7 function: files': '' },
    })),
    {
      name: 'a root that is a file',
      steps: [
        ({ place }) => {
          writeFileSync(place.state, '')
          return {}
        },
        'create -b $B $ID',
        'state $ID',
      ],
    },
    { name: 'a root that cannot be made', steps: ['--root /proc/nothing create -b $B $ID'] },
    {
      name: 'two creates at once',
      steps: ['& create -b $B $ID', '& create -b $B $ID', '& create -b $B $ID', '@await created', '> list --quiet'],

      sees: { '4 @await created': 'created' },
    },
    {
      name: 'a bundle that may not be read',
      steps: [
        ({ place }) => {
          chmodSync(place.bundle, 0o000)
          return {}
        },
        'create -b $B $ID',
      ],
    },
  ],
)
