/** AppArmor on Debian's 6.1: the default profile, profiles of the node, and who gets none. */
import { execFileSync } from 'node:child_process'
import t from 'tap'
import {
  create,
  exec,
  type Pod,
  ProfileType,
  refused,
  runPod,
  runShell,
  type SecurityContext,
  startShell,
} from '../helpers/pods.ts'
import { busyboxImage, startService } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

const current = 'cat /proc/self/attr/apparmor/current'
const local = 'caisson-test-deny-write'
/** Debian's busybox has no other program that asks. */
const policy = `profile ${local} flags=(attach_disconnected, mediate_deleted) {
  network, capability, file, umount, mount, signal, ptrace,
  deny /denied/** w,
}`
const load = (...flags: string[]): unknown =>
  execFileSync('apparmor_parser', ['-K', ...flags], { input: policy, stdio: ['pipe', 'ignore', 'inherit'] })

t.test('AppArmor', { skip: needsVm }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const pod = await runPod(service, { linux: { securityContext: { privileged: true } } })
  const profileOf = async (security: SecurityContext, on: Pod = pod): Promise<string> =>
    (await runShell(service, on, current, { security })).stdout.trim()
  load('-r')
  t.teardown(() => load('-R'))

  t.test('who gets which profile', async (t) => {
    const { RuntimeDefault, Unconfined, Localhost } = ProfileType
    for (const [security, expected] of [
      [{}, 'caisson-default (enforce)'],
      [{ apparmor: { profileType: RuntimeDefault } }, 'caisson-default (enforce)'],
      [{ apparmorProfile: 'runtime/default' }, 'caisson-default (enforce)'],
      [{ apparmor: { profileType: Unconfined } }, 'unconfined'],
      [{ apparmorProfile: 'unconfined' }, 'unconfined'],
      [{ apparmor: { profileType: Localhost, localhostRef: local } }, `${local} (enforce)`],
      [{ apparmor: { profileType: Localhost, localhostRef: `localhost/${local}` } }, `${local} (enforce)`],
      [{ apparmorProfile: `localhost/${local}` }, `${local} (enforce)`],
      [{ apparmor: { profileType: Unconfined }, apparmorProfile: `localhost/${local}` }, 'unconfined'],
      [{ privileged: true }, 'unconfined'],
      [{ privileged: true, apparmor: { profileType: Localhost, localhostRef: local } }, `${local} (enforce)`],
      [{ noNewPrivs: true, runAsUser: { value: 1000 } }, 'caisson-default (enforce)'],
    ] as [SecurityContext, string][]) {
      t.equal(await profileOf(security), expected, JSON.stringify(security))
    }
  })

  t.test('a profile that is not loaded is refused when the container is made', async (t) => {
    const apparmor = { profileType: ProfileType.Localhost, localhostRef: 'caisson-test-absent' }
    const call = create(service, pod, { security: { apparmor } })
    await refused(t, call, 'FAILED_PRECONDITION', /AppArmor profile "caisson-test-absent".*is not loaded/)
    t.same(await service.leaks('--live'), [])
  })

  t.test('the node’s profile is in force, for processes that are executed, too', async (t) => {
    const apparmor = { profileType: ProfileType.Localhost, localhostRef: local }
    const id = await startShell(service, pod, 'mkdir /denied; sleep 1000', { security: { apparmor } })
    const { stdout, stderr } = await exec(service, id, [
      '/bin/sh',
      '-c',
      `${current}; touch /allowed && echo made; touch /denied/x`,
    ])
    t.equal(stdout, `${local} (enforce)\nmade\n`)
    t.match(stderr, /Permission denied/)
    await service.runtime.removeContainer({ containerId: id })
  })

  t.test('what the default profile takes away, and what it leaves', async (t) => {
    // with a capability that the kernel would ask for, and nothing masked: it is the profile that refuses
    const capabilities = { addCapabilities: ['SYS_ADMIN'] }
    const script = `mkdir -p /mnt; mount -t tmpfs none /mnt 2>&1 && echo mounted
      echo x 2>&1 >/proc/sysrq-trigger && echo sysrq
      (echo host >/proc/sys/kernel/domainname) 2>&1 && echo named
      cat /proc/kcore 2>&1 >/dev/null | grep -o 'Permission denied'
      (ls /sys/firmware >/dev/null) 2>&1 | grep -o 'Permission denied'
      echo 65536 >/proc/sys/kernel/shmmax && echo own
      sleep 100 & kill $! && echo signalled
      echo 5 >/proc/self/oom_score_adj && echo adjusted`
    const confined = await runShell(service, pod, script, { security: { capabilities } })
    t.match(confined.stdout, /own\nsignalled\nadjusted\n$/)
    t.notMatch(confined.stdout, /^(mounted|sysrq|named)$/m)
    t.match(
      confined.stdout,
      /mount: .*(denied|not permitted)[^]*sysrq-trigger: Permission denied[^]*domainname: Permission denied/,
    )
    t.equal(
      confined.stdout.match(/^Permission denied$/gm)?.length,
      2,
      'neither the kernel’s memory nor firmware is read',
    )
    const free = { capabilities, apparmor: { profileType: ProfileType.Unconfined } }
    const unconfined = await runShell(service, pod, 'mkdir -p /mnt; mount -t tmpfs none /mnt && echo mounted', {
      security: free,
    })
    t.equal(unconfined.stdout, 'mounted\n')
  })

  await t.test('at the end', async (t) => {
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
