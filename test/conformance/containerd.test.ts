/** containerd and its shim (io.containerd.runc.v2) with the runtime under test, driven by `ctr run --runc-binary`. */
import { existsSync, mkdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cannotRun, type Known, noDeviceProgram, subtests, words } from '../helpers/conformance.ts'
import { openContainerd, spoken } from '../helpers/containerd.ts'
import { type CommandResult, until } from '../helpers/service.ts'

const known: Known = { runc: { 'a shared root': 'Debian 12: makes it a slave' } }
const skip = cannotRun('containerd', 'ctr', 'skopeo') || noDeviceProgram()

void t.test('containerd', { skip, timeout: 280_000 }, async (t) => {
  const containerd = await openContainerd(t)
  const { enclave } = containerd
  const { directory } = enclave
  const test = subtests(t, known)

  test('a process, its output, its status', async (t) => {
    const { status, stdout, stderr } = await spoken(
      () => containerd.once('a', [], 'sh', '-c', 'echo out; echo err >&2; exit 3'),
      (said) => said.stdout !== '',
    )
    t.same({ status, stdout, stderr }, { status: 3, stdout: 'out\n', stderr: 'err\n' })
    t.equal(await containerd.ok('task', 'ls', '-q'), '')
    t.equal(await containerd.ok('container', 'ls', '-q'), '')
    const many = await Promise.all([1, 2, 3, 4].map((at) => containerd.once(`m${at}`, [], 'sh', '-c', `exit ${at}`)))
    t.same(
      many.map((result) => result.status),
      [1, 2, 3, 4],
      'four at once',
    )
  })

  test('the runtime’s own words reach the caller', async (t) => {
    const missing = await containerd.once('b', [], 'none')
    t.equal(missing.status, 1)
    t.match(missing.stderr, 'OCI runtime create failed: ')
    t.match(missing.stderr, words.notInPath)
    await containerd.ctr(['container', 'rm', 'b'])
    const absolute = await containerd.once('b', [], '/bin/none')
    t.match(absolute.stderr, words.noFile)
    await containerd.ctr(['container', 'rm', 'b'])
    const denied = await containerd.once('b', [], '/etc/passwd')
    t.match(denied.stderr, words.notExecutable)
    await containerd.ctr(['container', 'rm', 'b'])
    t.equal(await containerd.ok('container', 'ls', '-q'), '')
  })

  test('tasks: list, ps, exec, kill, delete', async (t) => {
    await containerd.detached('c')
    const [, pid = '', status] = (await containerd.task('c')) ?? []
    t.equal(status, 'RUNNING')
    t.ok(existsSync(enclave.path(`/proc/${pid}/exe`)))
    t.match(await containerd.ok('task', 'ps', 'c'), new RegExp(`^${pid}\\b`, 'm'))
    const exec = (id: string, ...command: string[]): Promise<CommandResult> =>
      containerd.ctr(['task', 'exec', '--exec-id', id, ...command])
    const told = (id: string, ...command: string[]): Promise<CommandResult> =>
      spoken(
        () => exec(id, ...command),
        ({ stdout }) => stdout !== '',
      )
    const shell = await told('e1', 'c', 'sh', '-c', 'echo out; echo err >&2; exit 5')
    t.same([shell.status, shell.stdout, shell.stderr], [5, 'out\n', 'err\n'])
    t.match(await told('e2', '--user', '1000:1000', '--cwd', '/tmp', 'c', 'sh', '-c', 'id -u; pwd'), {
      stdout: '1000\n/tmp\n',
    })
    const missing = await exec('e3', 'c', 'none')
    t.match(missing.stderr, 'OCI runtime exec failed: ')
    t.match(missing.stderr, words.notInPath)
    const fed = await spoken(
      () => containerd.ctr(['task', 'exec', '--exec-id', 'e4', 'c', 'cat'], 'through standard input'),
      ({ stdout }) => stdout !== '',
    )
    t.equal(fed.stdout, 'through standard input')
    await exec('e5', '-d', 'c', 'sleep', '55')
    await until(async () => (await containerd.ok('task', 'ps', 'c')).trim().split('\n').length >= 3)
    await containerd.ok('task', 'kill', '-s', 'KILL', '--exec-id', 'e5', 'c')
    t.equal(await containerd.remove('c', 'TERM'), 7, 'SIGTERM was handled')
    t.not((await containerd.ctr(['task', 'kill', 'c'])).status, 0, 'there is nothing to kill')

    await containerd.detached('c', [], ['sleep', '100'])
    t.equal(await containerd.remove('c'), 137, 'SIGKILL')
    // a container in its caller's pid namespace: nothing ends its other processes but the runtime
    await containerd.detached('c', ['--with-ns', 'pid:/proc/1/ns/pid'], ['sh', '-c', 'sleep 201 & sleep 202 & wait'])
    await containerd.ok('task', 'kill', '-a', '-s', 'KILL', 'c')
    t.equal(await containerd.delete('c'), 137)
    await until(async () => !(await enclave.must(['ps', 'ax', '-o', 'args'])).includes('sleep 20'))
  })

  test('a terminal', async (t) => {
    const result = await containerd.terminalRun(
      'd',
      'tty; until stty size 2>/dev/null | grep -v "^0 0"; do :; done; exit 4',
    )
    t.match(result.stdout, '/dev/pts/0')
    t.match(result.stdout, '33 77', 'with the size of the one outside')
    t.equal(result.status, 4)
    const typed = await containerd.terminalRun('d', 'read line; echo "got $line"', 'a line\n')
    t.match(typed.stdout, 'got a line')
    await containerd.detached('d')
    const exec = await containerd.terminal([
      'task',
      'exec',
      '-t',
      '--exec-id',
      'e',
      'd',
      'sh',
      '-c',
      'test -t 0 && tty; exit 6',
    ])
    t.match(exec.stdout, '/dev/pts/0')
    t.equal(exec.status, 6)
    await containerd.remove('d')
  })

  test('pause and resume', async (t) => {
    await containerd.detached('p')
    await containerd.ok('task', 'pause', 'p')
    t.equal((await containerd.task('p'))?.[2], 'PAUSED')
    t.match(await readFile(join(enclave.cgroup, 'default/p/cgroup.events'), 'utf8'), 'frozen 1')
    await containerd.ok('task', 'resume', 'p')
    t.equal((await containerd.task('p'))?.[2], 'RUNNING')
    await containerd.ok('task', 'pause', 'p')
    await containerd.ok('task', 'kill', '-s', 'KILL', 'p')
    await containerd.ctr(['task', 'resume', 'p'])
    t.equal(await containerd.delete('p'), 137, 'a paused one')
  })

  test('metrics', async (t) => {
    await containerd.detached('m')
    const text = await containerd.ok('task', 'metrics', 'm')
    t.match(text, /cpu\.usage_usec +\d+/)
    await containerd.remove('m')
  })

  test('containerd ends and begins again', async (t) => {
    await containerd.detached('r')
    const before = await containerd.task('r')
    await containerd.stop()
    t.ok(existsSync(enclave.path(`/proc/${before?.[1] ?? ''}/exe`)), 'the container goes on')
    await containerd.start()
    t.same(await containerd.task('r'), before)
    t.equal((await containerd.ctr(['task', 'exec', '--exec-id', 'e', 'r', 'true'])).status, 0)
    t.equal(await containerd.remove('r', 'TERM'), 7)
  })

  test('options, seen from inside', async (t) => {
    const output = (options: string[], script: string): Promise<string> => containerd.output('o', options, script)
    t.match(await containerd.once('o', ['--read-only'], 'touch', '/x'), { stderr: 'Read-only file system' })
    t.equal(await output(['--cwd', '/tmp', '--env', 'A=b'], 'pwd; echo $A'), '/tmp\nb')
    t.match(await output([], 'cat /proc/self/status'), /NoNewPrivs:\t1[^]*Seccomp:\t0/)
    t.match(await output(['--allow-new-privs', '--seccomp'], 'cat /proc/self/status'), /NoNewPrivs:\t0[^]*Seccomp:\t2/)
    t.match(
      await output(['--cap-add', 'CAP_SYS_TIME', '--cap-drop', 'CAP_KILL'], 'grep CapEff /proc/self/status'),
      /CapEff:\t00000000aa[0-9a-f]{2}25[cd]b/,
    )
    t.match(await output(['--privileged'], 'touch /proc/sys/kernel/panic && echo writable'), 'writable')
    const shared = join(directory, 'shared')
    mkdirSync(shared, { recursive: true })
    const mount = ['--mount', `type=bind,src=${shared},dst=/data,options=rbind:rw`]
    await output(mount, 'echo made >/data/file')
    t.equal(await readFile(join(shared, 'file'), 'utf8'), 'made\n')
    t.match(
      await output(['--device', '/dev/fuse'], 'ls -l /dev/fuse; exec 3</dev/fuse && echo opened'),
      /^c.* 10, 229 [^]*opened$/,
    )
    const maps = ['--uidmap', '0:100000:2000', '--gidmap', '0:200000:2000']
    t.match(await output(maps, 'cat /proc/self/uid_map; touch /made; stat -c %u:%g /made'), /0 +100000 +2000\n0:0/)
    await containerd.detached('g', ['--cgroup', '/elsewhere/o'])
    t.equal((await readFile(join(enclave.cgroup, 'elsewhere/o/cgroup.procs'), 'utf8')).split('\n').length > 1, true)
    await containerd.remove('g')
    t.notOk(existsSync(join(enclave.cgroup, 'elsewhere/o')))
    const networks = await Promise.all([
      enclave.must(['readlink', '/proc/1/ns/net']),
      containerd.output('o1', ['--net-host'], 'readlink /proc/self/ns/net'),
      containerd.output('o2', [], 'readlink /proc/self/ns/net'),
    ])
    t.equal(networks[1], networks[0].trim())
    t.not(networks[2], networks[1])
  })

  test('a shared root', async (t) => {
    const line = await containerd.output(
      's',
      ['--rootfs-propagation', 'shared'],
      `awk '$5 == "/"' /proc/self/mountinfo`,
    )
    t.match(line, 'shared:')
  })

  test('output to a file, and a pid file', async (t) => {
    const file = join(directory, 'output')
    const pidFile = join(directory, 'pid')
    await containerd.detached(
      'l',
      ['--log-uri', `file://${file}`, '--pid-file', pidFile],
      ['sh', '-c', 'echo to the file; sleep 100'],
    )
    await until(async () => (await readFile(file, 'utf8')) === 'to the file\n')
    t.equal(await readFile(pidFile, 'utf8'), (await containerd.task('l'))?.[1])
    await containerd.remove('l')
  })
})
