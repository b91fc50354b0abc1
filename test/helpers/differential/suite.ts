/** Runs a table of cases under every runtime and compares. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { baseSpec, change, makeRootfs, type Change, type Place } from './bundle.ts'
import { compare, type Difference, type Observations } from './compare.ts'
import { alwaysDifferent } from './differences.ts'
import { report, type Seen } from './observe.ts'
import { play, type Step, unclear } from './script.ts'
import { cannotRun, type Outcome, World } from './world.ts'

export interface Case {
  name: string
  /** How its configuration differs from the base. */
  spec?: Change
  /** What the witness is asked beside its report: `look=/proc/kcore`, `call=mount`. */
  args?: readonly string[]
  /** Files that the bundle needs: after the root file system was made. */
  prepare?: (place: Place) => void
  /** Owner of the root file system's directories. Default: root. */
  owner?: number
  /** The configuration must be refused. */
  refused?: true
  /** What a report must show under ours, and under both peers where nothing else is listed. */
  sees?: Record<string, string | RegExp | undefined>
  /** Instead of one `run`: commands and what to note of them. */
  steps?: readonly Step[]
  /** What is allowed to differ here; each must really differ. */
  differences?: readonly Difference[]
  /** A peer that does something else altogether, with the reason: it is not compared, and must really do so. */
  but?: Partial<Record<'crun' | 'runc', string>>
  skip?: string | false
}

export interface Family {
  skip?: string | false
  /** The base of all its cases. */
  spec?: Change
  differences?: readonly Difference[]
}

/** Declares a test for the family, with a subtest for each case. */
export function differential(name: string, family: Family, cases: readonly Case[]): void {
  t.test(name, { skip: family.skip || cannotRun }, async (t) => {
    const world = await World.open(t)
    if (world.runtimes.length < 2) {
      t.pass('', { skip: `needs two runtimes to compare: ${world.runtimes.map((one) => one.name).join()}` })
      return
    }
    const suite = new Suite(world, family)
    for (const one of cases) await t.test(one.name, { skip: one.skip ?? false }, async (t) => suite.check(t, one))
    t.test('each difference of the family’s list is there', async (t) => {
      for (const difference of (world.complete && family.differences) || []) {
        if (!suite.used.has(difference)) t.fail(`no case differs at ${String(difference.at)}: ${difference.why}`)
      }
    })
  })
}

class Suite {
  readonly used = new Set<Difference>()
  readonly #world: World
  readonly #family: Family
  #base: Promise<Observations> | undefined

  constructor(world: World, family: Family) {
    this.#world = world
    this.#family = family
  }

