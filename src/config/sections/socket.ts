import { key, text } from '../schema.ts'

/** `[socket]`: who may use the service's socket. */
export const socket = {
  /** A group of /etc/group, or its number, whose members may connect beside root; "": nobody. They are as good as root. */
  group: key(text(/^([a-z_][a-z0-9_-]{0,31}\$?|\d{1,9})?$/i, 'the name or the number of a group, or "" for none'), ''),
}
