import { mkdir } from 'node:fs/promises'

import { CaissonError } from './errors.ts'
import { ImageService, type RegistryOptions, type SnapshotSettings } from './image/index.ts'
import { defaultHostsDirectories } from './image/registry/hosts.ts'
import { buildId, monitorExecutable, native } from './native/index.ts'
import type { NativeFd } from './native/types.ts'
import {
  openNetworks,
  type NetworkOptions,
  type OpenedNetworks,
  type PodRanges,
  type UserNetworks,
} from './network/index.ts'
import type { Networks } from './network/networks.ts'
import { defaultApparmorProfile } from './oci/apparmor-default.ts'
import { AppArmor } from './pod/apparmor.ts'
import { Containers } from './pod/containers.ts'
import type { CgroupDriver, CgroupSettings, Context, DeviceSettings, Logger } from './pod/context.ts'
import { LifecycleEvents } from './pod/events.ts'
import { Checkpoints, type CriuSettings } from './pod/checkpoint/index.ts'
import { RuntimeHandlers, type HandlerStatus, type RuntimeHandlerSettings } from './pod/handlers/index.ts'
import type { LifecycleHooks } from './pod/hooks.ts'
import { readHost, requireDriver, type HostFacts } from './pod/host.ts'
import { Layout } from './pod/layout.ts'
import { defaultPodCgroup } from './pod/placement.ts'
import { Pods } from './pod/pods.ts'
import { recordedLayers } from './pod/recorded-layers.ts'
import { reconcile } from './pod/reconcile.ts'
import { readSelinux } from './pod/selinux.ts'
import { Statistics } from './pod/stats/statistics.ts'
import { UndoStack } from './undo.ts'

export { archiveOfLayout, parsePlatform, writeLayout } from './image/index.ts'
export type {
  ArchiveFormat,
  FsInfo,
  Image,
  ImageDescription,
  ImageDetails,
  LoadedImage,
  Platform,
  PullProgress,
  PushProgress,
  RegistryAuth,
  RegistryOptions,
  SaveOptions,
  SnapshotSettings,
} from './image/index.ts'
export { CaissonError, errorKind, errorMessage, isCaissonError, type ErrorCode } from './errors.ts'
export type {
  NetworkInterface,
  NetworkOptions,
  NetworkStatus,
  NetworkView,
  PodOnNetwork,
  PodRanges,
  TrafficCounts,
  UserNetworks,
} from './network/index.ts'
export type * from './pod/config.ts'
export type { ContainerExit } from './pod/container.ts'
export { firstDifference } from './pod/joins.ts'
export type { CommitOptions } from './pod/root-exchange.ts'
export type { LifecycleEvent, LifecycleEvents, LifecycleEventType } from './pod/events.ts'
export type { CgroupDriver, CgroupSettings, DeviceSettings, Logger } from './pod/context.ts'
export type { HandlerFeatures, HandlerStatus, RuntimeHandlerSettings } from './pod/handlers/index.ts'
export type { HostFacts } from './pod/host.ts'
export type { ContainerAdjustment, ContainerDraft, LifecycleHooks } from './pod/hooks.ts'
export type { Attachment, ExecOptions, StreamedExec } from './pod/exec-stream.ts'
export type { ExecResult, WantedStreams } from './pod/monitor/client.ts'
export type { CgroupDetails, Disk, MetricSource, PodMetricSource } from './pod/stats/details.ts'
export type { InterfaceTraffic } from './pod/stats/pod-networks.ts'
export type { ContainerUsage, PodUsage, Pressure, PressureLine, Usage } from './pod/stats/types.ts'
export type { WritableLayer } from './pod/stats/writable-layers.ts'
export type { ProcessStreams } from './pod/streams.ts'
export { version } from './version.ts'

