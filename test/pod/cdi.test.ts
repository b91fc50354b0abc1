import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'

import { cdiParts } from '#src/pod/cdi/apply.ts'
import { annotatedDevices, cdiEdits } from '#src/pod/cdi/registry.ts'
import { parseCdiSpec, parseDeviceName } from '#src/pod/cdi/spec.ts'
import type { ContainerConfig } from '#src/pod/config.ts'

const spec = (fields: object): string =>
  JSON.stringify({ cdiVersion: '0.3.0', kind: 'v.com/gpu', devices: [{ name: 'a', containerEdits: {} }], ...fields })
const device = (name: string, containerEdits: object): object => ({ name, containerEdits })

t.test('names of devices', async (t) => {
  t.strictSame(parseDeviceName('vendor.com/gpu=0'), { kind: 'vendor.com/gpu', name: '0' })
  t.strictSame(parseDeviceName('v/c.d=GPU-1:2_3.4'), { kind: 'v/c.d', name: 'GPU-1:2_3.4' })
  for (const bad of [
    '',
    'gpu',
    'v/c',
    'v/c=',
    '/c=a',
    'v/=a',
    'v/c=a=b',
    'v/c/d=a',
    '1v/c=a',
    'v/c=-a',
    'v/c=a-',
    'v/c=a b',
    'v/../c=a',
  ]) {
    t.equal(parseDeviceName(bad), null, bad)
  }
})

t.test('a file is JSON or YAML', async (t) => {
  const text = `
cdiVersion: "0.6.0"
kind: vendor.com/device.x
containerEdits:
  env: [ALL=1]
devices:
  - name: "0"
    annotations: {who: me}
    containerEdits:
      deviceNodes:
        - path: /dev/null
          fileMode: 0o666
          permissions: rw
      mounts:
        - {hostPath: /lib, containerPath: /lib, options: [ro, bind]}
      hooks:
        - {hookName: createContainer, path: /bin/hook, args: [hook, a], timeout: 5}
`
  t.match(parseCdiSpec(text), {
    kind: 'vendor.com/device.x',
    containerEdits: { env: ['ALL=1'] },
    devices: [
      {
        name: '0',
        containerEdits: {
          deviceNodes: [{ path: '/dev/null', hostPath: null, fileMode: 0o666, permissions: 'rw' }],
          hooks: [{ hookName: 'createContainer', timeout: 5 }],
        },
      },
    ],
  })
})

t.test('what is wrong is named', async (t) => {
  const edits = (containerEdits: object, cdiVersion = '1.1.0'): string => spec({ cdiVersion, containerEdits })
  for (const [text, message] of [
    ['[', /./],
    ['a: &x [1]\nb: *x\n', /alias/i],
    ['a: 1\na: 2\n', /unique/i],
    [spec({ cdiVersion: '9.0.0' }), /cdiVersion "9\.0\.0" is not known; known: 0\.3\.0, .*1\.1\.0/],
    [spec({ kind: 'gpu' }), /kind "gpu" is not vendor\/class/],
    [spec({ devices: [] }), /devices is empty/],
    [spec({ devices: [{ name: 'a' }, { name: 'a' }] }), /devices has "a" twice/],
    [spec({ devices: [{ name: '-' }] }), /devices\[0\]\.name "-"/],
    [spec({ extra: 1 }), /extra is not known/],
    [edits({ mount: [] }), /containerEdits\.mount is not known/],
    [edits({ env: ['NAME'] }), /containerEdits\.env\[0\] "NAME" is not NAME=value/],
    [edits({ env: 'A=b' }), /containerEdits\.env is not a list/],
    [edits({ deviceNodes: [{ path: 'dev/x' }] }), /deviceNodes\[0\]\.path "dev\/x" is not an absolute path/],
    [edits({ deviceNodes: [{ path: '/dev/x', type: 'd' }] }), /deviceNodes\[0\]\.type "d"/],
    [edits({ deviceNodes: [{ path: '/dev/x', permissions: 'rx' }] }), /deviceNodes\[0\]\.permissions/],
    [edits({ deviceNodes: [{ path: '/dev/x', major: -1 }] }), /deviceNodes\[0\]\.major is not from 0 to 4095/],
    [edits({ mounts: [{ hostPath: '/a' }] }), /mounts\[0\]\.containerPath is missing/],
    [edits({ hooks: [{ hookName: 'now', path: '/x' }] }), /hooks\[0\]\.hookName "now" is none of prestart/],
    [edits({ hooks: [{ hookName: 'poststop', path: '/x', timeout: 0 }] }), /timeout is not from 1/],
    [edits({ additionalGids: [-1] }), /additionalGids\[0\] is not from 0/],
  ] as const) {
    t.throws(() => parseCdiSpec(text), { message }, text.slice(0, 60))
  }
})

