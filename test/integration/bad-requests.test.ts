/** Every field of every request, wrong in every way: the right status, a message that names the field, and nothing left. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  badRequests,
  methods,
  RawClient,
  type Answer,
  type BadRequest,
  type Json,
  type Method,
} from '../helpers/bad-requests.ts'
import { fakeCriu } from '../helpers/fake-criu.ts'
import { NamespaceMode, runPod, startShell, status } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

/** What a bad request may be answered with; all else says that we, or the host, are at fault. */
const fine = new Set([
  'OK',
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'FAILED_PRECONDITION',
  'RESOURCE_EXHAUSTED',
  'UNIMPLEMENTED',
])

const nowhere = 'localhost:1/none:1'
const survey = process.env['CAISSON_SURVEY'] ?? ''

t.test('bad requests', { skip: needsRoot }, async (t) => {
  const criu = fakeCriu(t)
  const tools = criu.directory
  const service = await startService(t, { images: [busyboxImage], config: `[checkpoint]\ncriu = "${criu.path}"` })
  const pod = await runPod(service)
  const containerId = await startShell(service, pod, 'read forever', { stdin: true })
  const { pid } = service
  const metadata = { name: 'bad', namespace: 'test', uid: 'bad', attempt: 1 }
  const config = { metadata, log_directory: `${service.directory}/logs/bad`, linux: {} }
  const container = {
    metadata: { name: 'bad', attempt: 0 },
    image: { image: busyboxImage },
    command: ['/bin/sh'],
    log_path: 'bad.log',
    envs: [{ key: 'A', value: Buffer.from('1').toString('base64') }],
    mounts: [{ container_path: '/data', host_path: `${service.directory}/volume` }],
    devices: [{ container_path: '/dev/other-null', host_path: '/dev/null', permissions: 'rw' }],
    linux: {},
  }
  const image = { image: busyboxImage }
  const [written, output] = [join(tools, 'written'), join(tools, 'output')]
  for (const path of [written, output]) mkdirSync(path)
  await service.runtime.checkpointPod({ podSandboxId: pod.id, outputPath: written })
  const name = (await status(service, containerId)).metadata?.name ?? ''
  const restored = {
    checkpoint_path: written,
    config: {
      ...config,
      hostname: pod.config.hostname ?? '',
      linux: { security_context: { namespace_options: { pid: NamespaceMode.CONTAINER } } },
    },
    container_configs: [{ ...container, metadata: { name, attempt: 0 } }],
  }
  /** What is right of a request, beside what is wrong with it. */
  const bases: Record<string, Json> = {
    'RuntimeService.RunPodSandbox': { config },
    'RuntimeService.CreateContainer': { pod_sandbox_id: pod.id, config: container, sandbox_config: { metadata } },
    'RuntimeService.UpdateContainerResources': { container_id: containerId, linux: {} },
    'RuntimeService.UpdatePodSandboxResources': { pod_sandbox_id: pod.id },
    'RuntimeService.ReopenContainerLog': { container_id: containerId },
    'RuntimeService.ExecSync': { container_id: containerId, cmd: ['/bin/true'], timeout: 5 },
    'RuntimeService.Exec': { container_id: containerId, cmd: ['/bin/true'], stdout: true },
    'RuntimeService.Attach': { container_id: containerId, stdout: true },
    'RuntimeService.PortForward': { pod_sandbox_id: pod.id, port: [80] },
    'RuntimeService.ContainerStatus': { container_id: containerId },
    'RuntimeService.CheckpointContainer': {
      container_id: containerId,
      location: join(tools, 'checkpoint.tar'),
    },
    'RuntimeService.CheckpointPod': { pod_sandbox_id: pod.id, output_path: output },
    'RuntimeService.RestorePod': restored,
    'RuntimeService.UpdateRuntimeConfig': { runtime_config: { network_config: { pod_cidr: '10.1.0.0/24' } } },
    'ImageService.PullImage': { image: { image: nowhere } },
    'ImageService.ImageStatus': { image },
    'Caisson.PullImage': { image: nowhere },
    'Caisson.PushImage': { image: busyboxImage, destination: nowhere },
    'Caisson.ImportImage': { directory: '/nowhere', name: 'localhost/imported:1' },
    'Caisson.TagImage': { image: busyboxImage, name: 'localhost/tagged:1' },
    'Caisson.UntagImage': { image: 'localhost/none:1' },
    'Caisson.InspectImage': { image: busyboxImage },
    'Caisson.SaveImages': { images: [busyboxImage] },
    'Caisson.CreateNetwork': { name: 'bad' },
    'Caisson.RemoveNetwork': { name: 'bad' },
  }
  const client = new RawClient(service.socket)
  t.teardown(() => {
    client.close()
  })
  const lines: string[] = []

  for (const method of methods()) {
    const key = `${method.service}.${method.name}`
    await t.test(key, async (t) => {
      let count = 0
      const seen = new Map<string, Answer>()
      for (const bad of badRequests(method.request, bases[key] ?? {})) {
        const answer = await client.call(method, bad.request)
        count++
        if (answer.code === 'UNIMPLEMENTED') {
          seen.set(answer.code, answer)
          break // not there yet: one answer is like the other
        }
        lines.push([key, bad.field, bad.wrong, answer.code, answer.details.slice(0, 160)].join('\t'))
        const complaint = judge(method, bad, answer)
        if (complaint !== null)
          t.fail(`${bad.field} (${bad.wrong}): ${complaint}: ${answer.code} ${answer.details.slice(0, 300)}`)
        if (answer.code === 'OK') await takeAway(method, answer)
        seen.set(answer.code, answer)
      }
      t.ok(count > 0, `${count} requests: ${[...seen.keys()].join(', ')}`)
    })
  }
  if (survey !== '') writeFileSync(survey, lines.join('\n'))

  async function takeAway(method: Method, { bytes }: Answer): Promise<void> {
    const reply = method.response.decode(bytes) as unknown as { pod_sandbox_id?: string; container_id?: string }
    if (method.name === 'CheckpointPod') {
      for (const each of readdirSync(output)) rmSync(join(output, each))
    }
    if (method.name === 'RunPodSandbox' || method.name === 'RestorePod') {
      await service.runtime.removePodSandbox({ podSandboxId: reply.pod_sandbox_id ?? '' })
    }
    if (method.name === 'CreateContainer') {
      await service.runtime.removeContainer({ containerId: reply.container_id ?? '' })
    }
  }

  t.equal(service.pid, pid, 'the same process')
  const { containers } = await service.runtime.listContainers({})
  t.same(
    containers.map(({ id }) => id),
    [containerId],
    'the container is there, and no other',
  )
  t.match((await service.runtime.containerStatus({ containerId })).status, { state: 1 }, 'and runs')
  t.same(
    (await service.runtime.listPodSandbox({})).items.map(({ id }) => id),
    [pod.id],
  )
  t.notOk(existsSync('/tmp/caisson-traversal'), 'nothing climbed out')
  t.same(await service.leaks('--live'), [])
  const loud = (await service.log()).filter(({ level }) => level >= 50)
  t.same(loud, [], 'nothing that is an error of ours')
})

