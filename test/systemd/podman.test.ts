/** podman with its systemd cgroup manager: the runtime under test makes scopes over D-Bus. */
import { mkdtemp, rm } from 'node:fs/promises'
import t from 'tap'
import { cannotRun, runtime } from '../helpers/conformance.ts'
import { saveBusybox } from '../helpers/image.ts'
import { runScript } from '../helpers/script.ts'
import { needsSystemd } from '../helpers/vm.ts'

const script = `
mkdir store || exit 1
printf '[containers]\\nnetns="none"\\n[engine]\\nevents_logger="file"\\n' >containers.conf
export CONTAINERS_CONF=$PWD/containers.conf
podman() {
  command podman --root $PWD/store/root --runroot $PWD/store/run --tmpdir $PWD/store/tmp --storage-driver vfs \\
    --runtime "$RUNTIME" --cgroup-manager systemd "$@" 2>&1
}
section() { echo "== $1"; }
image=localhost/busybox:latest
podman load -q -i busybox.tar >/dev/null || exit 1
section once; podman run --rm --memory 64m --cpus 0.5 $image sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; exit 3'; echo "$?"
section missing; podman run --rm $image none >/dev/null; echo "$?"
section started; podman run -d --name x --pids-limit 40 --memory 64m $image sleep 1000 >id; echo "$?"
unit=libpod-$(cat id).scope
section unit; systemctl show -p ActiveState,TasksMax,MemoryMax,Slice,Delegate,Description "$unit"
section path; cat "/proc/$(podman inspect x --format '{{.State.Pid}}')/cgroup"
section exec; podman exec x cat /sys/fs/cgroup/pids.max
section paused; podman pause x >/dev/null; podman inspect x --format '{{.State.Status}}'; podman unpause x >/dev/null
section updated; podman update --memory 32m --cpus 0.25 x >/dev/null; podman exec x cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max
systemctl daemon-reload
section reloaded; podman exec x cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max
section removed; podman rm -f -t 0 x >/dev/null; echo "$?"
section left; systemctl list-units --plain --all --no-legend 'libpod-*'
`

const skip = needsSystemd || cannotRun('podman', 'conmon', 'skopeo')

void t.test('podman', { skip }, async (t) => {
  const directory = await mkdtemp('/tmp/csn-')
  // what podman leaves behind to clean up after it may still write there
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 500 }))
  await saveBusybox(directory, 'localhost/busybox:latest')
  const { seen, ...result } = await runScript(script, { cwd: directory, timeoutMs: 400_000, env: { RUNTIME: runtime } })
  t.equal(result.status, 0, result.stderr)
  t.same(seen['once'], [String(64 << 20), '50000 100000', '3'])
  t.same(seen['missing'], ['127'])
  t.same(seen['started'], ['0'])
  t.match(
    seen['unit']?.sort().join('\n'),
    /^ActiveState=active\nDelegate=yes\nDescription=.+\nMemoryMax=67108864\nSlice=machine\.slice\nTasksMax=40$/,
  )
  t.match(seen['path']?.join('\n'), /^0::\/machine\.slice\/libpod-[0-9a-f]{64}\.scope(\/container)?$/)
  t.same(seen['exec'], ['40'])
  t.same(seen['paused'], ['paused'])
  const limits = [String(32 << 20), '25000 100000']
  t.same(seen['updated'], limits)
  t.same(seen['reloaded'], limits, 'systemd knows them: a reload does not take them back')
  t.same(seen['removed'], ['0'])
  t.same(seen['left'] ?? [], [], 'no unit is left')
})
