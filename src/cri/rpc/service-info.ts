import { caisson as proto } from '../../gen/caisson.js'
import { type Runtime, version } from '../../index.ts'
import { ns } from '../grpc/int64.ts'

/** What the service knows of itself and the library does not. */
export interface ServiceFacts {
  startedAt: bigint
  socket: string
  /** Path of the configuration file that was read, or empty. */
  config: string
  missingController: 'error' | 'warn'
  monitors: string
}

export function serviceInfo(runtime: Runtime, facts: ServiceFacts): proto.v1.InfoResponse.$Properties {
  const { host, layout } = runtime
  const pods = [...runtime.pods.all()]
  const containers = [...runtime.containers.all()]
  const count = <State>(list: readonly { state: State }[], state: State): number =>
    list.filter((item) => item.state === state).length
  return {
    version,
    buildId: runtime.buildId,
    pid: process.pid,
    startedAt: ns(facts.startedAt),
    kernel: host.kernel,
    architecture: host.architecture,
    nodeVersion: process.version,
    features: { ...host.features },
    cgroup: {
      root: host.cgroupRoot,
      controllers: [...host.controllers],
      hybrid: host.hybrid,
      monitors: facts.monitors,
      missingControllerIsError: facts.missingController === 'error',
    },
    paths: { root: layout.root, state: layout.state, socket: facts.socket, config: facts.config },
    counts: {
      podsReady: count(pods, 'ready'),
      podsNotReady: count(pods, 'notready'),
      containersCreated: count(containers, 'created'),
      containersRunning: count(containers, 'running'),
      containersExited: count(containers, 'exited'),
      images: runtime.images.list().length,
    },
    cgroupDriver:
      proto.v1.CgroupDriver[runtime.cgroupDriver === 'systemd' ? 'CGROUP_DRIVER_SYSTEMD' : 'CGROUP_DRIVER_CGROUPFS'],
  }
}
