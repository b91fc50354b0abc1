/** Hooks: the six kinds, their order, what they are given, and what their failure does. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Change, Place } from '../helpers/differential/bundle.ts'
import { anonymous, flatten } from '../helpers/differential/observe.ts'
import type { Step } from '../helpers/differential/script.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

const kinds = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'] as const
type Kind = (typeof kinds)[number]

/** In the container for startContainer, which sees nothing of the host: a busybox at the same path in both. */
const shell = '/bin/busybox'

interface Hook {
  path?: string
  args?: string[]
  env?: string[]
  timeout?: unknown
}
/** Reads its standard input first: crun fails where nobody does. */
const hook = (script: string, more: Hook = {}): Hook => ({
  path: shell,
  args: ['busybox', 'sh', '-c', script.includes('cat >') ? script : `${shell} cat >/dev/null; ${script}`],
  ...more,
})

const hooks =
  (list: Partial<Record<Kind, (place: Place) => Hook[]>>): Change =>
  (spec, place) => {
    spec.hooks = Object.fromEntries(Object.entries(list).map(([kind, make]) => [kind, make(place)]))
  }

/** A file of the case: `order` gets a line from each hook. */
const file = (place: Place, name: string): string => join(place.directory, name)
/** startContainer runs inside: it says what it has to say in the root file system. */
const target = (kind: Kind, place: Place, name: string): string =>
  kind === 'startContainer' ? `/data/${name}` : file(place, name)
