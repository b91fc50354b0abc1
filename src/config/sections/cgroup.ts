import { absolutePath, key, oneOf, type Kind } from '../schema.ts'

const belowTheRoot: Kind<string> = {
  ...absolutePath(),
  allowed: 'an absolute path below the cgroup root, such as "/caisson.slice"',
}

/** `[cgroup]`: where monitors and containers are placed. */
export const cgroup = {
  /** Slice of the monitors; never a pod's cgroup. */
  monitors: key(belowTheRoot, '/caisson.slice'),
  /** Parent of containers whose pod names none. */
  pods: key(belowTheRoot, '/caisson.slice/pods'),
  /** What happens to a limit whose controller the host lacks. */
  missingController: key(oneOf('error', 'warn'), 'error'),
}
