/** Judges ours by what crun and runc show: every difference fails unless it is listed with its reason. */
import type { Seen } from './observe.ts'

/** What ours should be where it is not what both peers show. */
export type Follow =
  | 'crun'
  | 'runc'
  /** As one of the two. */
  | 'either'
  /** Whatever it is: no runtime decides it. */
  | 'any'
  /** This, whatever theirs are. */
  | { ours: string | RegExp | undefined }

export interface Difference {
  /** A path of the observation, or a pattern for several. */
  at: string | RegExp
  follow: Follow
  why: string
  /** It depends on what else goes on: that nothing differs is fine, too. */
  sometimes?: boolean
}

export type Observations = Partial<Record<'crun' | 'runc' | 'caisson-oci', Seen>>

export interface Verdict {
  problems: string[]
  /** Those of the list that were needed. */
  used: Set<Difference>
}

const absent = '(absent)'
const shown = (value: string | undefined): string => (value === undefined ? absent : JSON.stringify(value))

/** @param differences the first that names a path counts */
export function compare(seen: Observations, differences: readonly Difference[]): Verdict {
  const { crun, runc, 'caisson-oci': ours } = seen
  const verdict: Verdict = { problems: [], used: new Set() }
  const paths = new Set([crun, runc, ours].flatMap((one) => Object.keys(one ?? {})))
  for (const path of [...paths].sort()) {
    const [c, r, o] = [crun?.[path], runc?.[path], ours?.[path]]
    const values = [...(crun ? [c] : []), ...(runc ? [r] : [])]
    const agreed = values.every((value) => value === values[0])
    const equal = agreed && (ours === undefined || values.length === 0 || o === values[0])
    if (equal) continue
    const all = `crun ${shown(c)}, runc ${shown(r)}, ours ${ours === undefined ? '(did not run)' : shown(o)}`
    const difference = differences.find(({ at }) => (typeof at === 'string' ? at === path : at.test(path)))
    if (difference === undefined) {
      verdict.problems.push(`${path}: ${all}`)
      continue
    }
    verdict.used.add(difference)
    if (ours !== undefined && !follows(difference.follow, path, seen)) {
      verdict.problems.push(`${path}: ${all}; it should be ${described(difference.follow)}: ${difference.why}`)
    }
  }
  return verdict
}

function follows(follow: Follow, path: string, { crun, runc, 'caisson-oci': ours }: Observations): boolean {
  const o = ours?.[path]
  if (follow === 'any') return true
  // one that does something else altogether in this case is no judge: then nothing is known
  if (follow === 'crun') return crun === undefined || o === crun[path]
  if (follow === 'runc') return runc === undefined || o === runc[path]
  if (follow === 'either') return crun === undefined || runc === undefined || o === crun[path] || o === runc[path]
  return follow.ours instanceof RegExp ? o !== undefined && follow.ours.test(o) : o === follow.ours
}

const described = (follow: Follow): string =>
  typeof follow === 'string' ? `as ${follow}` : follow.ours instanceof RegExp ? String(follow.ours) : shown(follow.ours)