const read = (kind: Kind, place: Place, name: string): string => {
  const path = kind === 'startContainer' ? join(place.rootfs, 'data', name) : file(place, name)
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

const note =
  (kind: Kind, name: string): Step =>
  ({ place }) => {
    const text = anonymous(read(kind, place, name), place)
    try {
      const seen = flatten(JSON.parse(text))
      return Object.fromEntries(
        Object.entries(seen).map(([path, value]) => [path, path === 'pid' ? (value === '0' ? '0' : 'a pid') : value]),
      )
    } catch {
      return { text }
    }
  }

const life: Step[] = ['? create -b $B $ID', '? start $ID', '@await stopped', '? delete $ID']

/** A process that ends soon, and says when it ran. */
const process: Change = (spec) => {
  spec.process.args = ['/bin/sh', '-c', 'sleep 0.6; echo process >>/data/order; sleep 0.2']
}

const all =
  (...changes: Change[]): Change =>
  (spec, place) => {
    for (const one of changes) if (typeof one === 'function') one(spec, place)
  }

/** What a hook may have from its own list, from the container and from the runtime. */
const variables = (kind: Kind, place: Place): string =>
  `echo "A=$A B=$B SECRET=$SECRET OWN=$RUNTIMES_OWN" >${target(kind, place, 'env')}`
const withOwn: Step[] = [
  '? env RUNTIMES_OWN=1 create -b $B $ID',
  '? env RUNTIMES_OWN=1 start $ID',
  '@await stopped',
  '? env RUNTIMES_OWN=1 delete $ID',
]

const given: Case['differences'] = [
  {
    at: /: (ociVersion|status|owner|created|rootfs|systemd-scope|root|annotations.*)$/,
    follow: 'any',
    why: 'the specification leaves members beyond its own, and the word between creating and created, to the runtime',
  },
  { at: /: bundle$/, follow: 'runc', why: 'crun 1.8.1 names the root of the container to startContainer' },
  { at: /: pid$/, follow: 'either', why: 'crun 1.8.1 names no process to startContainer, runc none to poststop' },
  {
    at: /: text$/,
    follow: { ours: /^zero one\n(<directory>\/bundle|\/)\n$/ },
    why: 'createContainer runs in the bundle for crun, in the root for runc; poststop in the bundle or where the caller was',
  },
]

differential('hooks: what each is given', { differences: given }, [
  ...kinds.map((kind): Case => ({
    name: `${kind}: the state on standard input`,
    spec: all(process, hooks({ [kind]: (place: Place) => [hook(`${shell} cat >${target(kind, place, 'given')}`)] })),
    steps: [...life, note(kind, 'given')],
  })),
  ...kinds.map((kind): Case => ({
    name: `${kind}: its own environment alone (CVE-2025-23266)`,
    spec: all(
      process,
      (spec) => {
        spec.process.env.push('LD_PRELOAD=/evil.so', 'SECRET=1')
      },
      hooks({ [kind]: (place: Place) => [hook(variables(kind, place), { env: ['A=1', 'B=2'] })] }),
    ),
    steps: [...withOwn, note(kind, 'env')],
    sees: { '5 function: text': 'A=1 B=2 SECRET= OWN=\n' },
  })),
  ...kinds.map((kind): Case => ({
    name: `${kind}: no environment`,
    spec: all(process, hooks({ [kind]: (place: Place) => [hook(variables(kind, place))] })),
    steps: [...withOwn, note(kind, 'env')],
    sees: { '5 function: text': 'A= B= SECRET= OWN=\n' },
    ...(kind !== 'startContainer' && {
      differences: [
        {
          at: /: text$/,
          follow: { ours: 'A= B= SECRET= OWN=\n' },
          why: 'crun and runc hand on their own environment to a hook without one',
        },
      ],
    }),
  })),
  ...kinds.map((kind): Case => ({
    name: `${kind}: arguments, working directory and namespaces`,
    spec: all(
      process,
      hooks({
        [kind]: (place: Place) => [
          hook('', {
            args: [
              'busybox',
              'sh',
              '-c',
              `${shell} cat >/dev/null; { echo "$0 $1"; pwd; } >${target(kind, place, 'more')} 2>&1`,
              'zero',
              'one',
            ],
          }),
        ],
      }),
    ),
    steps: [...life, note(kind, 'more')],
  })),
])

const order = (kind: Kind): Partial<Record<Kind, (place: Place) => Hook[]>> => ({
  [kind]: (place: Place) => [
    hook(`echo ${kind} 1 >>${kind === 'startContainer' ? '/data/order' : join(place.rootfs, 'data/order')}`),
    hook(`echo ${kind} 2 >>${kind === 'startContainer' ? '/data/order' : join(place.rootfs, 'data/order')}`),
  ],
})
const everyKind = Object.assign({}, ...kinds.map(order)) as Partial<Record<Kind, (place: Place) => Hook[]>>
const written: Step = ({ place }) => {
  const path = join(place.rootfs, 'data/order')
  return { order: existsSync(path) ? readFileSync(path, 'utf8') : '' }
}

const twice = (...names: Kind[]): string => names.map((name) => `${name} 1\n${name} 2\n`).join('')
const before = (kind: Kind): string => twice(...kinds.slice(0, kinds.indexOf(kind)))

/** What the specification says of a failing hook: those after it are left out, those of the end are not. */
const failed = (kind: Kind): string =>
  kind === 'poststop' ? `${before(kind)}process\n` : `${before(kind)}${twice('poststop')}`

const late: Case['differences'] = [
  {
    at: /: (order|exit)$/,
    follow: 'any',
    why: 'runc 1.1.5 runs poststart at create, crun 1.8.1 beside startContainer, and leaves out poststop after a failure: the case says what is right',
  },
]

differential('hooks: order and failure', { differences: late }, [
  {
    name: 'all kinds, by create, start and delete',
    spec: all(process, hooks(everyKind)),
    steps: ['create -b $B $ID', written, 'start $ID', written, '@await stopped', 'delete $ID', written],
    sees: {
      '2 function: order': before('startContainer'),
      '4 function: order': before('poststop'),
      '7 function: order': `${before('poststop')}process\n${twice('poststop')}`,
    },
  },
  {
    name: 'all kinds, by run',
    spec: all(process, hooks(everyKind)),
    steps: ['run -b $B $ID', written],
    sees: { '1 run -b $B $ID: exit': '0', '2 function: order': `${before('poststop')}process\n${twice('poststop')}` },
  },
  ...kinds.map((kind): Case => ({
    name: `${kind} fails`,
    spec: all(process, hooks({ ...everyKind, [kind]: () => [hook('exit 7')] })),
    steps: ['create -b $B $ID', 'start $ID', '@sleep 1200', '? delete $ID', 'state $ID', written],
    sees: {
      '1 create -b $B $ID: exit': kinds.indexOf(kind) < 3 ? '1' : '0',
      '2 start $ID: exit': kind === 'poststop' ? '0' : '1',
      '5 state $ID: exit': '1',
      '6 function: order': failed(kind),
    },
  })),
  ...kinds.map((kind): Case => ({
    name: `${kind} fails, by run`,
    spec: all(process, hooks({ ...everyKind, [kind]: () => [hook('exit 7')] })),
    steps: ['run -b $B $ID', 'state $ID', written],
    sees: {
      '1 run -b $B $ID: exit': kind === 'poststop' ? '0' : '1',
      '2 state $ID: exit': '1',
      '3 function: order': failed(kind),
    },
  })),
  ...kinds.map((kind): Case => ({
    name: `${kind} takes longer than its time`,
    spec: all(process, hooks({ [kind]: () => [hook(`${shell} sleep 60`, { timeout: 1 })] })),
    steps: ['run -b $B $ID', 'state $ID'],
    sees: { '1 run -b $B $ID: exit': kind === 'poststop' ? '0' : '1', '2 state $ID: exit': '1' },
  })),
  ...kinds.map((kind): Case => ({
    name: `${kind} is not there`,
    spec: all(process, hooks({ [kind]: () => [{ path: '/nothing/here' }] })),
    steps: ['run -b $B $ID', 'state $ID'],
    sees: { '1 run -b $B $ID: exit': kind === 'poststop' ? '0' : '1', '2 state $ID: exit': '1' },
  })),
])

differential('hooks that are refused', {}, [
  { name: 'a relative path', spec: hooks({ createRuntime: () => [{ path: 'bin/true' }] }), refused: true },
  { name: 'an empty path', spec: hooks({ createRuntime: () => [{ path: '' }] }), refused: true },
  { name: 'no path', spec: hooks({ createRuntime: () => [{}] }), refused: true },
  {
    name: 'a timeout of 0',
    but: { crun: 'takes it as none' },
    spec: hooks({ createRuntime: () => [hook('true', { timeout: 0 })] }),
    refused: true,
  },
  {
    name: 'a negative timeout',
    spec: hooks({ createRuntime: () => [hook('true', { timeout: -1 })] }),
    refused: true,
  },
  {
    name: 'a text as timeout',
    but: { crun: 'takes it as none' },
    spec: hooks({ createRuntime: () => [hook('true', { timeout: '5' })] }),
    refused: true,
  },
  {
    name: 'a file that may not be executed',
    prepare: (place) => {
      writeFileSync(file(place, 'odd'), '#!/bin/sh\n')
      chmodSync(file(place, 'odd'), 0o644)
    },
    spec: hooks({ createRuntime: (place) => [{ path: file(place, 'odd') }] }),
    refused: true,
  },
  { name: 'a hook that is killed', spec: hooks({ createRuntime: () => [hook('kill -9 $$')] }), refused: true },
  {
    name: 'a list that is none',
    but: { crun: 'ignores it' },
    spec: (spec) => {
      Object.assign(spec, { hooks: { createRuntime: { path: '/bin/true' } } })
    },
    refused: true,
  },
  {
    name: 'an unknown kind',
    spec: (spec) => {
      Object.assign(spec, { hooks: { preBirth: [{ path: '/bin/false' }] } })
    },
    sees: {},
  },
  { name: 'empty lists', spec: hooks({ prestart: () => [], poststop: () => [] }), sees: {} },
])
