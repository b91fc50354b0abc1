/** caisson-oci as an engine calls it: the life of containers, errors, what is left behind. The suites of test/conformance and
 * test/differential compare it with other runtimes; here is what is its own. */
import { spawn, spawnSync, type SpawnSyncReturns } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { configuration, writeBundle } from '../helpers/bundle.ts'
import { cgroupRoot, needsRoot, project, until } from '../helpers/service.ts'

const program = join(project, 'build/Release/caisson-oci')
const directory = mkdtempSync(join(tmpdir(), 'caisson-oci-'))
const root = join(directory, 'state')
const log = join(directory, 'log.json')
t.teardown(() => rmSync(directory, { recursive: true, force: true }))

interface State {
  id: string
  pid: number
  status: string
  bundle: string
  rootfs: string
  created: string
  annotations?: Record<string, string>
}

type Result = SpawnSyncReturns<string>

function oci(args: string[], input?: string): Result {
  return spawnSync(program, ['--root', root, '--log', log, '--log-format', 'json', ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    ...(input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input }),
  })
}

/** For a container that outlives the command: it has its standard output and error, and a pipe's end would be waited for. */
function detached(args: string[]): Result {
  return spawnSync(program, ['--root', root, '--log', log, '--log-format', 'json', ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    stdio: 'ignore',
  })
}

const state = (id: string): State => JSON.parse(oci(['state', id]).stdout) as State
const lastLog = (): { level: string; msg: string; time: string } =>
  JSON.parse(readFileSync(log, 'utf8').trimEnd().split('\n').at(-1) ?? '{}') as {
    level: string
    msg: string
    time: string
  }

/** A command that fails says so in one line, on standard error and in the log. */
function refused(t: Test, result: Result, message: RegExp, status = 1): void {
  t.equal(result.status, status, result.stderr)
  t.match(result.stderr, message)
  t.equal(result.stderr.trimEnd().split('\n').length, 1, 'one line')
  const entry = lastLog()
  t.match(entry, { level: 'error', msg: message, time: /^\d{4}-\d\d-\d\dT.*Z$/ })
}

let bundles = 0
const bundle = (process: object, more?: object, top: object = {}): Promise<string> =>
  writeBundle(join(directory, `bundle-${++bundles}`), { ...configuration(process, more), ...top })
const shell = (script: string): object => ({ args: ['/bin/sh', '-c', script] })
const sleeper = shell('trap "exit 7" TERM; while :; do sleep 0.05; done')

/** Nothing of `id` is left. */
function gone(t: Test, id: string): void {
  t.notOk(existsSync(join(root, id)), 'no state')
  t.notOk(existsSync(join(cgroupRoot(), id)), 'no cgroup')
}

t.test('without a container', async (t) => {
  const version = spawnSync(program, ['--version'], { encoding: 'utf8' })
  t.equal(version.status, 0)
  t.match(version.stdout, /^runc version \d+\.\d+\.\d+\ncommit: [0-9a-f]{16}\nspec: 1\.3\.0\ncaisson-oci: /)
  const features = JSON.parse(spawnSync(program, ['features'], { encoding: 'utf8' }).stdout) as {
    ociVersionMax: string
  }
  t.equal(features.ociVersionMax, '1.3.0')
  t.equal(spawnSync(program, [], { encoding: 'utf8' }).status, 0)
  const unknown = spawnSync(program, ['frobnicate'], { encoding: 'utf8' })
  t.equal(unknown.status, 3)
  t.match(unknown.stderr, /No help topic for 'frobnicate'/)
  for (const command of [
    'checkpoint',
    'create',
    'delete',
    'events',
    'exec',
    'features',
    'kill',
    'list',
    'mounts',
    'pause',
  ]) {
    const help = spawnSync(program, [command, '--help'], { encoding: 'utf8' })
    t.match(help, { status: 0, stdout: new RegExp(`caisson-oci ${command}`) })
  }
  const flag = spawnSync(program, ['restore', '--lsm-mount-context'], { encoding: 'utf8' })
  t.match(flag, { status: 1, stdout: /flag needs an argument: -lsm-mount-context/ })
  const bundleDirectory = join(directory, 'spec')
  mkdirSync(bundleDirectory)
  t.equal(oci(['spec', '--bundle', bundleDirectory]).status, 0)
  t.match(JSON.parse(readFileSync(join(bundleDirectory, 'config.json'), 'utf8')), { ociVersion: '1.3.0' })
  refused(t, oci(['spec', '--bundle', bundleDirectory]), /config\.json exists\. Remove it first/)
})

