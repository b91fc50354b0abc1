import { absolutePath, key, oneOf, type Kind } from '../schema.ts'

const belowTheRoot: Kind<string> = {
  ...absolutePath(),
  allowed: 'an absolute path below the cgroup root, such as "/caisson.slice"',
}

const podParent: Kind<string> = {
  allowed:
    'an absolute path below the cgroup root, or with the driver "systemd" the name of a slice, such as "pods.slice"',
  parse: (value) =>
    typeof value === 'string' && /^([^/\0]+\.slice)?$/.test(value) ? value : belowTheRoot.parse(value),
}

/** `[cgroup]`: where monitors and containers are placed. */
export const cgroup = {
  /** Slice of the monitors; never a pod's cgroup. */
  monitors: key(belowTheRoot, '/caisson.slice'),
  /** Who makes the cgroups of containers; a kubelet is told. Pods that are there keep theirs. */
  driver: key(oneOf('cgroupfs', 'systemd'), 'cgroupfs'),
  /** Parent of containers whose pod names none; "": "/caisson.slice/pods", and with systemd "caisson-pods.slice". */
  pods: key(podParent, ''),
  /** What happens to a limit whose controller the host lacks. */
  missingController: key(oneOf('error', 'warn'), 'error', { reloads: true }),
}
