import { execFileSync } from 'node:child_process'

import { figure } from './statistics.mjs'

const tools = ['libseccomp', 'libseccomp tree']

/**
 * A container's seccomp filter: made from the profile, and loaded. libseccomp is what crun and runc make theirs with, at each
 * start; "tree" is how runc asks for it.
 */
export function measureSeccomp({ program, profile, rounds, notes }) {
  const measured = JSON.parse(execFileSync(program, [profile, String(rounds)], { encoding: 'utf8' }))
  const peersOf = (key) => Object.fromEntries(tools.map((name) => [name, measured[key][name] ?? null]))
  if (measured.compile.libseccomp === undefined) notes.push('libseccomp-dev is not installed')
  const count = Object.entries(measured.instructions).map(([name, [n]]) => `${name} ${n}`)
  notes.push(`seccomp: instructions of docker's profile with its three ABIs: ${count.join(', ')}`)
  const one = (key, what) =>
    figure({ name: `seccomp ${key}`, unit: 'ms', what, ours: measured[key].ours, peers: peersOf(key) })
  return [
    one('compile', "from docker's default profile, parsed, to a program"),
    one('load', 'seccomp(2): the kernel checks and translates the program'),
  ]
}
