/** The command line: exec, descriptors and files, lists, ids. What each command does in each state: lifecycle.test.ts. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Change, Place } from '../helpers/differential/bundle.ts'
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
const write =
  (name: string, content: object | string) =>
  (place: Place): void =>
    writeFileSync(join(place.directory, name), typeof content === 'string' ? content : JSON.stringify(content))

differential('files and descriptors', { spec: sleeping }, [
  { name: 'a pid file', steps: ['create --pid-file $D/pid -b $B $ID', '@file pid'] },
  {
    name: 'a relative pid file',
    differences: [
      {
        at: '2 @file pid',
        follow: { ours: 'a pid' },
        why: 'theirs is relative to the bundle, ours to where the caller is',
      },
    ],
    but: { runc: 'finds no directory for it' },
    steps: ['create --pid-file pid -b $B $ID', '@file pid'],
  },
  {
    name: 'a pid file in a directory that is not there',
    steps: ['create --pid-file $D/no/pid -b $B $ID', 'state $ID'],
  },
  { name: 'a pid file that is there', steps: ['@write pid old', 'create --pid-file $D/pid -b $B $ID', '@file pid'] },
  {
    name: 'no descriptor of the caller',
    spec: (spec) => {
      spec.process.args = ['/witness']
    },
    steps: ['fds 3 > run -b $B $ID'],
    differences: [{ at: /.*/, follow: 'any', why: 'compared by other cases' }],
    sees: { '1 fds 3 > run -b $B $ID: descriptors.3': undefined },
  },
  {
    name: '--preserve-fds',
    spec: (spec) => {
      spec.process.args = ['/witness']
    },
    steps: ['fds 3 > run --preserve-fds 3 -b $B $ID'],
    differences: [{ at: /.*/, follow: 'any', why: 'compared by other cases' }],
    sees: {
      '1 fds 3 > run --preserve-fds 3 -b $B $ID: descriptors.3': /./,
      '1 fds 3 > run --preserve-fds 3 -b $B $ID: descriptors.5': /./,
      '1 fds 3 > run --preserve-fds 3 -b $B $ID: descriptors.6': undefined,
    },
  },
  {
    name: '--preserve-fds of one of three',
    spec: (spec) => {
      spec.process.args = ['/witness']
    },
    steps: ['fds 3 > run --preserve-fds 1 -b $B $ID'],
    differences: [{ at: /.*/, follow: 'any', why: 'compared by other cases' }],
    sees: {
      '1 fds 3 > run --preserve-fds 1 -b $B $ID: descriptors.3': /./,
      '1 fds 3 > run --preserve-fds 1 -b $B $ID: descriptors.4': undefined,
    },
  },
  {
    name: '--preserve-fds of what is not there',
    but: { crun: 'takes the number as it is', runc: 'takes the number as it is' },
    steps: ['create --preserve-fds 5 -b $B $ID', 'state $ID'],
  },
  {
    name: 'LISTEN_FDS',
    but: { crun: 'sets LISTEN_PID, too' },
    spec: shell('echo $LISTEN_FDS $LISTEN_PID; ls /proc/$$/fd'),
    steps: ['env LISTEN_FDS=2 env LISTEN_PID=1 fds 2 > run -b $B $ID'],
  },
  {
    name: 'LISTEN_FDS and --preserve-fds',
    differences: [{ at: /output$/, follow: 'runc', why: 'crun hands on as many again as LISTEN_FDS says' }],
    spec: shell('echo $LISTEN_FDS; ls /proc/$$/fd'),
    steps: ['env LISTEN_FDS=1 fds 3 > run --preserve-fds 1 -b $B $ID'],
  },
])

const exec = (name: string, command: string, more: Partial<Case> = {}): Case => ({
  name,
  steps: [...up, command],
  ...more,
})
/** What is no user[:group] of numbers is refused: crun and runc take some of it for 0 or for what is left of 2^32. */
const userBut = (user: string): Partial<Case> =>
  user === '4294967296'
    ? { but: { crun: 'takes it as 0', runc: 'takes it as 0' } }
    : ['1000:', '-1', ':'].includes(user)
      ? { but: { crun: 'takes what is no number as 0' } }
      : {}

