/** Debian's crun and runc as oracles: they run a bundle on the root file system that Caisson runs as an image. */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { existsSync } from 'node:fs'
import { cgroupRoot } from './service.ts'

/**
 * Says everything a process can see of its own circumstances, a section each. `$$` is the container's first process; what is
 * read through /proc/self belongs to a child of it, and is the same.
 */
export const probeScript = `
section() { echo "== $1"; }
section mounts; cat /proc/$$/mountinfo
section status; grep -E '^(Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp|Cap...|SigBlk|SigIgn):' /proc/$$/status
section limits; cat /proc/$$/limits
section cgroup; cat /proc/$$/cgroup
section namespaces; for n in cgroup ipc mnt net pid user uts; do echo "$n $(readlink /proc/$$/ns/$n)"; done
section environment; tr '\\0' '\\n' </proc/$$/environ | sort
section process; echo "cwd $(pwd)"; echo "host $(hostname)"; echo "pid $$"; cut -d' ' -f4-7 /proc/$$/stat; cat /proc/$$/cmdline | tr '\\0' '\\n' | head -n 2
section descriptors; ls /proc/$$/fd
section devices; for f in $(find /dev -maxdepth 1 | sort); do if [ -h $f ]; then echo "$f -> $(readlink $f)"; else stat -c '%n %F %t:%T %a %u:%g' $f; fi; done
section files; stat -c '%n %F %a %u:%g' / /etc /etc/passwd /proc /sys /tmp /dev/pts /dev/shm /dev/mqueue
section masked; for f in /proc/keys /proc/timer_list /sys/firmware; do stat -c '%n %F' $f; ls -A $f 2>&1 | wc -l; done
section refused
(touch /made) 2>&1 | sed 's/.*: //'; (echo 1 >/proc/sys/kernel/panic) 2>&1 | sed 's/.*: //'; (mkdir /sys/fs/cgroup/x) 2>&1 | sed 's/.*: //'
(mount -t tmpfs none /tmp) 2>&1 | sed 's/.*: //'; (unshare -U true) 2>&1 | sed 's/.*: //'; (chroot / true) 2>&1 | sed 's/.*: //'
`

/** Sections of what the probe wrote, by name. */
export type Seen = Record<string, string[]>

export function parseProbe(text: string): Seen {
  const seen: Seen = {}
  let lines: string[] = []
  for (const line of text.trimEnd().split('\n')) {
    const name = /^== (\w+)$/.exec(line)?.[1]
    if (name === undefined) lines.push(line)
    else seen[name] = lines = []
  }
  return seen
}

export interface MountSeen {
  point: string
  type: string
  /** Options of the mount, without those of the file system. */
  options: string[]
  /** `shared`, `master`, or nothing. */
  propagation: string
  /** ro or rw of the file system itself. */
  superblock: string
}

/** mountinfo(5) without what differs between any two containers: ids, device numbers, sources. */
export function parseMounts(lines: readonly string[]): MountSeen[] {
  return lines.map((line) => {
    const [left = '', right = ''] = line.split(' - ')
    const fields = left.split(' ')
    const [type = '', , superOptions = ''] = right.split(' ')
    return {
      point: fields[4] ?? '',
      type,
      options: (fields[5] ?? '').split(',').sort(),
      propagation: fields
        .slice(6)
        .map((field) => field.replace(/:.*/, ''))
        .join(','),
      superblock: superOptions.split(',')[0] ?? '',
    }
  })
}

/** runc and crun need cgroup v2 at /sys/fs/cgroup: on a hybrid host it is bound there, in a mount namespace of their own. */
const inPlace = `
if [ "$1" != /sys/fs/cgroup ]; then mount --bind "$1" /sys/fs/cgroup || exit 125; fi
shift
exec "$@"`

/** Runs a bundle to its end. */
export async function runBundle(
  runtime: 'crun' | 'runc',
  bundle: string,
  config: object,
): Promise<{ stdout: string; stderr: string; status: number | null }> {
  await mkdir(bundle, { recursive: true })
  await writeFile(join(bundle, 'config.json'), JSON.stringify(config))
  const id = `${runtime}-${process.pid}`
  const command = [runtime, '--root', join(bundle, 'state'), 'run', '--bundle', bundle, id]
  return await new Promise((resolve) => {
    const child = execFile(
      'unshare',
      ['--mount', '--propagation', 'private', 'sh', '-c', inPlace, 'sh', cgroupRoot(), ...command],
      { timeout: 60_000, maxBuffer: 16 << 20 },
      (_error, stdout, stderr) => resolve({ stdout, stderr, status: child.exitCode }),
    )
    child.stdin?.end()
  })
}

export const peers = (['crun', 'runc'] as const).filter(
  (name) => existsSync(`/usr/bin/${name}`) || existsSync(`/usr/sbin/${name}`),
)
