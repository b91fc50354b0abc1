/** Cases that are several commands: what each answers. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Place } from './bundle.ts'
import { anonymous, flatten, report, type Seen } from './observe.ts'
import type { Outcome, Runtime, World } from './world.ts'

/**
 * A command of the runtime, as it is typed: `create -b $B $ID`. Before it:
 *   `> `   its output is compared, too: JSON by its leaves, anything else as text
 *   `? `   its status is not compared
 *   `env NAME=VALUE `   a variable of the runtime's own
 *   `fds N `   N descriptors after standard error are open
 *   `stdin TEXT | `   its standard input
 *   `& `   begun, not waited for: ends with the case
 * Words: $ID, $B the bundle, $D the case's directory, $CG the cgroup. Instead of a command:
 *   `@await STATUS`   until `state` says so
 *   `@file NAME`   whether the directory's file is there, and whether it holds a pid, text or JSON
 *   `@json NAME`   the leaves of a file
 *   `@text NAME`   its text
 *   `@report NAME`   a file that holds the witness's report
 *   `@cgroup FILE`   content of a file of the cgroup
 *   `@sleep MS`
 * Or a function for what is none of these.
 */
export type Step = string | ((context: Context) => Promise<Seen | undefined> | Seen | undefined)

export interface Context {
  world: World
  runtime: Runtime
  place: Place
  run: (...args: string[]) => Promise<Outcome>
}

export async function play(
  world: World,
  runtime: Runtime,
  place: Place,
  steps: readonly Step[],
): Promise<{ seen: Seen; complaints: string[] }> {
  const context: Context = { world, runtime, place, run: async (...args) => await world.run(runtime, place, args) }
  const player = new Player(context)
  for (const [index, step] of steps.entries()) {
    const name = `${index + 1} ${typeof step === 'string' ? step : 'function'}`
    const seen = typeof step === 'string' ? await player.step(step) : ((await step(context)) ?? {})
    for (const [path, value] of Object.entries(seen)) player.seen[path === '' ? name : `${name}: ${path}`] = value
  }
  await player.end()
  return player
}

class Player {
  readonly seen: Seen = {}
  readonly complaints: string[] = []
  readonly #context: Context
  readonly #begun: Promise<Outcome>[] = []

  constructor(context: Context) {
    this.#context = context
  }

  async step(text: string): Promise<Seen> {
    const { place, runtime, world } = this.#context
    if (text.startsWith('@')) return await this.#action(text)
    let rest = text
    let output = false
    let status = true
    let background = false
    let stdin: string | undefined
    let descriptors: number[] = []
    const env: NodeJS.ProcessEnv = {}
    for (;;) {
      const prefix = /^(> |\? |& |env (\w+)=(\S*) |fds (\d+) |stdin (.*?) \| )/.exec(rest)
      if (prefix === null) break
      rest = rest.slice(prefix[0].length)
      if (prefix[0] === '> ') output = true
      else if (prefix[0] === '? ') status = false
      else if (prefix[0] === '& ') background = true
      else if (prefix[2] !== undefined) env[prefix[2]] = prefix[3]
      else if (prefix[4] !== undefined) descriptors = Array.from({ length: Number(prefix[4]) }, () => 0)
      else stdin = this.#words(prefix[5] ?? '').join(' ')
    }
    const args = this.#words(rest)
    const running = world.run(runtime, place, args, { env, descriptors, ...(stdin !== undefined && { stdin }) })
    if (background) {
      this.#begun.push(running)
      return {}
    }
    const outcome = await running
    if (outcome.status !== 0 && args[0] !== 'exec' && args[0] !== 'run') {
      this.complaints.push(...unclear(outcome, place).map((complaint) => `${text}: ${complaint}`))
    }
    const seen: Seen = status ? { exit: String(outcome.status) } : {}
    if (output) Object.assign(seen, outputOf(outcome.stdout, place))
    // kept for whoever reads a failure
    if (outcome.status !== 0) seen['error'] = outcome.stderr.trim()
    return seen
  }

