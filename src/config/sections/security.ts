import { defaultApparmorProfile } from '../../oci/apparmor-default.ts'
import { key, text } from '../schema.ts'

/** `[security]`: what containers get that ask for the runtime's default. */
export const security = {
  /** Profile of AppArmor; "caisson-default" is loaded by the service, another one by the operator; "": none. */
  apparmorProfile: key(text(/^[^\s"]{0,255}$/, 'the name of a profile, or "" for none'), defaultApparmorProfile, {
    reloads: true,
  }),
}
