import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const quietMs = 300

/** What a list of measurements is reported as; the least of many is the figure that noise touches least. */
export function summary(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share) => round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))])
  return { n: sorted.length, min: at(0), p10: at(0.1), median: at(0.5), p90: at(0.9) }
}

/** Three significant figures are more than a shared machine can tell. */
export const round = (value) => Number(value.toPrecision(4))

/**
 * One figure of the report. `ours` is divided by each peer and by the limit: below 1 is better than it.
 * Peers that are not there are null.
 */
export function figure({ name, unit, what, ours, phases, peers = {}, limit }) {
  const summaries = (lists) =>
    Object.fromEntries(Object.entries(lists).map(([key, values]) => [key, values === null ? null : summary(values)]))
  const mine = summary(ours)
  const others = summaries(peers)
  const least = limit === undefined ? undefined : summary(limit)
  const ratio = {}
  for (const [peer, theirs] of Object.entries({ ...others, ...(least && { limit: least }) })) {
    ratio[peer] = theirs === null ? null : round(mine.median / theirs.median)
  }
  return {
    name,
    unit,
    what,
    ours: mine,
    ...(phases && { phases: summaries(phases) }),
    peers: others,
    ...(least && { limit: least }),
    ratio,
  }
}

/**
 * Two figures of the same runs, whose measurements are {ms, cpuMs}: by the clock, and of processor time.
 *
 * @param of what figure() takes beside name, unit and what, for a key of the measurements
 */
export function timeFigures(name, what, of) {
  return [
    figure({ name, unit: 'ms', what, ...of('ms') }),
    figure({ name: `${name} cpu`, unit: 'ms', what: `${what}: processor time`, ...of('cpuMs') }),
  ]
}

export const nanoseconds = () => process.hrtime.bigint()
export const msSince = (start) => Number(process.hrtime.bigint() - start) / 1e6

/** Processor time of a process and of what it has waited for, to a hundredth of a second: proc_pid_stat(5). */
export function processorMs(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) * 10
}

/** Until a process has used no processor time for a while: what it does after its answer, as removing files, is not to fall into the next measurement. */
export async function idle(pid) {
  for (let before = -1, now; (now = processorMs(pid)) !== before; before = now) await sleep(quietMs)
}
