// scripts/bench starts this: measures, and prints one JSON document.
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { availableParallelism, cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'

import { cgroupRoot, probeImage, project, TestService } from '../build/test/helpers/service.js'
import { findTool } from '../build/test/helpers/tools.js'
import { measureContainers } from './containers.mjs'
import { measureLists } from './lists.mjs'
import { measureMemory } from './memory.mjs'
import { measureNetwork } from './network.mjs'
import { measureOci } from './oci.mjs'
import { measurePullMemory } from './pull-memory.mjs'
import { measurePull } from './pull.mjs'
import { measureSeccomp } from './seccomp.mjs'

const idleEnough = 0.85
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    'pull-rounds': { type: 'string', default: '5' },
    pods: { type: 'string', default: '10' },
    only: {
      type: 'string',
      multiple: true,
      default: ['containers', 'oci', 'lists', 'memory', 'network', 'pull', 'seccomp'],
    },
  },
})
const count = (name) => {
  const number = Number(values[name])
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`--${name}: ${values[name]} is not a number of 1 or more`)
  return number
}
const progress = (text) => process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${text}` : `${text}\n`)

const notes = []
const warnings = []
const failures = []
const peers = ['crun', 'runc'].filter((name) => findTool(name) !== undefined)
const idle = await idleShare(1500)
if (idle < idleEnough)
  warnings.push(`processors were ${Math.round(idle * 100)} % idle before the start: others are at work here`)

const directory = await mkdtemp('/tmp/csb-')
// short: a socket's path has 107 bytes
const service = new TestService(await mkdtemp('/tmp/csn-'), {})
const programs = {
  bare: `${project}/build/bench/bare`,
  spawner: `${project}/build/bench/spawner`,
  backed: `${project}/build/bench/backed`,
  memlock: `${project}/build/bench/memlock.so`,
  witness: `${project}/build/Release/caisson-witness`,
  busybox: findTool('busybox'),
}
const common = { service, cgroupRoot: cgroupRoot(), directory, image: probeImage, programs, peers, progress, notes }
const figures = []
let left = []
try {
  await service.configure()
  await service.start()
  await service.importImage(`${project}/build/Release/embedded-image`, probeImage)
  if (values.only.includes('containers'))
    figures.push(...(await measureContainers({ ...common, rounds: count('rounds') })))
  if (values.only.includes('oci')) figures.push(...(await measureOci({ ...common, rounds: count('rounds') })))
  if (values.only.includes('lists')) figures.push(...(await measureLists({ ...common, rounds: 4 * count('rounds') })))
  if (values.only.includes('memory')) {
    const conmon = findTool('conmon') ?? null
    if (conmon === null) notes.push('conmon is not installed')
    figures.push(await measureMemory({ ...common, pods: count('pods'), conmon }))
  }
  if (values.only.includes('network')) figures.push(...(await measureNetwork({ ...common, rounds: count('rounds') })))
  if (values.only.includes('pull')) {
    if (findTool('docker-registry') === undefined) failures.push('pull: docker-registry is not installed')
    else {
      figures.push(...(await measurePull({ ...common, rounds: count('pull-rounds'), failures })))
      figures.push(await measurePullMemory({ ...common, rounds: count('pull-rounds') }))
    }
  }
  if (values.only.includes('seccomp')) {
    const profile = `${project}/native/test/seeds/seccomp/docker.json`
    figures.push(
      ...measureSeccomp({ program: `${project}/build/bench/seccomp`, profile, rounds: count('rounds'), notes }),
    )
  }
  left = await service.finish()
} finally {
  await service.destroy()
  await rm(directory, { recursive: true, force: true })
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
}
if (left.length > 0) failures.push(`left behind: ${left.join('; ')}`)
for (const { name, failed = {} } of figures) {
  for (const [peer, message] of Object.entries(failed)) failures.push(`${name}: ${peer}: ${message}`)
}
for (const text of [...warnings, ...failures]) process.stderr.write(`bench: ${text}\n`)

const report = {
  v: 1,
  at: new Date().toISOString(),
  command: ['scripts/bench', ...process.argv.slice(2)].join(' '),
  caisson: firstLine(process.execPath, 'dist/cli/main.js', 'version'),
  host: {
    kernel: release(),
    processor: cpus()[0]?.model ?? '',
    processors: availableParallelism(),
    node: process.version,
    idleBefore: Number(idle.toFixed(2)),
    loadAfter: loadavg().map((load) => Number(load.toFixed(2))),
  },
  peers: Object.fromEntries(
    [...peers, 'conmon', 'containerd'].map((name) => [
      name,
      findTool(name) === undefined ? null : firstLine(name, '--version'),
    ]),
  ),
  notes,
  warnings,
  failures,
  figures,
}
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
process.exitCode = failures.length > 0 ? 1 : 0

function firstLine(program, ...args) {
  return execFileSync(program, args, { encoding: 'utf8' }).split('\n')[0]
}

/** Share of processor time that nobody used: proc_stat(5), the fields idle and iowait of the first line. */
async function idleShare(ms) {
  const read = async () => {
    const [, ...times] = (await readFile('/proc/stat', 'utf8')).split('\n')[0].split(/\s+/)
    const numbers = times.slice(0, 8).map(Number)
    return { idle: numbers[3] + numbers[4], all: numbers.reduce((sum, time) => sum + time, 0) }
  }
  const before = await read()
  await new Promise((resolve) => setTimeout(resolve, ms))
  const after = await read()
  return (after.idle - before.idle) / (after.all - before.all)
}
