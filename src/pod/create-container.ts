import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import { now } from '../clock.ts'
import { readRegularFile } from '../files.ts'
import { parseSignal } from '../oci/process.ts'
import { specJson } from '../oci/spec-json.ts'
import type { Seccomp } from '../oci/runtime-spec.ts'
import type { NativeFd } from '../native/types.ts'
import { cdiParts } from './cdi/apply.ts'
import { openCheckpoint, refused, restoreInput, type CheckpointSource } from './checkpoint/restore.ts'
import type { ContainerConfig, Resources } from './config.ts'
import { Container } from './container.ts'
import { writeContainerRecord } from './container-record.ts'
import { containerSpec, processUser, type ContainerFacts } from './container-spec.ts'
import type { Context } from './context.ts'
import { externalInput } from './handlers/bundle.ts'
import { boundedHooks, makeHookBundle } from './hook-bundle.ts'
import { hostDevices } from './host-devices.ts'
import { newId } from './ids.ts'
import { holdImageVolumes } from './image-volumes.ts'
import { openLogDirectory } from './log-directory.ts'
import type { Pod } from './pod.ts'
import { placeContainer } from './placement.ts'
import { processError } from './process-errors.ts'
import { checkSelinux, selinuxLabels, type SelinuxLabels } from './selinux.ts'
import { endContainer } from './tear-down.ts'
import { annotate, span } from '../tracing/span.ts'
import { UndoStack } from '../undo.ts'

const exitRecordSize = 4096
const seccompProfileMax = 1 << 20
const sigterm = 15