  async check(t: Test, one: Case): Promise<void> {
    const { seen, complaints } = await this.#observe(one)
    const own = one.differences ?? []
    const problems: string[] = []
    const judges: Observations = {}
    for (const [runtime, observed] of entries(seen)) {
      const reason = runtime === 'caisson-oci' ? undefined : one.but?.[runtime]
      const unexpected =
        runtime === 'caisson-oci' || reason === undefined
          ? expectations(one, observed, [...own, ...(this.#family.differences ?? [])], runtime)
          : []
      problems.push(...unexpected.map((problem) => `${runtime}: ${problem}`))
      // what was refused has shown nothing, and what ran instead shows everything: one line says it
      if (reason === undefined && unexpected.length === 0) judges[runtime] = observed
      else if (runtime === 'caisson-oci') judges[runtime] = observed
    }
    const ours = judges['caisson-oci']
    if (one.steps === undefined && ours?.['outcome'] !== wanted(one)) delete judges['caisson-oci']
    const lists = [...own, ...(this.#family.differences ?? []), ...alwaysDifferent]
    const { problems: differences, used } = compare(judges, lists)
    problems.push(...differences)
    for (const difference of used) this.used.add(difference)
    // what differs from ours alone is not seen among the peers
    for (const difference of this.#world.complete ? own : []) {
      if (!used.has(difference) && difference.sometimes !== true)
        problems.push(`nothing differs any more at ${String(difference.at)}: ${difference.why}`)
    }
    for (const peer of ['crun', 'runc'] as const) {
      const [reason, observed] = [one.but?.[peer], seen[peer]]
      if (reason === undefined || observed === undefined) continue
      const others = Object.values(judges)
      const same =
        expectations(one, observed, [], peer).length === 0 && others.every((other) => alike(observed, other, lists))
      if (same && this.#world.complete) problems.push(`${peer} does the same as the others now, although: ${reason}`)
    }
    if (!(await this.#proves(one, seen))) {
      problems.push('the container is as without the case under every runtime: it proves nothing')
    }
    for (const problem of [...problems, ...complaints]) t.fail(problem, { diagnostic: false })
    t.pass(`compared under ${Object.keys(seen).join(', ')}`)
  }

  /** Whether some runtime shows what the base does not. */
  async #proves(one: Case, seen: Observations): Promise<boolean> {
    if (one.steps !== undefined || one.refused === true || one.sees !== undefined) return true
    this.#base ??= this.#observe({ name: 'base' }).then(({ seen }) => seen)
    const base = await this.#base
    return entries(seen).some(([runtime, a]) => {
      const b = base[runtime] ?? {}
      return Object.keys({ ...a, ...b }).some((path) => a[path] !== b[path] && !/^(args|asked)\./.test(path))
    })
  }

  async #observe(one: Case): Promise<{ seen: Observations; complaints: string[] }> {
    const complaints: string[] = []
    const seen: Observations = {}
    await Promise.all(
      this.#world.runtimes.map(async (runtime) => {
        const place = this.#world.place(runtime)
        const spec = change(baseSpec(one.args ?? [], place.cgroup), place, this.#family.spec)
        makeRootfs(place.rootfs, this.#world.programs, one.owner)
        mkdirSync(place.bundle, { recursive: true })
        one.prepare?.(place)
        const config = change(spec, place, one.spec)
        writeFileSync(join(place.bundle, 'config.json'), JSON.stringify(config))
        if (one.steps === undefined) {
          const outcome = await this.#world.run(runtime, place, ['run', '--bundle', place.bundle, place.id])
          seen[runtime.name] = ran(outcome, place)
          if (runtime.name === 'caisson-oci' && seen[runtime.name]?.['outcome'] === 'refused') {
            complaints.push(...unclear(outcome, place))
          }
        } else {
          const played = await play(this.#world, runtime, place, one.steps)
          seen[runtime.name] = played.seen
          if (runtime.name === 'caisson-oci') complaints.push(...played.complaints)
        }
        const left = await this.#world.clean(place)
        if (runtime.name === 'caisson-oci') complaints.push(...left.map((what) => `left behind: ${what}`))
      }),
    )
    return { seen, complaints }
  }
}

const entries = (seen: Observations): [keyof Observations, Seen][] =>
  Object.entries(seen) as [keyof Observations, Seen][]

/** Exit statuses count here, too, although a general rule allows them to differ. */
const alike = (a: Seen, b: Seen, lists: readonly Difference[]): boolean =>
  Object.keys({ ...a, ...b }).every((path) => a[path] === b[path] || (!path.endsWith(': exit') && named(lists, path)))

const named = (lists: readonly Difference[], path: string): boolean =>
  lists.some(({ at }) => (typeof at === 'string' ? at === path : at.test(path)))

const wanted = (one: Case): string => (one.refused === true ? 'refused' : 'ran')

/** How an observation is not what the case says it must be. */
function expectations(one: Case, seen: Seen, own: readonly Difference[], runtime: string): string[] {
  if (one.steps === undefined && seen['outcome'] !== wanted(one)) {
    return [`${seen['outcome']} instead of ${wanted(one)}: ${seen['error'] ?? ''}`]
  }
  if (one.refused === true) return []
  const listed = (path: string): boolean => runtime !== 'caisson-oci' && named(own, path)
  return Object.entries(one.sees ?? {}).flatMap(([path, expected]) => {
    const value = seen[path]
    const good = expected instanceof RegExp ? value !== undefined && expected.test(value) : value === expected
    return good || listed(path) ? [] : [`${path} is ${value}, expected ${String(expected)}`]
  })
}

/**
 * `error` is for whoever reads a failure: texts are the runtimes' own and not compared. Neither is a peer's status when it
 * refuses, which is 1, or 255 where its child has failed in some ways; ours is held to 1.
 */
function ran(outcome: Outcome, place: Place): Seen {
  const seen = report(outcome.stdout, place)
  if (seen !== undefined) return { ...seen, outcome: 'ran', status: String(outcome.status) }
  const status = place.runtime === 'caisson-oci' || outcome.status === 0 ? String(outcome.status) : '1'
  return { outcome: 'refused', status, error: outcome.stderr.trim() || outcome.stdout.slice(0, 200) }
}