export interface RuntimeOptions {
  /** Durable data; default `/var/lib/caisson`. */
  root?: string
  /** What a reboot invalidates, best on a tmpfs; default `/run/caisson`. */
  state?: string
  /** Name of this runtime's pods below the root: one process owns it at a time; default `default`. */
  instance?: string
  /** `bound` (default): pods end with this process. `detached`: they go on, and the next one to open takes them over. */
  lease?: 'bound' | 'detached'
  cgroup?: Partial<CgroupSettings>
  /** How images are fetched. `hostsDirectories`, where it is left out: /etc/caisson/certs.d, then containerd's and Docker's. */
  registry?: RegistryOptions
  /** File of the policy who may be pulled, and by whose signatures; default: none, everything. */
  trustPolicy?: string
  /** How root file systems come from the layers of images. */
  snapshots?: SnapshotSettings
  /** Bytes that a container may write to its root file system, and the most that one may ask for; 0 (default): no bound. */
  rootfsSize?: number
  network?: NetworkOptions
  /** Devices of the host in containers. `cdiDirectories`, where it is left out: /etc/cdi, /var/run/cdi. */
  devices?: Partial<DeviceSettings>
  /** Seconds that an OCI hook, of a CDI device or an NRI plugin, may run when it names no limit of its own; default 120. */
  hookTimeout?: number
  /** Other OCI runtimes, by the name that a pod asks for them with; a pod that names none is the built-in one's. */
  runtimeHandlers?: Readonly<Record<string, RuntimeHandlerSettings>>
  /** Checkpoints. `path`, where it is left out: criu is looked for in the usual places; `timeoutMs`: two minutes. */
  criu?: Partial<CriuSettings>
  /** Profile of AppArmor for containers that ask for the default one: ours (the default), one that is loaded, or "" for none. */
  apparmorProfile?: string
  /** Names of images that no prune takes and that a kubelet is told to leave: whole, or beginnings that end with `*`. */
  pinnedImages?: readonly string[]
  logger?: Logger
}

/** What can change while a runtime is open; of `network`: the driver, the spare sandboxes, and of CNI all but `netnsDirectory`. */
export type RuntimeChanges = Pick<
  RuntimeOptions,
  'registry' | 'trustPolicy' | 'rootfsSize' | 'network' | 'apparmorProfile' | 'pinnedImages'
> & { cgroup?: Pick<CgroupSettings, 'missingController'> }

const silent: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

/** Containers as a library: images, pods and containers of one instance. The CRI service is built on nothing else. */
export class Runtime {
  readonly images: ImageService
  readonly pods: Pods
  readonly containers: Containers
  readonly networks: Networks
  /** The networks of the built-in driver: made, listed, removed. */
  readonly userNetworks: UserNetworks
  /** The node's ranges of pod addresses, for plugins of CNI. */
  readonly podRanges: PodRanges
  /** What happens to pods and containers, as it happens. */
  readonly events: LifecycleEvents
  /** What pods and containers use. */
  readonly statistics: Statistics
  /** Containers and pods written to archives, and made of them. */
  readonly checkpoints: Checkpoints
  /** Who makes the cgroups of containers. */
  readonly cgroupDriver: CgroupDriver
  readonly host: HostFacts
  readonly layout: Layout
  /** Identity of the native half. */
  readonly buildId: string = buildId
  /** What a server on a unix socket needs of the native half: SO_PEERCRED, and flock(2). */
  readonly peerCredentials = (fd: number): { pid: number; uid: number; gid: number } => native.peerCredentials(fd)
  readonly lockFile = (path: string): Promise<NativeFd> => native.lockFile(path)
  readonly #context: Context
  readonly #configureNetworks: OpenedNetworks['configure']
  readonly #locks: NativeFd[]
  #closed = false

  private constructor(
    context: Context,
    pods: Pods,
    containers: Containers,
    locks: NativeFd[],
    { userNetworks, podRanges, configure }: OpenedNetworks,
  ) {
    this.#context = context
    this.#configureNetworks = configure
    this.cgroupDriver = context.cgroup.driver
    this.images = context.images
    this.networks = context.networks
    this.userNetworks = userNetworks
    this.podRanges = podRanges
    this.events = context.events
    this.host = context.host
    this.layout = context.layout
    this.pods = pods
    this.containers = containers
    this.checkpoints = new Checkpoints(context, pods, containers)
    this.statistics = new Statistics(context, pods)
    this.#locks = locks
  }