/** Makes a container and brings it to the point before exec; everything is undone when a step fails (law 6). */
export async function createContainer(
  context: Context,
  pod: Pod,
  config: ContainerConfig,
  target: Container | null,
  checkpoint: CheckpointSource | null = null,
): Promise<Container> {
  const { native, layout, host, images, logger } = context
  if (config.privileged && !pod.config.privileged) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'a privileged container needs a privileged pod')
  }
  const handler = context.handlers.get(pod.config.runtimeHandler)
  const id = newId()
  annotate({ 'container.id': id, 'container.name': config.metadata.name })
  const { hooks } = context
  const undo = new UndoStack()
  const held: NativeFd[] = []
  const hold = (fd: NativeFd): NativeFd => {
    held.push(fd)
    return fd
  }
  try {
    const directory = layout.container(pod.id, id)
    // not recursive: a pod that is removed meanwhile must not come back as a directory
    await mkdir(directory, { mode: 0o700 })
    undo.push('container directory', () => rm(directory, { recursive: true, force: true }))
    const restored = checkpoint === null ? null : await openCheckpoint(context, checkpoint, directory)
    const image = images.require(restored?.imageId ?? config.image)
    await images.acquireLease(image.id, id)
    undo.push('image lease', () => images.release(id))
    annotate({ 'image.id': image.id })
    const { config: imageConfig, chain } = await span('image.layers', {}, () => images.resolveLayers(image.id))

    const volumes = await holdImageVolumes(context, id, config, undo)
    const facts = {
      image: imageConfig,
      podFiles: join(layout.podState(pod.id), 'etc'),
      seccompProfile: config.seccomp.type === 'localhost' ? await seccompProfile(config.seccomp.path) : null,
      apparmorProfile: await context.apparmor.profileOf(config),
      selinux: selinuxOf(context, pod, config),
    }
    let devices = await devicesOf(context, config)
    let spec = containerSpec(pod.config, config, { ...facts, ...devices.facts }, host)
    let { resources } = config
    if (hooks !== null) {
      undo.push('lifecycle hooks', () => {
        hooks.containerFailed({ id, pod, config })
      })
      const named = { name: config.image, digest: image.repoDigests[0]?.split('@')[1] ?? '', configDigest: image.id }
      const adjustment = await hooks.containerCreating({ id, pod, config, spec, createdAt: now(), image: named })
      if (adjustment !== null) {
        resources = adjustment.resources
        const adjusted = { ...config, resources, cdiDevices: [...(config.cdiDevices ?? []), ...adjustment.cdiDevices] }
        if (adjustment.cdiDevices.length > 0) devices = await devicesOf(context, adjusted)
        spec = adjustment.apply(containerSpec(pod.config, adjusted, { ...facts, ...devices.facts }, host))
      }
    }
    if (spec.hooks !== undefined && restored !== null)
      throw refused(`container ${config.metadata.name}`, 'has hooks, which have no moment in a restore')
    if (spec.hooks !== undefined) spec = { ...spec, hooks: boundedHooks(spec.hooks, context.hookTimeout) }
    const snapshotter = images.snapshotters.chosen
    const key = { id, directory }
    undo.push('snapshot', () => snapshotter.remove(key))
    const rootfs = await span('snapshot.prepare', { 'snapshotter.name': snapshotter.name }, () =>
      snapshotter.prepare(key, chain, { size: rootfsSizeOf(context, config) }),
    )

    // those of another runtime's container are its own to run
    const { hooks: ociHooks, ...hookless } = spec
    const bundle =
      ociHooks === undefined || handler !== null
        ? null
        : await makeHookBundle(layout, directory, { id, spec, hooks: ociHooks, annotations: config.annotations })

    const { plan, warnings } = native.compileContainer(
      specJson({
        spec: bundle === null ? hookless : spec,
        ...(bundle !== null && { hookBundle: bundle.input }),
        rootfs,
        user: processUser(config, imageConfig, devices.groups),
        imageVolumes: volumes.inputs,
        deviceSources: spec.linux.devices.map(({ path }) => devices.hostPaths.get(path) ?? path),
        volumes: imageConfig.volumes,
        ...(facts.selinux !== null && {
          relabel: [...spec.mounts.keys()].filter((index) => spec.mounts[index]?.relabel === true),
        }),
        createMountSources: true,
        checkPropagation: true,
        lateLookup: true, // a program that is missing is the error of StartContainer: the pod shows RunContainerError
        controllers: host.controllers,
        missingController: context.cgroup.missingController,
      }),
    )
    for (const warning of warnings) logger.warn({ container: id, pod: pod.id }, warning)

    const directoryFd = hold(await native.openDirectory(directory))
    const exitRecord = hold(await native.preallocate(directoryFd.fd, 'exit', exitRecordSize))
    const planFd = hold(native.sealedMemfd('caisson-plan', plan))
    const sealed = (name: string, told: object): NativeFd => hold(native.sealedMemfd(name, Buffer.from(specJson(told))))
    const external = handler === null ? null : sealed('caisson-runtime', externalInput(context, pod, handler, id, spec))
    const told = bundle === null ? null : sealed('caisson-hooks', bundle.told)
    const restoration =
      restored === null ? null : sealed('caisson-restore', await restoreInput(context, pod, id, spec, restored))
    const logDirectory = await openLogDirectory(native, pod.config, config)
    if (logDirectory !== null) hold(logDirectory)

    const { monitor } = pod
    // a stop has let go of the parent already, and nobody would close another one
    if (monitor === null) throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} has stopped`)
    undo.push('container', () => endContainer(context, pod, id))
    const place = await placeContainer(context, pod, id, { plan, late: limitsProcesses(resources) }, { undo, hold })
    const stopSignal = stopSignalOf(config, imageConfig.stopSignal)
    const created = await monitor.createContainer(
      {
        id,
        cgroupName: place.name,
        cgroupMade: place.made,
        logName: logDirectory === null ? null : config.logPath,
        terminal: config.tty,
        stdin: config.stdin,
        stdinOnce: config.stdinOnce,
        targetId: target?.id ?? null,
        stopSignal,
        external: external !== null,
        hooks: told !== null,
        restore: restoration !== null,
      },
      {
        plan: planFd.fd,
        cgroupParent: place.parent.fd,
        exitRecord: exitRecord.fd,
        logDirectory: logDirectory?.fd ?? null,
        called: (external ?? restoration)?.fd ?? null,
        hooks: told?.fd ?? null,
      },
    )
    await place.settle()
    const container = new Container({
      id,
      pod,
      config,
      createdAt: created.createdAt,
      imageId: image.id,
      layers: chain.map((link) => link.directory).toReversed(),
      imageVolumes: volumes.held,
      user: { uid: created.uid, gid: created.gid, groups: created.groups },
      snapshotter: snapshotter.name,
      stopSignal,
      resources,
      process: spec.process,
      seccomp: spec.linux.seccomp ?? null,
      restored: restored !== null,
      pid: created.pid,
    })
    await writeContainerRecord(context, container)
    if (pod.state !== 'ready') throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} has stopped`)
    undo.commit()
    return container
  } catch (error) {
    for (const failure of await undo.unwind()) {
      logger.error({ container: id, pod: pod.id, err: failure.error }, `cannot undo ${failure.what}`)
    }
    throw processError(error, `create container ${config.metadata.name}`)
  } finally {
    for (const fd of held) fd.close()
  }
}