differential(
  'exec',
  {
    spec: (spec) => {
      spec.process.args = ['/bin/sleep', '1000']
      spec.process.env.push('OF=container')
    },
  },
  [
    exec('status 0', 'exec $ID /bin/true'),
    exec('status 1', 'exec $ID /bin/false'),
    exec('status 9', "exec $ID /bin/sh -c 'exit 9'"),
    exec('a signal', "exec $ID /bin/sh -c 'kill -KILL $$'"),
    exec('output', '> exec $ID /bin/echo a b'),
    exec('input', 'stdin words | > exec $ID /bin/cat'),
    exec('a program of $PATH', '> exec $ID echo x'),
    exec('a program that is not there', 'exec $ID /nothing'),
    exec('a program that is not in $PATH', 'exec $ID nothing'),
    exec('a program that may not be executed', 'exec $ID /etc/passwd'),
    exec('arguments that look like flags', '> exec $ID echo -n --version'),
    exec('the environment of the container', "> exec $ID sh -c 'echo $OF'"),
    exec('--env', "> exec --env A=1 --env B=2 $ID sh -c 'echo $A $OF'", {
      but: { crun: 'ends with 255 where --env is given' },
    }),
    exec('--env over the container’s', "> exec --env OF=exec $ID sh -c 'echo $OF'", {
      but: { crun: 'ends with 255 where --env is given' },
    }),
    exec('--cwd', '> exec --cwd /data $ID sh -c pwd'),
    exec('--cwd that is not there', 'exec --cwd /nothing $ID /bin/true'),
    exec('--cwd of a descriptor (CVE-2024-21626)', 'exec --cwd /proc/self/fd/7 $ID /bin/true'),
    exec('--user', '> exec --user 1000 $ID id -u'),
    exec('--user with a group', "> exec --user 1000:2000 $ID sh -c 'id -u; id -g'"),
    ...['1000:', '4294967296', '-1', 'nobody', ':', '1:x', '0x1'].map((user) =>
      exec(`--user ${user}`, `exec --user '${user}' $ID /bin/true`, userBut(user)),
    ),
    exec('--additional-gids', '> exec --user 1:1 --additional-gids 5 --additional-gids 6 $ID id -G', {
      but: { crun: 'crun 1.8.1 does not have it' },
    }),
    exec('--cap', "> exec --cap CAP_SYS_PTRACE $ID sh -c 'cat /proc/self/status'", {
      differences: [{ at: /output$/, follow: 'any', why: 'the whole of a status; the capabilities are looked at' }],
      sees: {
        "3 > exec --cap CAP_SYS_PTRACE $ID sh -c 'cat /proc/self/status': output":
          /CapInh:\t0000000000000000\nCapPrm:\t00000000a80c05fb/,
      },
    }),
    exec('--cap that is unknown', 'exec --cap CAP_NOTHING $ID /bin/true'),
    exec(
      '--no-new-privs',
      "> exec --no-new-privs $ID sh -c 'grep NoNewPrivs /proc/self/status || cat /proc/self/status'",
      {
        sees: {
          "3 > exec --no-new-privs $ID sh -c 'grep NoNewPrivs /proc/self/status || cat /proc/self/status': output":
            /NoNewPrivs:\t1/,
        },
      },
    ),
    exec('--detach and --pid-file', 'exec --detach --pid-file $D/pid $ID /bin/sleep 100', {
      steps: [...up, 'exec --detach --pid-file $D/pid $ID /bin/sleep 100', '@file pid'],
    }),
    {
      name: '--process',
      prepare: write('process.json', {
        args: ['sh', '-c', 'echo $X $OF; pwd; id -u; id -G'],
        env: ['PATH=/bin', 'X=y'],
        cwd: '/data',
        user: { uid: 5, gid: 6, additionalGids: [7] },
      }),
      steps: [...up, '> exec --process $D/process.json $ID'],
    },
    {
      name: '--process of a terminal-less process with limits',
      prepare: write('process.json', {
        args: ['sh', '-c', 'ulimit -n; ulimit -c; ulimit -Hc'],
        env: ['PATH=/bin'],
        cwd: '/',
        user: { uid: 0, gid: 0 },
        rlimits: [
          // both alike: Go raises the soft one to the hard one where it starts after it was set, and runc 1.1.5 leaves it so
          { type: 'RLIMIT_NOFILE', soft: 100, hard: 100 },
          { type: 'RLIMIT_CORE', soft: 1024, hard: 4096 },
        ],
      }),
      steps: [...up, '> exec --process $D/process.json $ID'],
    },
    { name: '--process of a file that is not there', steps: [...up, 'exec --process $D/nothing $ID'] },
    {
      name: '--process of no JSON',
      prepare: write('process.json', '{'),
      steps: [...up, 'exec --process $D/process.json $ID'],
    },
    {
      name: '--process without a working directory',
      prepare: write('process.json', { args: ['/bin/true'], env: [], user: { uid: 0, gid: 0 } }),
      steps: [...up, 'exec --process $D/process.json $ID'],
    },
    {
      name: '--process without arguments',
      prepare: write('process.json', { args: [], cwd: '/', env: [], user: { uid: 0, gid: 0 } }),
      steps: [...up, 'exec --process $D/process.json $ID'],
    },
    exec('no program', 'exec $ID'),
    exec('--preserve-fds', "fds 2 > exec --preserve-fds 2 $ID sh -c 'ls /proc/$$/fd'"),
    exec('no descriptor of the caller', "fds 2 > exec $ID sh -c 'ls /proc/$$/fd'"),
    exec('many', 'exec $ID /bin/true', { steps: [...up, ...Array.from({ length: 6 }, () => 'exec $ID /bin/true')] }),
    exec('the cgroup of the container', '> exec $ID cat /proc/self/cgroup', {
      sees: { '3 > exec $ID cat /proc/self/cgroup: output': /0::\/$/ },
    }),
  ],
)

