/** Pods and containers over the CRI, with defaults that a test overrides where it matters. */
import { randomUUID } from 'node:crypto'
import { readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { isCaissonError } from '#src/errors.ts'
import { runtime } from '#src/gen/cri.ts'
import type { Test } from 'tap'
import { busyboxImage, probeImage, type TestService } from './service.ts'

export const { ContainerState, PodSandboxState, NamespaceMode, MountPropagation, SupplementalGroupsPolicy } = runtime.v1
export const { ProfileType } = runtime.v1.SecurityProfile

export type PodConfig = runtime.v1.PodSandboxConfig.$Properties
export type ContainerConfig = runtime.v1.ContainerConfig.$Properties
export type SecurityContext = runtime.v1.LinuxContainerSecurityContext.$Properties
export type ContainerStatus = runtime.v1.ContainerStatus

export interface Pod {
  id: string
  config: PodConfig
}

let counter = 0

/** A new pod's request: its own name and uid, a log directory, its own PID namespace for each container. */
export function podConfig(service: TestService, overrides: PodConfig = {}): PodConfig {
  const name = `pod-${++counter}`
  const { linux, ...rest } = overrides
  const { securityContext, ...linuxRest } = linux ?? {}
  return {
    metadata: { name, namespace: 'test', uid: randomUUID(), attempt: 1 },
    hostname: name,
    logDirectory: join(service.directory, 'logs', name),
    linux: {
      ...linuxRest,
      securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER }, ...securityContext },
    },
    ...rest,
  }
}

export async function runPod(service: TestService, overrides: PodConfig = {}, runtimeHandler = ''): Promise<Pod> {
  const config = podConfig(service, overrides)
  const { podSandboxId } = await service.runtime.runPodSandbox({ config, runtimeHandler })
  return { id: podSandboxId, config }
}

/** A container's request; `image` is a name, `security` goes below `linux`. */
export interface ContainerOptions extends Omit<ContainerConfig, 'image'> {
  image?: string
  security?: SecurityContext
}

export function containerConfig(options: ContainerOptions): ContainerConfig {
  const { image = busyboxImage, security, linux, ...rest } = options
  const name = `c-${++counter}`
  return {
    metadata: { name, attempt: 0 },
    image: { image, userSpecifiedImage: image },
    logPath: `${name}.log`,
    linux: {
      ...linux,
      securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER }, ...security },
    },
    ...rest,
  }
}

export async function create(service: TestService, pod: Pod, options: ContainerOptions): Promise<string> {
  const { containerId } = await service.runtime.createContainer({
    podSandboxId: pod.id,
    config: containerConfig(options),
    sandboxConfig: pod.config,
  })
  return containerId
}

/** Creates and starts. */
export async function start(service: TestService, pod: Pod, options: ContainerOptions): Promise<string> {
  const containerId = await create(service, pod, options)
  await service.runtime.startContainer({ containerId })
  return containerId
}

/** Starts a shell command. */
export function startShell(
  service: TestService,
  pod: Pod,
  script: string,
  options: ContainerOptions = {},
): Promise<string> {
  return start(service, pod, { command: ['/bin/sh', '-c', script], ...options })
}

export async function status(service: TestService, containerId: string): Promise<ContainerStatus> {
  const reply = await service.runtime.containerStatus({ containerId })
  if (reply.status == null) throw new Error('a reply without status')
  // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- decoded: an instance, with every member
  return reply.status as ContainerStatus
}

/** Waits for the end. */
export async function ended(service: TestService, containerId: string): Promise<ContainerStatus> {
  await service.caisson.waitContainer({ containerId }, { timeoutMs: 60_000 })
  return await status(service, containerId)
}

export interface RunResult {
  id: string
  exitCode: number
  stdout: string
  stderr: string
  status: ContainerStatus
}

/** Creates, starts, waits, reads the log, removes. */
export async function run(service: TestService, pod: Pod, options: ContainerOptions): Promise<RunResult> {
  const id = await start(service, pod, options)
  const end = await ended(service, id)
  const { stdout, stderr } = await output(end.logPath)
  await service.runtime.removeContainer({ containerId: id })
  return { id, exitCode: end.exitCode, stdout, stderr, status: end }
}

