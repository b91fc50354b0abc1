/** The command line: what each command answers in each state of a container, and what it leaves. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Change } from '../helpers/differential/bundle.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

const shell =
  (script: string): Change =>
  (spec) => {
    spec.process.args = ['/bin/sh', '-c', script]
  }
const sleeping: Change = (spec) => {
  spec.process.args = ['/bin/sleep', '1000']
}
const up = ['create -b $B $ID', 'start $ID']
differential(
  'states',
  {
    spec: sleeping,
    differences: [
      {
        at: /: (owner|rootfs|systemd-scope|ociVersion)$/,
        follow: 'any',
        why: 'members beyond the specification’s, and the version that each runtime knows',
      },
    ],
  },
  [
    { name: 'created', steps: ['create -b $B $ID', '> state $ID'] },
    { name: 'running', steps: [...up, '> state $ID'] },
    { name: 'stopped', steps: [...up, 'kill $ID KILL', '@await stopped', '> state $ID'] },
    { name: 'paused', steps: [...up, 'pause $ID', '> state $ID', 'resume $ID', '> state $ID'] },
    { name: 'deleted', steps: [...up, 'kill $ID KILL', '@await stopped', 'delete $ID', 'state $ID'] },
    {
      name: 'annotations',
      spec: { annotations: { 'org.example.a': 'b', empty: '' } },
      steps: ['create -b $B $ID', '> state $ID'],
    },
    {
      name: 'of none',
      steps: [
        'state $ID',
        'start $ID',
        'kill $ID KILL',
        'delete $ID',
        'exec $ID /bin/true',
        'pause $ID',
        'resume $ID',
        'ps $ID',
        'update --pids-limit 5 $ID',
      ],
    },
    { name: 'delete --force of none', steps: ['delete --force $ID'] },
    {
      name: 'without an id',
      steps: ['state', 'start', 'kill', 'delete', 'exec', 'pause', 'resume', 'ps', 'create -b $B'],
    },
    { name: 'with too many arguments', steps: ['state $ID more', 'start $ID more', 'delete $ID more'] },
    { name: 'create twice', steps: ['create -b $B $ID', 'create -b $B $ID', '> state $ID'] },
    { name: 'run of one that is there', steps: ['create -b $B $ID', 'run -b $B $ID'] },
    { name: 'start twice', steps: [...up, 'start $ID'] },
    { name: 'start of a stopped one', steps: [...up, 'kill $ID KILL', '@await stopped', 'start $ID'] },
    {
      name: 'kill of a created one',
      steps: ['create -b $B $ID', 'kill $ID KILL', '@await stopped', 'start $ID', 'delete $ID'],
    },
    {
      name: 'kill of a stopped one',
      steps: [...up, 'kill $ID KILL', '@await stopped', 'kill $ID KILL', 'kill $ID TERM', 'kill $ID 0'],
    },
    { name: 'kill of a paused one', steps: [...up, 'pause $ID', 'kill $ID KILL', '@await stopped', 'resume $ID'] },
    { name: 'delete of a created one', steps: ['create -b $B $ID', 'delete $ID', 'state $ID'] },
    { name: 'delete of a running one', steps: [...up, 'delete $ID', '> state $ID'] },
    { name: 'delete --force of a running one', steps: [...up, 'delete --force $ID', 'state $ID'] },
    { name: 'delete -f of a paused one', steps: [...up, 'pause $ID', 'delete -f $ID', 'state $ID'] },
    { name: 'delete of a paused one', steps: [...up, 'pause $ID', 'delete $ID'] },
    { name: 'delete twice', steps: [...up, 'kill $ID 9', '@await stopped', 'delete $ID', 'delete $ID'] },
    {
      name: 'pause of a created one',
      differences: [
        { at: /: status$/, follow: 'runc', why: 'crun has no word for a created container that is paused' },
      ],
      steps: ['create -b $B $ID', 'pause $ID', '> state $ID'],
    },
    { name: 'pause of a paused one', steps: [...up, 'pause $ID', 'pause $ID'] },
    { name: 'resume of a running one', steps: [...up, 'resume $ID'] },
    { name: 'pause of a stopped one', steps: [...up, 'kill $ID KILL', '@await stopped', 'pause $ID', 'resume $ID'] },
    {
      name: 'exec in a paused one',
      steps: [...up, 'pause $ID', 'exec $ID /bin/true', 'resume $ID', 'exec $ID /bin/true'],
    },
    { name: 'exec in a created one', steps: ['create -b $B $ID', 'exec $ID /bin/echo x', 'start $ID', '> state $ID'] },
    { name: 'exec in a stopped one', steps: [...up, 'kill $ID KILL', '@await stopped', 'exec $ID /bin/true'] },
    {
      name: 'a config that changes after create',
      steps: [
        'create -b $B $ID',
        ({ place }) => {
          writeFileSync(join(place.bundle, 'config.json'), '{}')
          return {}
        },
        'start $ID',
        '> state $ID',
      ],
    },
    { name: 'a bundle that is not there', steps: ['create -b $D/nothing $ID', 'state $ID'] },
    { name: 'no config.json', steps: ['create -b $D $ID', 'state $ID'] },
    {
      name: 'a relative bundle',
      but: { runc: 'looks for it in itself' },
      steps: ['create -b bundle $ID', '> state $ID'],
    },
  ],
)

differential(
  'signals',
  {
    spec: (spec) => {
      spec.process.args = [
        '/bin/sh',
        '-c',
        'trap "echo usr1; exit 11" USR1; trap "echo hup; exit 12" HUP; trap "exit 13" TERM; echo ready >/data/ready; while :; do sleep 0.05; done',
      ]
    },
  },
  [
    ...['USR1', 'SIGUSR1', '10', 'sigusr1', 'HUP', '1', 'TERM', ''].map((signal): Case => ({
      ...(signal === 'sigusr1' && { but: { crun: 'does not know names in lower case' } }),
      name: signal === '' ? 'none named' : signal,
      steps: [...up, '@sleep 150', `kill $ID ${signal}`, '@await stopped'],
    })),
    ...['NOTHING', '65', '-1', 'SIGRTMAX+1', '9x'].map((signal): Case => ({
      ...(signal === '9x' && { but: { crun: 'takes the number at its start' } }),
      name: `${signal}, which there is not`,
      steps: [...up, `kill $ID ${signal}`, '> state $ID'],
      differences: [
        { at: /: (owner|rootfs|systemd-scope|ociVersion)$/, follow: 'any', why: 'members beyond the specification’s' },
      ],
    })),
    ...['RTMIN', 'SIGRTMIN+3', '34', '0'].map((signal): Case => ({
      ...(signal.includes('RTMIN') && { but: { runc: 'does not know the name' } }),
      name: signal,
      steps: [...up, '@sleep 100', `kill $ID ${signal}`],
    })),
    { name: '--all', steps: [...up, 'kill --all $ID KILL', '@await stopped'] },
    { name: '-a', steps: [...up, 'kill -a $ID KILL', '@await stopped'] },
    { name: '--all of a stopped one', steps: [...up, 'kill $ID KILL', '@await stopped', 'kill --all $ID KILL'] },
  ],
)

differential('exit status of run', {}, [
  { name: '0', spec: shell('exit 0'), steps: ['run -b $B $ID', 'state $ID'] },
  { name: '7', spec: shell('exit 7'), steps: ['run -b $B $ID', 'state $ID'] },
  { name: '255', spec: shell('exit 255'), steps: ['run -b $B $ID'] },
  { name: 'a signal', spec: shell('kill -KILL $$; /bin/kill -KILL 1; sleep 1; exit 3'), steps: ['run -b $B $ID'] },
  {
    name: 'SIGTERM in a host’s pid namespace',
    spec: (spec) => {
      spec.process.args = ['/bin/sh', '-c', 'kill -TERM $$']
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid')
    },
    steps: ['run -b $B $ID'],
  },
  { name: 'output', spec: shell('echo out; echo err >&2'), steps: ['> run -b $B $ID'] },
  { name: 'input', spec: shell('cat'), steps: ['stdin some text | > run -b $B $ID'] },
  {
    name: 'a program that is not there',
    spec: (spec) => {
      spec.process.args = ['/nothing']
    },
    steps: ['run -b $B $ID', 'state $ID'],
  },
  {
    name: 'detached',
    spec: sleeping,
    steps: ['run --detach -b $B $ID', '> state $ID'],
    differences: [
      { at: /: (owner|rootfs|systemd-scope|ociVersion)$/, follow: 'any', why: 'members beyond the specification’s' },
    ],
  },
  { name: 'detached, with a pid file', spec: sleeping, steps: ['run -d --pid-file $D/pid -b $B $ID', '@file pid'] },
  {
    name: '--keep',
    but: { crun: 'does not have it' },
    spec: shell('exit 3'),
    steps: ['run --keep -b $B $ID', 'delete $ID'],
  },
])
