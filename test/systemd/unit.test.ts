/** The unit of packaging/ under systemd: start, reload, restart, the watchdog, stop, with a container that none of it touches. */
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { buildBusybox } from '../helpers/image.ts'
import { runScript } from '../helpers/script.ts'
import { busyboxImage, main, project } from '../helpers/service.ts'
import { needsSystemd } from '../helpers/vm.ts'

const script = `
units=/etc/systemd/system config=/etc/caisson/config.toml
mkdir -p $units/caisson.service.d /etc/caisson
cp "$PROJECT/packaging/caisson.service" $units/
caisson() { "$NODE" "$MAIN" "$@"; }
# below this directory, where overlays can be made: the root of this machine is one itself, and it may have no journal
printf '[Service]\\nExecStart=\\nExecStart="%s" "%s" --root "%s" serve\\nStandardError=append:%s\\n' \\
  "$NODE" "$MAIN" "$PWD/root" "$PWD/log" >$units/caisson.service.d/10-program.conf
# a minute is long for a test, and what is stopped does not hear SIGABRT
printf '[Service]\\nWatchdogSec=15\\nTimeoutAbortSec=2\\n' >$units/caisson.service.d/20-watchdog.conf
printf '[network]\\ndriver = "none"\\n[socket]\\ngroup = "daemon"\\n' >$config
show() { systemctl show caisson -p "$1" --value; }
section() { echo "== $1"; }
# waits, at most a minute, until the words after it hold
until_true() { for _ in $(seq 120); do "$@" && return; sleep 0.5; done; echo "never: $*"; }
logged() { grep -q "$1" log; }
active_after() { [ "$(show NRestarts)" = "$1" ] && [ "$(show ActiveState)" = active ]; }
connect() {
  setpriv --reuid 2 --regid "$1" --clear-groups /usr/bin/python3 -c 'import socket
socket.socket(socket.AF_UNIX).connect("/run/caisson/caisson.sock")
print("connected")' 2>&1 | tail -n 1
}
processes() { cat /sys/fs/cgroup/caisson.slice/pods/crio-caisson-*/cgroup.procs; }
unchanged() { processes | cmp - pids && echo unchanged; }

section verified; systemd-analyze verify --man=no $units/caisson.service 2>&1 | grep caisson.service
systemctl daemon-reload
section started; systemctl start caisson; echo "$?"; show ActiveState; show StatusText
section socket; stat -c '%A %U %G' /run/caisson/caisson.sock /run/caisson
section member; connect 1
section other; connect 3
caisson import "$PWD/busybox" ${busyboxImage} >/dev/null || exit 1
caisson run -d --name x ${busyboxImage} sleep 100000 >/dev/null || exit 1
section container; processes >pids; wc -l <pids
section reloaded; printf '[log]\\nlevel = "debug"\\n' >>$config; systemctl reload caisson; echo "$?"
until_true logged 'log.level: ..info.. -> ..debug'; until_true active_after 0; show StatusText
section broken; echo '[log' >>$config; systemctl reload caisson; until_true logged 'cannot be used'; until_true active_after 0
sed -i '$d' $config; unchanged
section restarted; pid=$(show MainPID); systemctl restart caisson; echo "$?"; [ "$(show MainPID)" != "$pid" ]; echo "$?"
unchanged
section fed; sleep 20; show NRestarts; unchanged
section stuck; kill -STOP "$(show MainPID)"; until_true active_after 1; show NRestarts
unchanged; caisson ps | grep -c running
section killed; kill -KILL "$(show MainPID)"; until_true active_after 2; show NRestarts; unchanged
section stopped; systemctl stop caisson; echo "$?"; show ActiveState; show Result; unchanged
section again; systemctl start caisson; echo "$?"; unchanged; caisson rm -f x >/dev/null; echo "$?"
systemctl stop caisson; show Result
section left; ls /sys/fs/cgroup/caisson.slice/pods | grep crio-caisson
true
`

void t.test('the unit', { skip: needsSystemd }, async (t) => {
  const directory = await mkdtemp('/tmp/csn-')
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 500 }))
  await buildBusybox(join(directory, 'busybox'), { compression: 'none' })
  const env = { PROJECT: project, MAIN: main, NODE: process.execPath }
  const { seen, ...result } = await runScript(script, { cwd: directory, timeoutMs: 570_000, env })
  t.equal(result.status, 0, result.stderr)
  t.notMatch(result.stdout, /never:/)
  t.same(seen['verified'], [], 'systemd has nothing to say about it')
  t.same(seen['started'], ['0', 'active', 'serving on /run/caisson/caisson.sock'])
  t.same(seen['socket'], ['srw-rw---- root daemon', 'drwx--x--- root daemon'])
  t.same(seen['member'], ['connected'], 'a member of the group may')
  t.match(seen['other'], [/^PermissionError/])
  t.same(seen['container'], ['1'])
  t.same(seen['reloaded'], ['0', 'serving on /run/caisson/caisson.sock'])
  t.same(seen['broken'], ['unchanged'], 'a configuration that is not valid ends nothing')
  t.same(seen['restarted'], ['0', '0', 'unchanged'], 'another process; the container is the same')
  t.same(seen['fed'], ['0', 'unchanged'], 'the watchdog has nothing to do')
  t.same(seen['stuck'], ['1', 'unchanged', '1'], 'a service that is stopped is replaced')
  t.same(seen['killed'], ['2', 'unchanged'])
  t.same(seen['stopped'], ['0', 'inactive', 'success', 'unchanged'], 'pods go on')
  t.same(seen['again'], ['0', 'unchanged', '0', 'success'])
  t.same(seen['left'], [])
})
