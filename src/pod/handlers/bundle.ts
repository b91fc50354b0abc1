import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { allowAll } from '../../oci/devices.ts'
import type { Mount, Namespace, Process, Spec } from '../../oci/runtime-spec.ts'
import type { Context } from '../context.ts'
import { podHostname } from '../host.ts'
import { containerCgroupName, containerCgroupPath } from '../placement.ts'
import type { Pod } from '../pod.ts'
import type { RuntimeHandler } from './index.ts'

/**
 * What the pod's monitor calls another runtime with (native/monitor/external.h), of one container. The specification is the one that our
 * own runtime would follow, put in terms of a bundle whose parts the monitor has put in place: sources of mounts are at `m/<index>`,
 * idmapped and with their flags already, namespaces to join at `ns/<type>`. Limits are ours (the cgroup has them before the runtime is
 * called), the filter of devices with them; the runtime is told of none, since one without a rule would shut out every device.
 */
export function externalInput(context: Context, pod: Pod, handler: RuntimeHandler, id: string, spec: Spec): object {
  const { layout, host } = context
  // in the mount namespace of the runtime the bundle covers our data, of which it needs nothing: every way there is open to a
  // mapped root
  const bundle = layout.root
  if (`${layout.state}/`.startsWith(`${bundle}/`)) {
    const why = `needs a state directory that is not below the root directory: ${layout.state} is`
    throw new CaissonError('ERR_FAILED_PRECONDITION', `runtime handler "${handler.name}" ${why}`)
  }
  const { process, ...rest } = spec
  // the user is found by the monitor, in the root
  const others = Object.fromEntries(Object.entries(process).filter(([key]) => key !== 'user'))
  const text = JSON.stringify({
    ...rest,
    // as the pod's namespace has it: a runtime with a kernel of its own joins none
    ...(pod.config.network !== 'node' && { hostname: podHostname(pod.config, host) }),
    ociVersion: '1.0.2', // of what is left of it; runtimes refuse versions that are newer than they are
    root: { path: 'rootfs', readonly: spec.root.readonly },
    mounts: spec.mounts.map((mount, index) => ofBundle(mount, join(bundle, 'm', String(index)))),
    linux: {
      ...spec.linux,
      namespaces: spec.linux.namespaces.map((each) => joined(each, bundle)),
      resources: { devices: [allowAll] },
      cgroupsPath: containerCgroupPath(context, pod, id),
      // as other services have it: "rshared" leaves the peer groups of volumes whole
      rootfsPropagation: propagationOf(spec.mounts),
    },
    process: { ...others, user: null },
  })
  const cut = text.lastIndexOf('null}}')
  return {
    name: handler.name,
    path: handler.path,
    root: runtimeRoot(context, pod),
    options: handler.options,
    timeoutMs: handler.timeoutMs,
    placesExecs: handler.placesExecs,
    bundle,
    cgroupRoot: host.cgroupRoot,
    cgroup: containerCgroupName(pod, id),
    head: text.slice(0, cut),
    tail: text.slice(cut + 'null'.length),
  }
}

/** The runtime's own records: they go with the pod, and with a reboot. */
export function runtimeRoot({ layout }: Context, pod: Pod): string {
  return join(layout.podState(pod.id), 'runtime')
}

/** process.json of a command beside the container's first process. */
export function externalProcess(
  process: Process,
  user: { uid: number; gid: number; groups: readonly number[] },
): object {
  return { ...process, user: { uid: user.uid, gid: user.gid, additionalGids: user.groups } }
}

function ofBundle(mount: Mount, source: string): object {
  if (mount.type !== 'bind') return mount
  const options = mount.options.filter((word) => word !== 'idmap').map((word) => (word === 'rro' ? 'ro' : word))
  return { destination: mount.destination, type: 'bind', source, options }
}

function joined({ type, path }: Namespace, bundle: string): Namespace {
  return path === undefined ? { type } : { type, path: join(bundle, 'ns', type) }
}

function propagationOf(mounts: readonly Mount[]): string {
  const has = (word: string): boolean => mounts.some(({ options }) => options.includes(word))
  return has('rshared') ? 'rshared' : has('rslave') ? 'rslave' : 'rprivate'
}
