/**
 * podman of a user without privileges: the runtime under test is called as the root of a user namespace that podman made, with a
 * user's cgroup, that is none of its own.
 */
import { existsSync } from 'node:fs'
import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cannotRun, type Known, runtime, subtests, words } from '../helpers/conformance.ts'
import { openEnclave, put, quoted } from '../helpers/enclave.ts'
import { image, sleeps } from '../helpers/podman.ts'
import { saveBusybox } from '../helpers/image.ts'
import { type CommandResult, until } from '../helpers/service.ts'

const known: Known = {
  crun: {
    'namespaces of another container':
      'without a cgroup it leaves processes of a shared pid namespace, and podman waits',
  },
  runc: { 'namespaces of another container': 'Debian 12: without a cgroup it kills none of a shared pid namespace' },
}
const uid = '54321'

const configuration = `
[containers]
netns = "none"
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["crun", "runc", "caisson-oci"]
`

/** A user with subordinate ids, in an /etc of the room's own. */
const account = `
set -e
cp -a /etc /run/etc
echo "rootless:x:${uid}:${uid}::$1:/bin/sh" >>/run/etc/passwd
echo "rootless:x:${uid}:" >>/run/etc/group
echo "rootless:200000:65536" | tee /run/etc/subuid >/run/etc/subgid
mount --bind /run/etc /etc
mkdir -p /run/user/${uid}
chown -R ${uid}:${uid} /run/user/${uid} "$1"`

const skip = cannotRun('podman', 'conmon', 'skopeo', 'newuidmap', 'setpriv')

void t.test('podman, rootless', { skip, timeout: 280_000 }, async (t) => {
  // podman keeps a process that holds its user namespace
  const enclave = await openEnclave(t, [/^process (catatonit|podman|\/usr\/bin\/podman)/, /^mount \/etc$/])
  const home = join(enclave.directory, 'home')
  await mkdir(home)
  await chmod(home, 0o755)
  await put(join(home, 'containers.conf'), configuration)
  const archive = await saveBusybox(home, image)
  await enclave.must(['sh', '-c', account, 'sh', home])
  const as = ['setpriv', '--reuid', uid, '--regid', uid, '--clear-groups', '--inh-caps=-all']
  const env = { HOME: home, XDG_RUNTIME_DIR: `/run/user/${uid}`, CONTAINERS_CONF: join(home, 'containers.conf') }
  const command = [...as, 'podman', '--storage-driver', 'vfs', '--runtime', runtime]
  const podman = (args: readonly string[], input = ''): Promise<CommandResult> =>
    enclave.run([...command, ...args], { env, input, cwd: home })
  const ok = async (...args: string[]): Promise<string> => {
    const { status, signal, stdout, stderr } = await podman(args)
    if (status !== 0) throw new Error(`podman ${args.join(' ')}: ${String(status ?? signal)}: ${stderr.trim()}`)
    return stdout.trimEnd()
  }
  const shell = (options: readonly string[], script: string): Promise<string> =>
    ok('run', '--rm', ...options, image, 'sh', '-c', script)
  await ok('load', '-q', '-i', archive)

  const test = subtests(t, known)

  test('a process, its output, its status', async (t) => {
    const { status, stdout, stderr } = await podman([
      'run',
      '--rm',
      image,
      'sh',
      '-c',
      'id -u; cat /proc/self/uid_map; exit 3',
    ])
    t.equal(status, 3, stderr)
    t.match(stdout, new RegExp(`^0\\n +0 +${uid} +1\\n +1 +200000 +65536\\n$`))
    const missing = await podman(['run', '--rm', image, 'none'])
    t.equal(missing.status, 127)
    t.match(missing.stderr, words.notInPath)
    t.equal((await podman(['run', '--rm', image, '/etc/passwd'])).status, 126)
    t.equal(await ok('ps', '-aq'), '')
  })

  test('exec, a terminal, stop', async (t) => {
    await ok('run', '-d', '--name', 'x', image, ...sleeps)
    t.equal(await ok('exec', 'x', 'id', '-u'), '0')
    const failed = await podman(['exec', '-u', '5:6', 'x', 'sh', '-c', 'id -u; id -g; exit 9'])
    t.same([failed.status, failed.stdout], [9, '5\n6\n'])
    const line = quoted([
      ...command,
      'exec',
      '-it',
      'x',
      'sh',
      '-c',
      'tty; until stty size 2>/dev/null | grep -v "^0 0"; do :; done',
    ])
    t.match((await enclave.terminal(line, { env, cwd: home })).stdout, /\/dev\/pts\/0\s+33 77/)
    await until(async () => (await ok('logs', 'x')) === 'ready')
    await ok('stop', '-t', '10', 'x')
    t.equal(await ok('inspect', 'x', '--format', '{{.State.ExitCode}}'), '7')
    await ok('rm', 'x')
  })

  test('devices are lent, mounts are made', async (t) => {
    const text = await shell(
      [],
      'echo lost >/dev/null; head -c 4 /dev/zero | wc -c; ls /dev | grep -v core | tr "\\n" " "',
    )
    t.equal(text, '4\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero')
    t.match(await podman(['run', '--rm', '--read-only', image, 'touch', '/x']), { stderr: 'Read-only file system' })
    await put(join(home, 'file'), 'content')
    t.equal(
      await shell(['-v', `${home}/file:/file:ro`, '--tmpfs', '/t'], 'cat /file; grep -c " /t " /proc/self/mountinfo'),
      'content1',
    )
    t.equal(await shell(['-u', '1000'], 'id -u; grep CapEff /proc/self/status'), '1000\nCapEff:\t0000000000000000')
  })

  test('a user namespace in it', async (t) => {
    t.equal(await shell(['--userns', 'keep-id'], 'id -u'), uid)
    t.match(
      await shell(
        ['--uidmap', '0:10:100', '--gidmap', '0:10:100'],
        'cat /proc/self/uid_map; touch /made; stat -c %u /made',
      ),
      /^ +0 +10 +100\n0$/,
    )
  })

  test('namespaces of another container', async (t) => {
    await ok('run', '-d', '--name', 'n', '--ipc', 'shareable', '--hostname', 'first', image, ...sleeps)
    const links = 'for n in net ipc pid uts; do readlink /proc/self/ns/$n; done'
    const first = await ok('exec', 'n', 'sh', '-c', links)
    const options = ['net', 'ipc', 'pid', 'uts'].flatMap((name) => [`--${name}`, 'container:n'])
    t.equal(await shell(options, links), first)
    t.match(await shell(['--pid', 'container:n'], 'ps -o args'), 'trap')
    await ok('run', '-d', '--name', 'p', '--pid', 'container:n', image, ...sleeps)
    t.equal(await ok('exec', 'p', 'id', '-u'), '0', 'an exec into the second')
    await ok('rm', '-f', '-t', '0', 'p')
    await ok('rm', '-f', '-t', '0', 'n')
    await ok('run', '-d', '--name', 'h', '--pid', 'host', '--net', 'host', image, ...sleeps)
    t.equal(await ok('exec', 'h', 'id', '-u'), '0', "with the caller's own")
    await ok('rm', '-f', '-t', '0', 'h')
  })

  t.notOk(existsSync(join(enclave.cgroup, 'libpod_parent')), 'no cgroup was there for it')
})
