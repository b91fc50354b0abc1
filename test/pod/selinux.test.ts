import t from 'tap'

import type { ContainerConfig, PodConfig } from '#src/pod/config.ts'
import type { HostFacts } from '#src/pod/host.ts'
import { podPlanInput } from '#src/pod/pod-input.ts'
import { checkSelinux, freeLevel, podLabels, selinuxContexts, selinuxLabels } from '#src/pod/selinux.ts'

const options = { user: '', role: '', type: '', level: '' }
const pod = { ipc: 'pod', selinux: null, privileged: false } as unknown as PodConfig
const container = { privileged: false, pid: 'container', selinux: null } as unknown as ContainerConfig
const host = selinuxContexts('')

t.test('the policy’s contexts, or the usual ones', async (t) => {
  t.match(selinuxContexts('process = "u:r:t:s0"\nfile = "u:object_r:f_t:s0:c1"\n'), {
    process: { user: 'u', role: 'r', type: 't', level: 's0' },
    file: { type: 'f_t', level: 's0:c1' },
  })
  t.match(host, { process: { type: 'container_t' }, file: { type: 'container_file_t' } })
})

t.test('the container’s options, else the pod’s, over the policy’s', async (t) => {
  const level = 's0:c1,c2'
  t.strictSame(selinuxLabels(host, pod, level, container), {
    process: 'system_u:system_r:container_t:s0:c1,c2',
    mount: 'system_u:object_r:container_file_t:s0:c1,c2',
  })
  const ofPod = { ...pod, selinux: { ...options, level: 's0:c3,c4', user: 'staff_u' } }
  t.strictSame(selinuxLabels(host, ofPod, level, container), {
    process: 'staff_u:system_r:container_t:s0:c3,c4',
    mount: 'staff_u:object_r:container_file_t:s0:c3,c4',
  })
  t.match(selinuxLabels(host, ofPod, level, { ...container, selinux: { ...options, type: 'spc_t' } }), {
    process: 'system_u:system_r:spc_t:s0:c3,c4',
  })
  t.match(selinuxLabels(host, ofPod, level, { ...container, selinux: { ...options, level: 's0:c5' } }), {
    mount: 'system_u:object_r:container_file_t:s0:c5',
  })
})

t.test('a pod’s own, of the level of its containers', async (t) => {
  t.strictSame(podLabels(host, pod, 's0:c1,c2'), selinuxLabels(host, pod, 's0:c1,c2', container))
  const asked = { ...pod, selinux: { ...options, level: 's0:c3', type: 'x_t' } }
  t.strictSame(podLabels(host, asked, 's0:c1,c2'), {
    process: 'system_u:system_r:x_t:s0:c3',
    mount: 'system_u:object_r:container_file_t:s0:c3',
  })
  t.equal(podLabels(host, { ...pod, privileged: true }, 's0:c1,c2').process, '')

  const sandbox = {
    network: 'none',
    ipc: 'pod',
    pid: 'pod',
    user: null,
    sysctls: {},
    hostname: 'h',
  } as unknown as PodConfig
  const facts = {} as unknown as HostFacts
  t.match(podPlanInput('1', sandbox, facts, {}, podLabels(host, pod, 's0:c1,c2')), {
    mountLabel: 'system_u:object_r:container_file_t:s0:c1,c2',
  })
  t.notOk('mountLabel' in podPlanInput('1', sandbox, facts, {}, null), 'none where the host has no SELinux')
})

t.test('no label for the privileged, and for those among the host’s processes', async (t) => {
  t.equal(selinuxLabels(host, pod, 's0', { ...container, privileged: true }).process, '')
  t.equal(selinuxLabels(host, pod, 's0', { ...container, pid: 'node' }).process, '')
  t.equal(selinuxLabels(host, { ...pod, ipc: 'node' }, 's0', container).process, '')
  const asked = { ...container, pid: 'node' as const, selinux: { ...options, type: 'x_t' } }
  t.match(selinuxLabels(host, pod, 's0', asked).process, /:x_t:/, 'unless one is asked for')
})

t.test('levels differ from pod to pod', async (t) => {
  const taken = new Set<string>()
  for (let n = 0; n < 2000; n++) {
    const level = freeLevel(`pod-${n % 10}`, taken)
    const [, low = '', high = ''] = /^s0:c(\d+),c(\d+)$/.exec(level) ?? []
    if (!(Number(low) < Number(high) && Number(high) < 1024)) t.fail(level)
    taken.add(level)
  }
  t.equal(taken.size, 2000)
})

t.test('what no context can hold is refused by name', async (t) => {
  for (const level of ['s0', 's0:c1', 's0:c1,c2', 's0:c1.c5', 's0-s0:c0.c1023', '']) checkSelinux({ ...options, level })
  for (const [bad, message] of [
    [{ level: 's0:c1:c2' }, /selinux_options\.level "s0:c1:c2"/],
    [{ level: 'wrong' }, /level "wrong"/],
    [{ type: 'a:b' }, /type "a:b"/],
    [{ user: 'a b' }, /user/],
    [{ role: 'ä' }, /role/],
  ] as const) {
    t.throws(() => checkSelinux({ ...options, ...bad }), { code: 'ERR_INVALID_ARGUMENT', message })
  }
})