  #words(text: string): string[] {
    const { place } = this.#context
    const names: Record<string, string> = { $ID: place.id, $B: place.bundle, $D: place.directory, $CG: place.cgroup }
    return [...text.matchAll(/'([^']*)'|\S+/g)].map((word) =>
      (word[1] ?? word[0]).replaceAll(/\$(ID|B|D|CG)\b/g, (name) => names[name] ?? ''),
    )
  }

  async #action(text: string): Promise<Seen> {
    const { place, run } = this.#context
    const [verb = '', ...rest] = text.slice(1).split(' ')
    const argument = rest.join(' ')
    const file = join(place.directory, argument)
    switch (verb) {
      case 'await': {
        let last = ''
        for (let tries = 0; tries < 200; tries++) {
          const { stdout } = await run('state', place.id)
          last = /"status": ?"(\w+)"/.exec(stdout)?.[1] ?? ''
          if (last === argument) return { '': argument }
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        return { '': `still ${last}` }
      }
      case 'file':
        return { '': kindOf(file) }
      case 'json':
        return existsSync(file) ? outputOf(readFileSync(file, 'utf8'), place) : { '': 'absent' }
      case 'text':
        return { '': existsSync(file) ? anonymous(readFileSync(file, 'utf8'), place) : 'absent' }
      case 'report':
        return report(existsSync(file) ? readFileSync(file, 'utf8') : '', place) ?? { '': 'no report' }
      case 'cgroup': {
        const path = join(place.cgroupDirectory, argument)
        return { '': existsSync(path) ? readFileSync(path, 'utf8').trimEnd() : 'absent' }
      }
      case 'write': {
        const [name = '', ...words] = rest
        writeFileSync(join(place.directory, name), words.join(' '))
        return {}
      }
      case 'sleep':
        await new Promise((resolve) => setTimeout(resolve, Number(argument)))
        return {}
      default:
        throw new Error(`no such step: ${text}`)
    }
  }

  /** Whatever still runs is ended through the runtime itself, before its directory goes. */
  async end(): Promise<void> {
    const { place, run } = this.#context
    if (existsSync(place.state)) await run('delete', '--force', place.id)
    await Promise.all(this.#begun)
  }
}

function kindOf(file: string): string {
  if (!existsSync(file)) return 'absent'
  if (!statSync(file).isFile()) return 'no file'
  const text = readFileSync(file, 'utf8')
  return /^\d+$/.test(text) ? 'a pid' : text === '' ? 'empty' : 'text'
}

/** Output of a command: what every container has of its own is left out. */
function outputOf(text: string, place: Place): Seen {
  let seen: Seen
  const lines = text.trimEnd().split('\n')
  try {
    seen = flatten(JSON.parse(text))
  } catch {
    try {
      seen = flatten(lines.map((line) => JSON.parse(line) as unknown))
    } catch {
      seen = { output: text.trimEnd() }
    }
  }
  return Object.fromEntries(
    Object.entries(seen).map(([path, value]) => [
      path === '' ? 'output' : path,
      /(^|\.)created$/.test(path)
        ? String(!Number.isNaN(Date.parse(value)))
        : /(^|\.)pid$/.test(path)
          ? value === '0'
            ? '0'
            : 'a pid'
          : anonymous(value, place),
    ]),
  )
}

/** A failure is one line on standard error, and an entry of the JSON log with the same text. */
export function unclear(outcome: Outcome, place: Place): string[] {
  const lines = outcome.stderr.split('\n').filter((line) => line !== '')
  const complaints: string[] = []
  if (lines.length !== 1) complaints.push(`an error of ${lines.length} lines: ${JSON.stringify(outcome.stderr)}`)
  const log = join(place.directory, 'log.json')
  const entries = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : []
  try {
    const entry = JSON.parse(entries.at(-1) ?? '') as { level?: string; msg?: string; time?: string }
    if (entry.level !== 'error' || !entry.msg || Number.isNaN(Date.parse(entry.time ?? ''))) throw new Error()
    if (!outcome.stderr.includes(entry.msg)) complaints.push(`the log says ${entry.msg}, not ${outcome.stderr}`)
  } catch {
    complaints.push(`the log's last entry is no error: ${entries.at(-1)}`)
  }
  return complaints
}