t.test('a file’s version has all that it uses', async (t) => {
  const older = ['0.3.0', '0.4.0', '0.5.0', '0.6.0', '0.7.0', '0.8.0', '1.0.0', '1.1.0']
  for (const [fields, least, what] of [
    [{}, '0.3.0', ''],
    [{ containerEdits: { mounts: [{ hostPath: '/a', containerPath: '/a', type: 'bind' }] } }, '0.4.0', 'mounts.type'],
    [{ devices: [{ name: '0' }] }, '0.5.0', 'digit'],
    [{ devices: [device('a', { deviceNodes: [{ path: '/a', hostPath: '/b' }] })] }, '0.5.0', 'hostPath'],
    [{ kind: 'v/c.d' }, '0.6.0', 'dot'],
    [{ annotations: { a: 'b' } }, '0.6.0', 'annotations'],
    [{ devices: [device('a', { additionalGids: [5] })] }, '0.7.0', 'additionalGids'],
    [{ containerEdits: { intelRdt: { closID: 'x' } } }, '0.7.0', 'intelRdt'],
    [{ containerEdits: { intelRdt: { schemata: ['L3:0=f'] } } }, '1.1.0', 'schemata'],
    [{ containerEdits: { netDevices: [{ hostInterfaceName: 'eth1', name: 'net1' }] } }, '1.1.0', 'netDevices'],
  ] as const) {
    for (const cdiVersion of older) {
      const parse = (): unknown => parseCdiSpec(spec({ ...fields, cdiVersion }))
      if (older.indexOf(cdiVersion) >= older.indexOf(least)) t.doesNotThrow(parse, `${what} ${cdiVersion}`)
      else
        t.throws(parse, {
          message: new RegExp(`cdiVersion "${cdiVersion}" does not have .*${what}.*came with ${least}`),
        })
    }
  }
})

t.test('who describes a device', async (t) => {
  const one = (env: string): string =>
    spec({
      containerEdits: { env: [`SPEC=${env}`] },
      devices: [device('a', { env: [`DEVICE=${env}`] }), device('b', {})],
    })
  const directory = t.testdir({
    etc: { 'one.json': one('etc'), 'two.yaml': spec({ kind: 'v.com/nic' }), 'bad.json': '{', 'ignored.txt': '{' },
    run: { 'any-name.json': spec({ devices: [device('a', { env: ['DEVICE=run'] })] }) },
    twice: { '1.json': spec({}), '2.json': spec({}) },
  })
  const [etc, run, twice] = ['etc', 'run', 'twice'].map((name) => join(directory, name)) as [string, string, string]
  const env = async (directories: string[], ...names: string[]): Promise<string[][]> =>
    (await cdiEdits(directories, names)).map((edits) => edits.env)
  t.strictSame(
    await env([etc], 'v.com/gpu=a', 'v.com/gpu=b', 'v.com/gpu=a'),
    [['SPEC=etc'], ['DEVICE=etc'], []],
    'the file’s edits once',
  )
  t.strictSame(await env([etc, run], 'v.com/gpu=a'), [[], ['DEVICE=run']], 'the later directory wins')
  t.strictSame(await env([join(directory, 'absent'), etc], 'v.com/nic=a'), [[], []])
  t.strictSame(await env([etc]), [])
  await t.rejects(env([twice], 'v.com/gpu=a'), {
    code: 'ERR_FAILED_PRECONDITION',
    message: /described twice: .*1\.json, .*2\.json/,
  })
  t.strictSame(await env([twice, run], 'v.com/gpu=a'), [[], ['DEVICE=run']], 'a conflict below does not matter')
  await t.rejects(env([etc], 'v.com/gpu=z'), {
    message: /"v\.com\/gpu=z" is not known: no file of .*; not understood: .*bad\.json: /,
  })
  await t.rejects(env([], 'v.com/gpu=a'), { message: /CDI is switched off/ })
  await t.rejects(env([etc], 'gpu'), { code: 'ERR_INVALID_ARGUMENT', message: /"gpu" is not vendor/ })
  execFileSync('mkfifo', [join(run, 'pipe.json')])
  t.strictSame(await env([run], 'v.com/gpu=a'), [[], ['DEVICE=run']], 'a pipe is not waited for')
})

t.test('names in annotations', async (t) => {
  t.strictSame(
    annotatedDevices({ 'cdi.k8s.io/b': 'v/c=2', 'cdi.k8s.io/a': 'v/c=1, v/c=0', 'other/cdi.k8s.io/': 'v/c=9' }),
    ['v/c=1', 'v/c=0', 'v/c=2'],
  )
})

t.test('nodes: what the file does not say is the host’s, and the container’s user owns it', async (t) => {
  const directory = t.testdir({
    'x.json': spec({
      cdiVersion: '1.0.0',
      devices: [
        device('a', {
          deviceNodes: [
            { path: '/dev/other', hostPath: '/dev/null', permissions: 'r' },
            { path: '/dev/zero', uid: 5, fileMode: 0o600 },
          ],
        }),
        device('wrong', { deviceNodes: [{ path: '/dev/null', type: 'b' }] }),
        device('absent', { deviceNodes: [{ path: '/dev/none-such' }] }),
        device('groups', { additionalGids: [0, 7] }),
        device('hook', { hooks: [{ hookName: 'createContainer', path: '/bin/h' }] }),
      ],
    }),
  })
  const parts = (name: string): ReturnType<typeof cdiParts> =>
    cdiParts(
      {
        cdiDevices: [`v.com/gpu=${name}`],
        annotations: {},
        runAsUser: 1000,
        runAsGroup: null,
      } as unknown as ContainerConfig,
      [directory],
    )
  t.match(await parts('a'), {
    devices: [
      { path: '/dev/other', hostPath: '/dev/null', type: 'c', major: 1, minor: 3, uid: 1000, gid: 0 },
      { path: '/dev/zero', major: 1, minor: 5, uid: 5, fileMode: 0o600 },
    ],
    rules: [{ allow: true, type: 'c', major: 1, minor: 3, access: 'r' }, { access: 'rwm' }],
  })
  await t.rejects(parts('wrong'), { message: /\/dev\/null is of type c; its file says b/ })
  await t.rejects(parts('absent'), { code: 'ERR_FAILED_PRECONDITION', message: /\/dev\/none-such: cannot be used/ })
  t.strictSame((await parts('groups')).groups, [7], 'never root’s')
  t.strictSame((await parts('hook')).hooks, { createContainer: [{ path: '/bin/h', args: [], env: [] }] })
})