/** The same with a shell command. */
export function runShell(
  service: TestService,
  pod: Pod,
  script: string,
  options: ContainerOptions = {},
): Promise<RunResult> {
  return run(service, pod, { command: ['/bin/sh', '-c', script], ...options })
}

/** What `probe report` prints. */
export interface Report {
  hostname: string
  pid: number
  uid: number
  gid: number
  groups: number[]
  cwd: string
  args: string[]
  env: string[]
  capabilities: Record<'CapInh' | 'CapPrm' | 'CapEff' | 'CapBnd' | 'CapAmb', string>
  noNewPrivs: string
  seccomp: string
  oomScoreAdj: number
  namespaces: Record<string, string>
  cgroup: string[]
  mounts: [point: string, type: string, options: string][]
}

/** What the probe sees from inside a container. */
export async function report(
  service: TestService,
  pod: Pod,
  options: ContainerOptions = {},
): Promise<Report & { status: ContainerStatus }> {
  const result = await run(service, pod, { image: probeImage, ...options })
  if (result.exitCode !== 0) throw new Error(`the probe ended with ${result.exitCode}: ${result.stderr}`)
  return { ...(JSON.parse(result.stdout) as Report), status: result.status }
}

export interface LogEntry {
  time: string
  stream: string
  tag: string
  text: string
}

/** The records of a CRI log file; anything that is none is an error. */
export function parseLog(content: string): LogEntry[] {
  const records = content.split('\n')
  if (records.pop() !== '') throw new Error('the log does not end with a newline')
  return records.map((record) => {
    const match = /^(\S+) (stdout|stderr) ([PF]) (.*)$/s.exec(record)
    if (match === null) throw new Error(`no log record: ${JSON.stringify(record.slice(0, 200))}`)
    return { time: match[1] ?? '', stream: match[2] ?? '', tag: match[3] ?? '', text: match[4] ?? '' }
  })
}

/** What was written to each stream, joined again. */
export async function output(logPath: string): Promise<{ stdout: string; stderr: string }> {
  const texts = { stdout: '', stderr: '' }
  for (const { stream, tag, text } of parseLog(await readFile(logPath, 'utf8'))) {
    texts[stream === 'stderr' ? 'stderr' : 'stdout'] += tag === 'F' ? `${text}\n` : text
  }
  return texts
}

/** Runs a command in a container; its output as text. */
export async function exec(
  service: TestService,
  containerId: string,
  cmd: string[],
  timeout = 20,
): Promise<{ stdout: string; stderr: string; exitCode: number }> {
  const reply = await service.runtime.execSync({ containerId, cmd, timeout })
  return {
    stdout: Buffer.from(reply.stdout).toString(),
    stderr: Buffer.from(reply.stderr).toString(),
    exitCode: reply.exitCode,
  }
}

/** The host's pid of a container's first process; 0 when it has none. */
export async function pidOf(service: TestService, containerId: string): Promise<number> {
  const { info } = await service.runtime.containerStatus({ containerId, verbose: true })
  return (JSON.parse(info['info'] ?? '{}') as { pid: number }).pid
}

/** The pid of a pod's monitor. */
export async function monitorPid(service: TestService, pod: Pod): Promise<number> {
  const { info } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id, verbose: true })
  return (JSON.parse(info['info'] ?? '{}') as { monitorPid: number }).monitorPid
}

/** `net:[4026531840]` of a process. */
export function namespaceOf(pid: number | 'self', type: string): Promise<string> {
  return readlink(`/proc/${pid}/ns/${type}`)
}

/** Asserts that a call fails with this gRPC status and that its message says each of these. */
export async function refused(
  t: Test,
  call: Promise<unknown>,
  grpcStatus: string,
  ...says: (string | RegExp)[]
): Promise<void> {
  const error: unknown = await call.then(
    () => null,
    (error: unknown) => error,
  )
  if (!isCaissonError(error)) {
    t.fail(`not refused with ${grpcStatus}: ${String(error)}`)
    return
  }
  t.equal(error.fields['status'], grpcStatus, error.message)
  for (const text of says) t.match(error.message, text)
}