t.test('a container and its end', { skip: needsRoot }, async (t) => {
  const path = await bundle(sleeper, {}, { annotations: { 'org.example': 'x' } })
  const pidFile = join(directory, 'pid')
  t.equal(detached(['create', '--bundle', path, '--pid-file', pidFile, 'one']).status, 0)
  const created = state('one')
  t.match(created, {
    id: 'one',
    status: 'created',
    bundle: path,
    rootfs: join(path, 'rootfs'),
    annotations: { 'org.example': 'x' },
  })
  t.equal(readFileSync(pidFile, 'utf8'), String(created.pid))
  refused(t, oci(['create', '--bundle', path, 'one']), /container with given ID already exists/)
  refused(t, oci(['resume', 'one']), /container not paused/)

  // later changes of the bundle have no effect
  writeFileSync(join(path, 'config.json'), '{}')
  t.equal(oci(['start', 'one']).status, 0)
  t.equal(state('one').status, 'running')
  refused(t, oci(['start', 'one']), /cannot start an already running container/)
  refused(t, oci(['delete', 'one']), /cannot delete container one that is not stopped: running/)
  t.match(oci(['list']).stdout, /^ID +PID +STATUS +BUNDLE +CREATED +OWNER\none +\d+ +running +/)
  t.match(JSON.parse(oci(['list', '--format=json']).stdout), [{ id: 'one', owner: 'root' }])
  t.equal(oci(['list', '-q']).stdout, 'one\n')

  t.same(JSON.parse(oci(['ps', '--format', 'json', 'one']).stdout) instanceof Array, true)
  t.match(oci(['ps', 'one', '-o', 'pid,comm']).stdout, new RegExp(`^ *PID COMMAND\\n(.*\\n)*? *${created.pid} sh`))

  t.equal(oci(['pause', 'one']).status, 0)
  t.equal(state('one').status, 'paused')
  refused(t, oci(['exec', 'one', 'true']), /cannot exec in a paused container/, 255)
  t.equal(oci(['resume', 'one']).status, 0)
  t.equal(state('one').status, 'running')

  const event = JSON.parse(oci(['events', '--stats', 'one']).stdout) as { type: string; id: string; data: object }
  t.match(event, { type: 'stats', id: 'one', data: { cpu: { usage: { total: Number } }, memory: {}, pids: {} } })

  t.equal(oci(['kill', 'one', '0']).status, 0)
  refused(t, oci(['kill', 'one', 'NOPE']), /unknown signal "NOPE"/)
  t.equal(oci(['kill', 'one', 'SIGTERM']).status, 0)
  await until(() => state('one').status === 'stopped')
  t.equal(state('one').pid, 0)
  refused(t, oci(['kill', 'one', '9']), /container not running/)
  t.equal(oci(['kill', '--all', 'one', '9']).status, 0)
  refused(t, oci(['start', 'one']), /cannot start a container that has stopped/)
  refused(t, oci(['exec', 'one', 'true']), /cannot exec in a stopped container/, 255)
  t.equal(oci(['delete', 'one']).status, 0)
  gone(t, 'one')
  refused(t, oci(['delete', 'one']), /container does not exist: "one"/)
  t.equal(oci(['delete', '--force', 'one']).status, 0)
  refused(t, oci(['state', 'one']), /container does not exist/)
})

t.test('run', { skip: needsRoot }, async (t) => {
  const result = oci(['run', '--bundle', await bundle(shell('cat; echo said >&2; exit 5')), 'two'], 'typed\n')
  t.match(result, { status: 5, stdout: 'typed\n', stderr: 'said\n' })
  gone(t, 'two')
  t.equal(oci(['run', '--keep', '-b', await bundle(shell('exit 3')), 'two']).status, 3)
  t.equal(state('two').status, 'stopped')
  t.equal(oci(['delete', 'two']).status, 0)

  // signals are passed on
  const path = await bundle(sleeper)
  const child = spawn(program, ['--root', root, 'run', '-b', path, 'two'], { stdio: 'ignore' })
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  await until(() => oci(['state', 'two']).status === 0 && state('two').status === 'running')
  await delay(200)
  child.kill('SIGTERM')
  t.equal(await ended, 7)
  gone(t, 'two')
  const killed = spawn(program, ['--root', root, 'run', '-b', path, 'two'], { stdio: 'ignore' })
  const status = new Promise<number | null>((resolve) => killed.once('exit', (code) => resolve(code)))
  await until(() => oci(['state', 'two']).status === 0 && state('two').status === 'running')
  t.equal(oci(['kill', 'two', 'KILL']).status, 0)
  t.equal(await status, 137)

  t.equal(detached(['run', '--detach', '-b', path, 'two']).status, 0)
  t.equal(state('two').status, 'running')
  t.equal(oci(['delete', '--force', 'two']).status, 0)
  gone(t, 'two')
})