/**
 * Enums whose value decides nothing: a state that nothing has is no error in a filter; the sandbox's configuration in the request of a
 * container is information, as are a sandbox's own profiles, its groups, ports without a port of the host, and a container's namespaces that
 * are its pod's.
 */
const ignoredEnums = new RegExp(
  [
    '^filter\\.',
    '^sandbox_config\\.',
    '^config\\.port_mappings\\.',
    '\\.namespace_options\\.(network|ipc|userns_options\\.mode)$',
    '\\.windows\\.',
    '^config\\.linux\\.security_context\\.(supplemental_groups_policy|seccomp\\.profile_type|apparmor\\.profile_type)$',
    '^format$',
  ].join('|'),
)

/** @returns what is wrong with the answer, or null */
function judge(method: Method, bad: BadRequest, { code, details }: Answer): string | null {
  const registry = /Pull|Push/.test(method.name) && /^(UNKNOWN|UNAVAILABLE|PERMISSION_DENIED)$/.test(code)
  // what a kubelet knows by a word travels under UNKNOWN
  const named = code === 'UNKNOWN' && /^(ImageVolumeMountFailed|RROUnsupported): /.test(details)
  if (!fine.has(code) && !registry && !named) return 'not the status of a bad request'
  if (code === 'INVALID_ARGUMENT' && !names(bad, details)) return 'the field is not named'
  if (code === 'OK' && /^an? (unknown|negative) value$/.test(bad.wrong) && !ignoredEnums.test(bad.field)) {
    return 'an unknown value was taken for another one'
  }
  if (code === 'OK' && bad.wrong === 'a NUL') return 'a text with a NUL was taken'
  return null
}

/** What a field is called in the specification of OCI, or by those who have to mend it. */
const otherNames: Record<string, RegExp> = {
  image: /image reference/,
  // of a container, which has those of its sandbox
  uids: /userns_options/,
  gids: /userns_options/,
  images: /image reference|image ""/,
  name: /image reference|network|CDI device|^"x/,
  destination: /image reference/,
  subnets: /subnet|^network "bad"/,
  directory: /ENAMETOOLONG.*open/,
  cmd: /^(exec: the command|process\.args)/,
  command: /^process\.args/,
  args: /^process\.args/,
  working_dir: /^process\.cwd/,
  envs: /environment variable|process\.env/,
  key: /environment variable|process\.env/,
  value: /environment variable|process\.env/,
  mounts: /^mount/,
  devices: /^device/,
  host_path: /^(mount|device)/,
  container_path: /^(mount|device)/,
  permissions: /^device/,
  sysctls: /^sysctl/,
  userns_options: /user namespace/,
  add_capabilities: /capability/,
  drop_capabilities: /capability/,
  add_ambient_capabilities: /capability/,
  run_as_username: /^user\.text/,
  cpuset_cpus: /^cpu\.cpus/,
  cpuset_mems: /^cpu\.mems/,
  CDI_devices: /CDI device/,
  changes: /^change/,
}

function names({ field }: BadRequest, details: string): boolean {
  if (field === '') return true
  const text = details.toLowerCase().replaceAll(/[_. ]/g, '')
  return field
    .split('.')
    .slice(-2)
    .some((part) => text.includes(part.toLowerCase().replaceAll('_', '')) || otherNames[part]?.test(details))
}
