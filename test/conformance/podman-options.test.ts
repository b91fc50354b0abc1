/** podman with the runtime under test: what its options make of a container, seen from inside. */
import { mkdirSync, readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cannotRun, type Known, noDeviceProgram, subtests } from '../helpers/conformance.ts'
import { put } from '../helpers/enclave.ts'
import { image, openPodman, sleeps, statusField } from '../helpers/podman.ts'
import { missingTools } from '../helpers/tools.ts'

const known: Known = { runc: { personality: 'Debian 12: does not know it' } }

const skip = cannotRun('podman', 'conmon', 'skopeo') || noDeviceProgram()

void t.test('podman, options', { skip, timeout: 280_000 }, async (t) => {
  const podman = await openPodman(t)
  const { enclave } = podman
  const { directory } = enclave
  const test = subtests(t, known)

  test('user, groups, umask, working directory, environment', async (t) => {
    t.equal(
      await podman.shell(['-u', '1000:2000', '--group-add', '3000'], 'id -u; id -g; id -G'),
      '1000\n2000\n2000 3000',
    )
    t.equal(await podman.shell(['--umask', '0077'], 'umask'), '0077')
    t.equal(await podman.shell(['-w', '/tmp', '-e', 'X=a b'], 'pwd; echo "$X"'), '/tmp\na b')
    t.equal(await podman.shell(['--entrypoint', '/bin/echo'], 'x'), 'sh -c x')
  })

  test('capabilities and new privileges', async (t) => {
    const status = (options: string[]): Promise<string> => podman.output(options, 'cat', '/proc/self/status')
    const none = await status(['--cap-drop', 'all'])
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) t.match(statusField(none, set), /^0+$/, set)
    const kill = await status(['--cap-drop', 'all', '--cap-add', 'KILL'])
    t.equal(BigInt(`0x${statusField(kill, 'CapEff')}`), 1n << 5n)
    const user = await status(['-u', '1000', '--cap-add', 'NET_ADMIN'])
    t.equal((BigInt(`0x${statusField(user, 'CapEff')}`) >> 12n) & 1n, 1n, 'an added one reaches a user: ambient')
    t.equal(statusField(none, 'NoNewPrivs'), '0')
    t.equal(statusField(await status(['--security-opt', 'no-new-privileges']), 'NoNewPrivs'), '1')
    const privileged = await podman.shell(
      ['--privileged'],
      'grep -E "^(CapBnd|Seccomp):" /proc/self/status; ls /dev | grep -c loop-control; touch /proc/sys/kernel/panic && echo writable',
    )
    t.equal(statusField(privileged, 'Seccomp'), '0')
    t.match(privileged, 'writable')
  })

  test('seccomp', async (t) => {
    t.equal(await podman.shell([], 'grep ^Seccomp: /proc/self/status'), 'Seccomp:\t2', "podman's own profile")
    t.equal(
      await podman.shell(['--security-opt', 'seccomp=unconfined'], 'grep ^Seccomp: /proc/self/status'),
      'Seccomp:\t0',
    )
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 100 },
        { names: ['sync'], action: 'SCMP_ACT_KILL_PROCESS' },
      ],
    }
    const file = await put(join(directory, 'seccomp.json'), JSON.stringify(profile))
    const option = ['--security-opt', `seccomp=${file}`]
    t.match((await podman.once(option, 'mkdir', '/tmp/x')).stderr, 'Network is down', 'errno 100')
    t.equal((await podman.once(option, 'sync')).status, 128 + 31, 'SIGSYS')
  })

  test('file systems: read-only, tmpfs, volumes', async (t) => {
    t.match((await podman.once(['--read-only'], 'touch', '/x')).stderr, 'Read-only file system')
    t.equal(await podman.shell(['--read-only'], 'touch /tmp/x /run/x && echo made'), 'made', 'with places to write')
    t.match(
      (await podman.once(['--read-only', '--read-only-tmpfs=false'], 'touch', '/tmp/x')).stderr,
      'Read-only file system',
    )
    const mounts = await podman.output(
      ['--tmpfs', '/scratch:size=1m,mode=1700,noexec', '--shm-size', '2m'],
      'cat',
      '/proc/self/mountinfo',
    )
    t.match(mounts, /\/scratch [^\n]*noexec[^\n]* - tmpfs [^\n]*size=1024k/)
    t.match(mounts, /\/dev\/shm [^\n]* - tmpfs [^\n]*size=2048k/)

    const shared = join(directory, 'shared')
    mkdirSync(shared)
    await put(join(shared, 'file'), 'content')
    t.equal(await podman.shell(['-v', `${shared}:/data`], 'cat /data/file; echo more >/data/new'), 'content')
    t.equal(await readFile(join(shared, 'new'), 'utf8'), 'more\n')
    t.match((await podman.once(['-v', `${shared}:/data:ro`], 'touch', '/data/x')).stderr, 'Read-only file system')
    t.equal(await podman.shell(['-v', `${join(shared, 'file')}:/one/file:ro`], 'cat /one/file'), 'content', 'a file')
    const options = await podman.shell(
      ['-v', `${shared}:/data:nosuid,nodev,noexec,rslave`],
      'grep " /data " /proc/self/mountinfo',
    )
    t.match(options, /nosuid,nodev,noexec/)
    await podman.ok('volume', 'create', 'v')
    await podman.shell(['-v', 'v:/vol'], 'echo kept >/vol/x')
    t.equal(await podman.shell(['-v', 'v:/vol'], 'cat /vol/x'), 'kept', 'a named volume')
    await podman.ok('volume', 'rm', 'v')
    t.match(
      (await podman.once(['--mount', `type=bind,src=${shared}/none,dst=/x`], 'true')).stderr,
      /no such file or directory|statfs/,
    )
  })

  test('devices', async (t) => {
    t.equal(
      await podman.shell([], 'ls /dev | grep -v core | sort | tr "\\n" " "'),
      'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero',
    )
    const option = ['--device', '/dev/fuse:/dev/ours:r']
    t.match(await podman.shell(option, 'ls -l /dev/ours; exec 3</dev/ours && echo opened'), /^c.* 10, 229 [^]*opened$/)
    t.match(
      (await podman.once(option, 'sh', '-c', 'exec 3>/dev/ours')).stderr,
      'Operation not permitted',
      'the device program',
    )
    const made = await podman.once(
      ['--cap-add', 'MKNOD'],
      'sh',
      '-c',
      'mknod /fuse c 10 229 && echo made && exec 3</fuse',
    )
    t.match(made, { stdout: 'made', stderr: 'Operation not permitted' }, 'a node of its own making')
  })

  test('masked and read-only paths', async (t) => {
    const paths = await podman.shell(
      [],
      'cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; (echo 1 >/proc/sys/kernel/panic) 2>&1; true',
    )
    t.match(paths, /^0\n0\n.*Read-only file system/)
    const unmasked = await podman.shell(['--security-opt', 'unmask=ALL'], 'ls /sys/firmware | wc -l')
    t.not(unmasked, '0')
    t.equal(
      await podman.shell(['--security-opt', 'mask=/etc:/proc/cpuinfo'], 'ls /etc | wc -l; wc -c </proc/cpuinfo'),
      '0\n0',
    )
  })

  test('namespaces', async (t) => {
    t.match(await podman.shell(['--hostname', 'name-0'], 'hostname; cat /etc/hostname'), /^name-0\nname-0$/)
    t.equal(await podman.shell(['--network', 'none'], 'ls /sys/class/net'), 'lo')
    t.match(await podman.shell(['--network', 'host', '--uts', 'host'], 'hostname'), /./)
    await podman.ok('run', '-d', '--name', 'n', '--hostname', 'shared', '--ipc', 'shareable', image, ...sleeps)
    const links = 'for n in net ipc pid uts mnt cgroup; do readlink /proc/self/ns/$n; done'
    const first = await podman.ok('exec', 'n', 'sh', '-c', links)
    const joined = await podman.shell(
      ['--network', 'container:n', '--ipc', 'container:n', '--pid', 'container:n', '--uts', 'container:n'],
      links,
    )
    t.same(joined.split('\n').slice(0, 4), first.split('\n').slice(0, 4), 'joined by path')
    t.not(joined.split('\n')[4], first.split('\n')[4], 'mounts of its own')
    t.match(await podman.shell(['--pid', 'container:n'], 'ps -o args'), 'trap')
    await podman.remove('n')
    t.equal(await podman.shell(['--cgroupns', 'private'], 'cat /proc/self/cgroup | grep ^0'), '0::/')
    t.match(await podman.shell(['--cgroupns', 'host'], 'cat /proc/self/cgroup | grep ^0'), 'libpod_parent/libpod-')
    t.match(await podman.shell(['--cgroupns', 'private'], 'grep /sys/fs/cgroup /proc/self/mountinfo'), /ro.* - cgroup2/)
  })

  test('a user namespace', async (t) => {
    const maps = ['--uidmap', '0:100000:2000', '--gidmap', '0:200000:2000']
    const text = await podman.shell(
      maps,
      'cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /made; stat -c %u:%g /made /etc/passwd; grep CapEff /proc/self/status',
    )
    t.match(text, /0 +100000 +2000\n +0 +200000 +2000\n0\n0:0\n0:0\n/)
    await podman.ok('run', '-d', '--name', 'u', ...maps, image, ...sleeps)
    const pid = await podman.inspect('u', '.State.Pid')
    t.equal(
      statusField(await enclave.must(['cat', `/proc/${pid}/status`]), 'Uid').split('\t')[0],
      '100000',
      'from outside',
    )
    t.equal(await podman.ok('exec', '-u', '7', 'u', 'id', '-u'), '7')
    const mount = await podman.run(['exec', 'u', 'mount', '-t', 'tmpfs', 'x', '/tmp'])
    t.not(mount.status, 0, 'without CAP_SYS_ADMIN')
    await podman.remove('u')
  })

  test('limits of the process, sysctls, OOM score', async (t) => {
    t.equal(
      await podman.shell(
        ['--ulimit', 'nofile=500:600', '--ulimit', 'core=0', '--ulimit', 'nproc=512'],
        'ulimit -n; ulimit -Hn; ulimit -c',
      ),
      '500\n600\n0',
    )
    t.equal(await podman.shell(['--sysctl', 'net.ipv4.ip_forward=1'], 'cat /proc/sys/net/ipv4/ip_forward'), '1')
    t.equal(await podman.shell(['--sysctl', 'kernel.msgmax=4096'], 'cat /proc/sys/kernel/msgmax'), '4096')
    t.equal(await podman.shell(['--oom-score-adj', '500'], 'cat /proc/self/oom_score_adj'), '500')
    const refused = await podman.once(['--uts', 'host', '--ipc', 'host', '--sysctl', 'kernel.msgmax=4096'], 'true')
    t.not(refused.status, 0, "not the host's")
  })

  test('personality', async (t) => {
    t.equal(await podman.output(['--personality', 'LINUX32'], 'uname', '-m'), 'i686')
  })

  test(
    '--init',
    async (t) => {
      const text = await podman.shell(
        ['--init'],
        'cat /proc/1/comm; (sleep 0.1 &) ; sleep 0.3; ps -o stat,args | grep -c "^Z" ; true',
      )
      t.match(text, /^(catatonit|podman-init)\n0/, 'orphans are reaped')
    },
    missingTools('catatonit'),
  )

  test('descriptors', async (t) => {
    const file = await put(join(directory, 'handed'), 'handed on')
    const result = await enclave.run(['sh', '-c', 'exec 3<"$0"; exec "$@"', file, 'true'])
    t.equal(result.status, 0)
    const fds = await podman.shell([], 'ls /proc/self/fd | tr "\\n" " "')
    t.match(fds, /^0 1 2 3 ?$/, 'none but its own reach the process')
  })

  test('limits of the cgroup', async (t) => {
    const wanted = await podman.once(['--pids-limit', '50'], 'cat', '/sys/fs/cgroup/pids.max')
    const there = readdirSync(enclave.cgroup).includes('pids.max')
    if (there) t.same([wanted.status, wanted.stdout], [0, '50\n'], wanted.stderr)
    else t.match(wanted, { status: /12[5-7]/, stderr: 'pids' }, 'what the kernel cannot do is an error that names it')
  })
})