t.test('exec', { skip: needsRoot }, async (t) => {
  const process = { ...sleeper, env: ['PATH=/bin', 'OWN=1'], user: { uid: 0, gid: 0 } }
  t.equal(detached(['run', '-d', '-b', await bundle(process), 'three']).status, 0)
  t.teardown(() => oci(['delete', '-f', 'three']))
  t.match(oci(['exec', 'three', 'sh', '-c', 'cat; echo $OWN; exit 4'], 'in\n'), { status: 4, stdout: 'in\n1\n' })
  t.equal(oci(['exec', 'three', 'sh', '-c', 'kill -15 $$']).status, 143)
  t.equal(
    oci(['exec', '-e', 'NEW=2', '--cwd', '/tmp', 'three', 'sh', '-c', 'echo $OWN $NEW $(pwd)']).stdout,
    '1 2 /tmp\n',
  )
  t.match(oci(['exec', '-u', '1', 'three', 'id']).stdout, /uid=1 gid=0/)
  t.match(oci(['exec', '--user=12:34', '-g', '56', 'three', 'id']).stdout, /uid=12 gid=34 groups=56/)
  for (const user of ['1:', '-1', ' 1', '1 ', '4294967295', '4294967296', '0x1', 'root', ':1', '1:2:3'])
    refused(t, oci(['exec', `--user=${user}`, 'three', 'id']), /exec failed: bad (uid|gid)/, 255)
  const caps = oci(['exec', '--cap', 'CAP_NET_RAW', 'three', 'grep', '^Cap', '/proc/self/status']).stdout
  t.match(caps, /CapInh:\t0000000000000000/, 'inheritable stays empty (CVE-2022-29162)')
  refused(t, oci(['exec', 'three', 'none']), /exec: "none": executable file not found in \$PATH/, 255)
  refused(t, oci(['exec', 'three', '/tmp']), /permission denied/, 255)
  refused(t, oci(['exec', 'three']), /exec args cannot be empty/, 255)
  refused(t, oci(['exec', 'none', 'true']), /container does not exist/, 255)

  const file = join(directory, 'process.json')
  const pidFile = join(directory, 'exec-pid')
  writeFileSync(file, JSON.stringify({ cwd: '/', args: ['/bin/sleep', '30'], user: { uid: 3, gid: 4 } }))
  t.equal(detached(['exec', '--process', file, '--detach', '--pid-file', pidFile, 'three']).status, 0)
  t.match(readFileSync(`/proc/${readFileSync(pidFile, 'utf8')}/status`, 'utf8'), /Uid:\t3\t3/)
  writeFileSync(file, '{"cwd":')
  refused(t, oci(['exec', '--process', file, 'three']), /process\.json: line 1/, 255)

  t.equal(oci(['kill', '--all', 'three', 'KILL']).status, 0)
  await until(() => state('three').status === 'stopped')
})

t.test('sockets: a terminal by console-socket, a pidfd', { skip: needsRoot }, async (t) => {
  const listen = (path: string): Promise<Server> =>
    new Promise((resolve) => {
      const server = createServer((socket) => socket.resume())
      server.listen(path, () => resolve(server))
    })
  const path = await bundle({ ...shell('tty'), terminal: true })
  refused(
    t,
    oci(['create', '-b', path, 'four']),
    /cannot allocate tty if runc will detach without setting console socket/,
  )
  refused(
    t,
    oci(['create', '-b', await bundle(shell('true')), '--console-socket', '/nowhere', 'four']),
    /cannot use console socket if runc will not detach or allocate tty/,
  )
  refused(
    t,
    oci(['create', '-b', path, '--console-socket', join(directory, 'none'), 'four']),
    /no such file or directory/,
  )
  gone(t, 'four')
  const socket = join(directory, 'console')
  const server = await listen(socket)
  t.teardown(() => server.close())
  t.equal(detached(['create', '-b', path, '--console-socket', socket, 'four']).status, 0)
  t.equal(oci(['delete', 'four']).status, 0, 'a created container may be deleted')
  gone(t, 'four')
})