interface DeviceParts {
  facts: Pick<ContainerFacts, 'devices' | 'deviceRules' | 'deviceEnv' | 'deviceMounts' | 'deviceHooks'>
  /** By the path in the container. */
  hostPaths: ReadonlyMap<string, string>
  groups: number[]
}

/** What the host's nodes and devices of CDI bring; where both have a path, the latter. */
async function devicesOf({ devices: settings }: Context, config: ContainerConfig): Promise<DeviceParts> {
  const cdi = await cdiParts(config, settings.cdiDirectories)
  const own = await hostDevices(config, settings.ownedByUser)
  const devices = [
    ...own.devices.filter(({ path }) => !cdi.devices.some((other) => other.path === path)),
    ...cdi.devices,
  ]
  return {
    facts: {
      devices,
      deviceRules: [...own.rules, ...cdi.rules],
      deviceEnv: cdi.env,
      deviceMounts: cdi.mounts,
      deviceHooks: cdi.hooks,
    },
    hostPaths: new Map(devices.map(({ path, hostPath }) => [path, hostPath])),
    groups: cdi.groups,
  }
}

function selinuxOf({ selinux, logger }: Context, pod: Pod, config: ContainerConfig): SelinuxLabels | null {
  checkSelinux(config.selinux)
  if (selinux !== null) return selinuxLabels(selinux, pod.config, pod.selinuxLevel, config)
  // pods are written for clusters whose nodes differ in this, and run on both kinds
  if (config.selinux != null) logger.info({ pod: pod.id }, 'SELinux options have no effect: the host has no SELinux')
  return null
}

/** A bound of a few tasks is written only when the container is there. */
function limitsProcesses(resources: Resources): boolean {
  return Boolean(resources.pids) || resources.unified?.['pids.max'] !== undefined
}

function rootfsSizeOf(context: Context, { rootfsSize = 0 }: ContainerConfig): number {
  const bound = context.rootfsSize
  if (bound !== 0 && rootfsSize > bound) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `a root file system of ${rootfsSize} bytes was asked for; images.rootfs_size allows ${bound}`,
    )
  }
  return rootfsSize === 0 ? bound : rootfsSize
}

function stopSignalOf(config: ContainerConfig, imageSignal: string): number {
  if (config.stopSignal !== 0) return config.stopSignal
  // a name that no kernel knows comes from the image: the default serves better than a refusal
  return parseSignal(imageSignal) ?? sigterm
}

async function seccompProfile(path: string): Promise<Seccomp> {
  const invalid = (why: string, cause?: unknown): CaissonError =>
    new CaissonError('ERR_INVALID_ARGUMENT', `seccomp profile ${path}: ${why}`, { cause })
  if (!path.startsWith('/')) throw invalid('the path is not absolute')
  let text: string
  try {
    text = await readRegularFile(path, seccompProfileMax)
  } catch (error) {
    throw invalid('cannot be read', error)
  }
  try {
    return JSON.parse(text) as Seccomp // its members are checked by core's compiler, property by property
  } catch (error) {
    throw invalid('is not JSON', error)
  }
}