  /**
   * Opens an instance: checks the host, takes its lock, and adopts the pods that an earlier process left.
   *
   * @throws CaissonError ERR_HOST_UNSUPPORTED, ERR_INSTANCE_IN_USE
   */
  static async open(options: RuntimeOptions = {}): Promise<Runtime> {
    const logger = options.logger ?? silent
    const layout = new Layout({
      root: options.root ?? '/var/lib/caisson',
      state: options.state ?? '/run/caisson',
      instance: options.instance ?? 'default',
    })
    const host = await readHost(native)
    const driver = options.cgroup?.driver ?? 'cgroupfs'
    await requireDriver(driver, options.cgroup?.pods ?? '')
    // 0700: images hold set-uid files that no other user may reach (CVE-2021-41103)
    await mkdir(layout.pods, { recursive: true, mode: 0o700 })
    await mkdir(layout.state, { recursive: true, mode: 0o700 })
    const undo = new UndoStack()
    try {
      const locks = await lockInstance(layout)
      undo.push('locks', () => {
        for (const lock of locks) lock.close()
      })
      const images = await ImageService.open({
        root: layout.root,
        native,
        logger,
        instance: layout.instance,
        registry: { hostsDirectories: defaultHostsDirectories, ...options.registry },
        trustPolicy: options.trustPolicy ?? '',
        snapshots: options.snapshots ?? {},
        pinned: options.pinnedImages ?? [],
        recordedLayers: () => recordedLayers(layout.root),
      })
      undo.push('images', () => images.close())
      const opened = await openNetworks(layout.network, options.network ?? {}, native, logger)
      const { networks } = opened
      undo.push('networks', () => networks.close())
      const context: Context = {
        native,
        layout,
        host,
        images,
        networks,
        events: new LifecycleEvents(),
        logger,
        cgroup: {
          driver,
          monitors: options.cgroup?.monitors ?? '/caisson.slice',
          pods: options.cgroup?.pods || defaultPodCgroup[driver],
          missingController: options.cgroup?.missingController ?? 'error',
        },
        devices: { cdiDirectories: ['/etc/cdi', '/var/run/cdi'], ownedByUser: false, ...options.devices },
        handlers: await RuntimeHandlers.open(options.runtimeHandlers ?? {}, logger),
        criu: { path: '', timeoutMs: 120_000, ...options.criu },
        hooks: null,
        hookTimeout: options.hookTimeout ?? 120,
        apparmor: await AppArmor.open(options.apparmorProfile ?? defaultApparmorProfile, logger),
        selinux: await readSelinux(),
        rootfsSize: options.rootfsSize ?? 0,
        lease: options.lease ?? 'bound',
        monitorProgram: await monitorExecutable(),
        buildId,
      }
      const pods = new Pods(context, options.network?.spareSandboxes ?? 0)
      const containers = new Containers(context, pods)
      await reconcile(context, pods, containers)
      images.adoptionComplete()
      pods.spares.refill()
      return new Runtime(context, pods, containers, locks, opened)
    } catch (error) {
      for (const failure of await undo.unwind()) logger.error({ err: failure.error }, `cannot undo ${failure.what}`)
      throw error
    }
  }

  /** The built-in handler, without a name, and those that are configured. */
  handlers(): readonly HandlerStatus[] {
    return this.#context.handlers.status()
  }

  /**
   * Changes what can change while pods live. What is left out stays; what is there already, and what has begun, stays as it was made.
   *
   * @throws CaissonError ERR_IMAGE_REFERENCE for a name to pin that is none; nothing has changed then
   */
  async configure(changes: RuntimeChanges): Promise<void> {
    const { registry, trustPolicy, pinnedImages, network, apparmorProfile, rootfsSize, cgroup } = changes
    const context = this.#context
    await this.images.configure({
      ...(pinnedImages !== undefined && { pinned: pinnedImages }),
      ...(registry !== undefined && { registry: { hostsDirectories: defaultHostsDirectories, ...registry } }),
      ...(trustPolicy !== undefined && { trustPolicy }),
    })
    if (network !== undefined) await this.#configureNetworks(network)
    if (apparmorProfile !== undefined) context.apparmor = await AppArmor.open(apparmorProfile, context.logger)
    context.rootfsSize = rootfsSize ?? context.rootfsSize
    context.cgroup.missingController = cgroup?.missingController ?? context.cgroup.missingController
    if (network?.spareSandboxes !== undefined) await this.pods.spares.resize(network.spareSandboxes)
  }

  /** Who is asked and told at the steps in the life of pods and containers: one at most. */
  set hooks(hooks: LifecycleHooks | null) {
    this.#context.hooks = hooks
  }

  /** Lets go of everything; detached pods go on, bound ones end. Closing twice is harmless. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#context.lease === 'bound') await this.pods.stopAll()
    await this.pods.spares.close()
    this.pods.close()
    await this.networks.close()
    await this.images.close()
    for (const lock of this.#locks) lock.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

async function lockInstance(layout: Layout): Promise<NativeFd[]> {
  const held: NativeFd[] = []
  for (const path of layout.locks) {
    try {
      held.push(await native.lockFile(path))
    } catch (error) {
      for (const lock of held) lock.close()
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      throw new CaissonError('ERR_INSTANCE_IN_USE', `another process holds ${path}: is a service running on it?`)
    }
  }
  return held
}