differential('lists', { spec: sleeping }, [
  {
    name: 'list of none',
    differences: [
      {
        at: /^\d+ > list.*: (exit|output)/,
        follow: { ours: /^(1|)$/ },
        why: 'a state directory that was named must be there, which runc says and does not see; tables are each one’s own',
      },
    ],
    steps: ['> list', '> list --quiet', '> list --format json'],
  },
  { name: 'list --quiet', steps: [...up, '> list --quiet', '> list -q'] },
  {
    name: 'list --format json',
    steps: [...up, '> list --format json'],
    differences: [{ at: /: \d+\.(owner|rootfs|systemd-scope|ociVersion)$/, follow: 'any', why: 'members of its own' }],
  },
  { name: 'list of an unknown format', steps: ['list --format xml'] },
  { name: 'ps --format json', steps: [...up, '? ps --format json $ID'] },
  { name: 'ps', steps: [...up, 'ps $ID'] },
  { name: 'ps of an unknown format', steps: [...up, 'ps --format xml $ID'] },
  { name: 'ps of a stopped one', steps: [...up, 'kill $ID KILL', '@await stopped', 'ps --format json $ID'] },
  {
    name: 'a root that is not there',
    differences: [
      {
        at: /list.*: (exit|output)/,
        follow: { ours: /^(1|)$/ },
        why: 'a state directory that was named must be there, which runc says and does not see',
      },
    ],
    steps: ['> list --quiet'],
  },
  {
    name: 'spec',
    steps: [
      ({ place }) => {
        writeFileSync(join(place.directory, 'x'), '')
        return {}
      },
      'spec',
      '@file config.json',
      'spec',
    ],
  },
  { name: 'spec --bundle', steps: ['spec --bundle $D/nothing'] },
  { name: 'an unknown command', steps: ['nothing'] },
  { name: 'an unknown flag', steps: ['state --nothing $ID', '--nothing state $ID'] },
  { name: '--version', steps: ['--version', '-v'] },
  { name: '--help', steps: ['--help', 'create --help'] },
  { name: 'features', steps: ['features'], but: { crun: 'crun 1.8.1 does not have it' } },
  { name: 'update of what cannot be limited here', steps: [...up, 'update --cpu-share many $ID'] },
  { name: 'update of an empty JSON', steps: [...up, 'stdin {} | update --resources - $ID'] },
  { name: 'update of no JSON', steps: [...up, 'stdin {{ | update --resources - $ID'] },
  { name: 'update of a file that is not there', steps: [...up, 'update --resources $D/nothing $ID'] },
  { name: 'events --stats', steps: [...up, '? events --stats $ID'] },
  {
    name: 'events --stats of a stopped one',
    steps: [...up, 'kill $ID KILL', '@await stopped', 'events --stats $ID'],
  },
])

/** crun takes every id that can be a file's name. */
const odd = (name: string): Partial<Case> =>
  ['absolute', 'with a blank', 'with a newline', 'with a colon', 'that is not ASCII'].includes(name)
    ? { but: { crun: 'takes every name that a directory may have' } }
    : {}

const ids: [string, string][] = [
  ['with a slash', 'a/b'],
  ['of two dots', '..'],
  ['of a dot', '.'],
  ['that leaves the directory', '../x'],
  ['absolute', '/x'],
  ['with a blank', "'a b'"],
  ['with a newline', "'a\nb'"],
  ['empty', "''"],
  ['of 2000 bytes', 'x'.repeat(2000)],
  ['with a colon', 'a:b'],
  ['that is not ASCII', 'ü'],
]

differential('ids', { spec: sleeping }, [
  ...ids.map(([name, id]): Case => ({ name, ...odd(name), steps: [`create -b $B ${id}`, `state ${id}`] })),
  ...['a.b', 'A_b-c+1', '0', '-x', 'x'.repeat(64)].map((id): Case => ({
    name: id,
    steps: [`create -b $B -- ${id}`, `delete --force -- ${id}`],
  })),
])