t.test('descriptors', { skip: needsRoot }, async (t) => {
  const path = await bundle(shell('ls /proc/self/fd | tr "\\n" " "; echo $LISTEN_FDS $LISTEN_PID; cat <&3'))
  const file = join(directory, 'handed')
  writeFileSync(file, 'content\n')
  const script = (flags: string, before = ''): string =>
    `exec 3<${file} 4</dev/null 9</dev/null; ${before} exec ${program} --root ${root} run ${flags} -b ${path} five`
  const sh = (text: string): Result => spawnSync('/bin/bash', ['-c', text], { encoding: 'utf8', timeout: 30_000 })
  t.match(sh(script('--preserve-fds 1')).stdout, /^0 1 2 3 (4 )?\n?content\n$/)
  t.match(sh(script('', 'export LISTEN_FDS=1 LISTEN_PID=$$;')).stdout, / 1 1\ncontent\n$/)
  t.match(sh(script('--preserve-fds 3')), { status: 1, stderr: /preserved-fd 5/ })
  gone(t, 'five')
})

t.test('hooks', { skip: needsRoot }, async (t) => {
  const record = join(directory, 'hooks')
  const hook = join(directory, 'hook')
  writeFileSync(hook, `#!/bin/sh\necho "$1 $(cat) $(/usr/bin/env | grep -c ^OWN=)" >>${record}\n`, { mode: 0o755 })
  const all = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop']
  const hooks = Object.fromEntries(all.map((kind) => [kind, [{ path: hook, args: ['hook', kind] }]]))
  const startContainer = [{ path: '/bin/touch', args: ['touch', '/tmp/started'] }]
  const process = { ...shell('test -e /tmp/started; code=$?; sleep 0.3; exit $code'), env: ['PATH=/bin', 'OWN=1'] }
  const path = await bundle(process, {}, { hooks: { ...hooks, startContainer } })
  t.equal(oci(['run', '-b', path, 'six']).status, 0)
  const lines = readFileSync(record, 'utf8').trimEnd().split('\n')
  t.same(
    lines.map((line) => line.split(' ')[0]),
    all,
  )
  const statuses = ['creating', 'creating', 'creating', 'running', 'stopped']
  for (const [i, line] of lines.entries()) {
    t.match(JSON.parse(line.slice(line.indexOf('{'), line.lastIndexOf('}') + 1)), {
      id: 'six',
      status: statuses[i],
      bundle: path,
    })
    t.match(line, / 0$/, 'no environment of the container (CVE-2025-23266)')
  }
  rmSync(record)
  t.equal(detached(['create', '-b', path, 'six']).status, 0)
  t.equal(oci(['start', 'six']).status, 0)
  await until(() => state('six').status === 'stopped')
  t.equal(oci(['delete', 'six']).status, 0)
  t.equal(readFileSync(record, 'utf8').trimEnd().split('\n').length, all.length)

  for (const kind of [...all, 'startContainer']) {
    rmSync(record, { force: true })
    const failing = { path: '/bin/sh', args: ['sh', '-c', 'echo bad; exit 3'] }
    const broken = await bundle(sleeper, {}, { hooks: { poststop: hooks['poststop'], [kind]: [failing] } })
    if (kind === 'poststop') {
      t.equal(oci(['run', '-b', await bundle(shell('true'), {}, { hooks: { poststop: [failing] } }), 'six']).status, 0)
    } else {
      refused(t, oci(['run', '-b', broken, 'six']), new RegExp(`${kind} hook #0 "/bin/sh": exit status 3: bad`))
      t.match(readFileSync(record, 'utf8'), /^poststop /)
    }
    gone(t, 'six')
  }
})

