import { runtime } from '../../gen/cri.js'
import { CaissonError, type AppArmorProfile, type SecurityProfile, type SelinuxOptions } from '../../index.ts'

const { ProfileType } = runtime.v1.SecurityProfile
type SecurityContext = runtime.v1.LinuxContainerSecurityContext.$Properties

/** The deprecated field counts only without the new one; absent is unconfined. */
export function seccompOf({ seccomp, seccompProfilePath: path }: SecurityContext): SecurityProfile {
  if (seccomp != null) {
    const type = profileType(seccomp, 'seccomp')
    return { type, path: type === 'localhost' ? (seccomp.localhostRef ?? '') : '' }
  }
  if (path === 'runtime/default' || path === 'docker/default') return { type: 'runtime-default', path: '' }
  if (path?.startsWith('localhost/')) return { type: 'localhost', path: path.slice('localhost/'.length) }
  if (path == null || path === '' || path === 'unconfined') return { type: 'unconfined', path: '' }
  throw new CaissonError('ERR_INVALID_ARGUMENT', `seccomp_profile_path "${path}" is not understood`)
}

/** Null: nothing is said. `localhost/` before a profile's name is of the deprecated field; critest writes it in the new one too. */
export function apparmorOf({ apparmor, apparmorProfile: text }: SecurityContext): AppArmorProfile | null {
  if (apparmor != null) {
    const type = profileType(apparmor, 'apparmor')
    if (type !== 'localhost') return { type, name: '' }
    return localProfile(apparmor.localhostRef ?? '')
  }
  if (text == null || text === '') return null
  if (text === 'runtime/default') return { type: 'runtime-default', name: '' }
  if (text === 'unconfined') return { type: 'unconfined', name: '' }
  if (text.startsWith('localhost/')) return localProfile(text)
  throw new CaissonError('ERR_INVALID_ARGUMENT', `apparmor_profile "${text}" is not understood`)
}

function localProfile(text: string): AppArmorProfile {
  const name = text.replace(/^localhost\//, '')
  if (name === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'apparmor: the name of the profile is missing')
  return { type: 'localhost', name }
}

function profileType(profile: runtime.v1.SecurityProfile.$Properties, what: string): SecurityProfile['type'] {
  switch (profile.profileType ?? ProfileType.RuntimeDefault) {
    case ProfileType.RuntimeDefault:
      return 'runtime-default'
    case ProfileType.Unconfined:
      return 'unconfined'
    case ProfileType.Localhost:
      return 'localhost'
    default:
      throw new CaissonError(
        'ERR_INVALID_ARGUMENT',
        `${what}.profile_type ${String(profile.profileType)} is not RuntimeDefault, Unconfined or Localhost`,
      )
  }
}

/** Null: nothing is said. */
export function selinuxOf(options: runtime.v1.SELinuxOption.$Properties | null | undefined): SelinuxOptions | null {
  const { user = '', role = '', type = '', level = '' } = options ?? {}
  const found = { user: user ?? '', role: role ?? '', type: type ?? '', level: level ?? '' }
  return Object.values(found).every((part) => part === '') ? null : found
}