t.test('bad input leaves nothing behind', { skip: needsRoot }, async (t) => {
  const path = await bundle(shell('true'))
  const config = join(path, 'config.json')
  const good = readFileSync(config, 'utf8')
  const cases: [string, string, RegExp][] = [
    ['malformed', '{"ociVersion":', /config\.json: line 1/],
    ['two documents', `${good},"id":"x"`, /config\.json: line 1/],
    ['no process', '{"ociVersion":"1.0.2","root":{"path":"rootfs"},"linux":{}}', /process property must not be empty/],
    ['version 2', good.replace('"1.0.2"', '"2.0.0"'), /ociVersion/],
    ['of the wrong type', good.replace('"args":[', '"args":7,"x":['), /process\.args/],
    ['100 MB', `{"annotations":{"a":"${'x'.repeat(100 << 20)}"}}`, /config\.json: file too large/],
  ]
  for (const [what, text, message] of cases) {
    writeFileSync(config, text)
    refused(t, oci(['run', '-b', path, 'seven']), message)
    gone(t, 'seven')
    t.comment(what)
  }
  rmSync(config)
  refused(t, oci(['create', '-b', path, 'seven']), /JSON specification file config\.json not found/)
  refused(t, oci(['create', '-b', join(directory, 'none'), 'seven']), /no such file or directory/)
  writeFileSync(config, good)
  for (const id of ['a/b', '..', '.', 'a b', 'é', ''])
    refused(t, oci(['create', '-b', path, id]), /invalid container ID format/)
  for (const command of ['state', 'start', 'delete', 'kill', 'pause'])
    refused(t, oci([command, '../x']), /invalid container ID format/)
  refused(t, oci(['--root', '/', 'list']), /should not be set to \//)
  refused(
    t,
    oci(['create', '-b', path, '--pid-file', '/nowhere/pid', 'seven']),
    /\/nowhere\/\.pid: no such file or directory/,
  )
  gone(t, 'seven')
  refused(
    t,
    oci(['run', '-b', await bundle({ args: ['none'] }), 'seven']),
    /exec: "none": executable file not found in \$PATH/,
  )
  gone(t, 'seven')
  const pidFile = join(directory, 'pid-of-none')
  const hooks = { startContainer: [{ path: '/bin/false' }] }
  const late = await bundle(shell('true'), {}, { hooks })
  refused(t, oci(['run', '-b', late, '--pid-file', pidFile, 'seven']), /startContainer hook/)
  t.notOk(existsSync(pidFile), 'no pid file')

  // a directory that a create left when it was killed, one of somebody else's, one that is no directory
  mkdirSync(join(root, 'eight'))
  writeFileSync(join(root, 'eight', 'config.json'), '{')
  t.equal(oci(['list', '-q']).stdout, '')
  t.equal(oci(['run', '-b', path, 'eight']).status, 0)
  gone(t, 'eight')
  mkdirSync(join(root, 'eight'))
  writeFileSync(join(root, 'eight', 'state.json'), '{"v":1,')
  refused(t, oci(['state', 'eight']), /line 1 column/)
  refused(t, oci(['delete', 'eight']), /line 1 column/)
  t.equal(oci(['delete', '--force', 'eight']).status, 0)
  gone(t, 'eight')
  symlinkSync('/etc', join(root, 'nine'))
  t.equal(oci(['delete', '--force', 'nine']).status, 0, 'no container of ours')
  t.ok(existsSync('/etc/passwd'))
  rmSync(join(root, 'nine'))
})

t.test('a state directory that is full or read-only', { skip: needsRoot }, async (t) => {
  const path = await bundle(shell('true'))
  const disk = join(directory, 'disk')
  mkdirSync(disk)
  const inRoom = (options: string, command: string, fill = ''): Result => {
    const script = `mount -t tmpfs -o ${options} none ${disk} && ${fill}
      ${program} --root ${disk}/state ${command} -b ${path} full </dev/null; status=$?; find ${disk} -mindepth 2; exit $status`
    const args = ['-m', '--propagation', 'private', '/bin/sh', '-c', script]
    return spawnSync('unshare', args, { encoding: 'utf8', timeout: 30_000 })
  }
  const cases: [string, RegExp, string][] = [
    ['ro', /read-only file system/, ''],
    ['size=16k', /no space left on device/, `{ head -c 16k /dev/zero >${disk}/fill; } &&`],
    ['size=16k', /no space left on device/, `{ head -c 12k /dev/zero >${disk}/fill; } &&`],
  ]
  for (const inodes of [2, 3, 4, 5]) cases.push([`nr_inodes=${inodes}`, /no space left on device/, ''])
  for (const [options, message, fill] of cases) {
    const result = inRoom(options, 'create', fill)
    t.equal(result.status, 1, options)
    t.match(result.stderr, message)
    t.equal(result.stderr.trimEnd().split('\n').length, 1, 'one line')
    t.equal(result.stdout, '', 'nothing in the state directory')
    t.notOk(existsSync(join(cgroupRoot(), 'full')), 'no cgroup')
  }
})

t.test('one of many creates wins, and all can be deleted', { skip: needsRoot }, async (t) => {
  const path = await bundle(sleeper)
  const creates = Array.from(
    { length: 8 },
    () =>
      new Promise<number | null>((resolve) =>
        spawn(program, ['--root', root, 'create', '-b', path, 'ten'], { stdio: 'ignore' }).once('exit', (code) =>
          resolve(code),
        ),
      ),
  )
  const statuses = await Promise.all(creates)
  t.same([...statuses].sort(), [0, 1, 1, 1, 1, 1, 1, 1])
  t.equal(oci(['start', 'ten']).status, 0)
  const deletes = Array.from(
    { length: 4 },
    () =>
      new Promise<number | null>((resolve) =>
        spawn(program, ['--root', root, 'delete', '-f', 'ten'], { stdio: 'ignore' }).once('exit', (code) =>
          resolve(code),
        ),
      ),
  )
  t.same(await Promise.all(deletes), [0, 0, 0, 0])
  gone(t, 'ten')
})

t.test('a create that is killed half-way leaves no process', { skip: needsRoot }, async (t) => {
  const marker = join(directory, 'marker')
  const hooks = { prestart: [{ path: '/bin/sh', args: ['sh', '-c', `echo $$ >${marker}; exec sleep 30`] }] }
  const path = await bundle(sleeper, {}, { hooks })
  const child = spawn(program, ['--root', root, 'create', '-b', path, 'eleven'], { stdio: 'ignore' })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  await until(() => existsSync(marker) && readFileSync(marker, 'utf8').includes('\n'))
  const creating = state('eleven')
  t.equal(creating.status, 'creating')
  child.kill('SIGKILL')
  await ended
  process.kill(Number(readFileSync(marker, 'utf8')), 'SIGKILL')
  await until(
    () => !existsSync(`/proc/${creating.pid}`) || readFileSync(`/proc/${creating.pid}/stat`, 'utf8').includes(') Z '),
  )
  writeFileSync(join(path, 'config.json'), JSON.stringify(configuration(shell('true'))))
  t.equal(oci(['run', '-b', path, 'eleven']).status, 0, 'its place is taken over')
  gone(t, 'eleven')
})

t.test('mounts of a running container', { skip: needsRoot }, async (t) => {
  t.equal(detached(['run', '-d', '-b', await bundle(sleeper), 'twelve']).status, 0)
  t.teardown(() => oci(['delete', '-f', 'twelve']))
  const source = join(directory, 'source')
  mkdirSync(source)
  writeFileSync(join(source, 'file'), 'of the host\n')
  const list = join(directory, 'mounts.json')
  const add = (mounts: object[]): Result => {
    writeFileSync(list, JSON.stringify(mounts))
    return oci(['mounts', 'add', 'twelve', list])
  }
  const bind = { destination: '/mnt/a', source, options: ['bind', 'ro'] }
  const tmpfs = { destination: '/mnt/b', type: 'tmpfs', source: 'tmpfs', options: ['size=1m'] }
  t.equal(add([bind, tmpfs]).status, 0)
  t.equal(oci(['exec', 'twelve', 'cat', '/mnt/a/file']).stdout, 'of the host\n')
  t.not(oci(['exec', 'twelve', 'touch', '/mnt/a/x']).status, 0)
  const count = (): string => oci(['exec', 'twelve', 'grep', '-c', '/mnt/', '/proc/self/mountinfo']).stdout
  t.equal(count(), '2\n')
  refused(
    t,
    add([
      { ...tmpfs, destination: '/mnt/c' },
      { ...tmpfs, destination: '/mnt/d', options: ['nonsense=1'] },
    ]),
    /\/mnt\/d/,
  )
  t.equal(count(), '2\n', 'all or nothing')
  refused(t, add([{ ...bind, source: '/nowhere' }]), /no such file or directory/)
  writeFileSync(list, JSON.stringify([{ destination: '/mnt/a' }, { destination: '/mnt/b' }]))
  t.equal(oci(['mounts', 'remove', 'twelve', list]).status, 0)
  t.equal(count(), '0\n')
  t.notOk(readFileSync('/proc/self/mountinfo', 'utf8').includes(source), 'nothing on the host')
})

t.test('nothing is left', { skip: needsRoot }, async (t) => {
  t.same(readdirSync(root), [])
})
