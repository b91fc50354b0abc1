// A container from an OCI image layout, through the library, without a service:
//   node examples/run.mjs [COMMAND…]                as root; the embedded image of the build, no network needed
//   node examples/run.mjs --image REFERENCE COMMAND…   pulled first
// Pods of a runtime with a bound lease (the default) end with this process, whatever ends it.
// @ts-check
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { isCaissonError, Runtime } from 'caisson'

/** @typedef {import('caisson').PodConfig} PodConfig */
/** @typedef {import('caisson').ContainerConfig} ContainerConfig */

const args = process.argv.slice(2)
const reference = args[0] === '--image' ? args.splice(0, 2)[1] : undefined
const embedded = fileURLToPath(new URL('../build/Release/embedded-image', import.meta.url))

const directory = await mkdtemp(join(tmpdir(), 'caisson-example-'))
try {
  await using(
    await Runtime.open({
      root: join(directory, 'root'),
      state: join(directory, 'state'),
      cgroup: { monitors: '/caisson-example.slice', pods: '/caisson-example.slice/pods' },
    }),
    async (runtime) => {
      const image =
        reference === undefined
          ? await runtime.images.importLayout(embedded, 'localhost/embedded:latest')
          : await runtime.images.pull(reference, {
              onProgress: ({ layer, state, size }) => {
                if (state === 'done') console.error(`${layer.slice(7, 19)} done, ${size} bytes`)
              },
            })

      const podId = await runtime.pods.run(pod('example', join(directory, 'logs')))
      try {
        const containerId = await runtime.containers.create(podId, container('main', image.id, args))
        await runtime.containers.start(containerId)
        const exit = await runtime.containers.wait(containerId)

        process.stdout.write(await output(runtime.containers.status(containerId).logPath))
        console.error(
          `exit code ${exit.exitCode}, ${exit.reason}, ${Number(exit.finishedAt - exit.startedAt) / 1e6} ms`,
        )
        process.exitCode = exit.exitCode
      } finally {
        await runtime.pods.remove(podId)
      }
    },
  )
} catch (error) {
  if (!isCaissonError(error)) throw error
  console.error(`${error.code}: ${error.message}`)
  process.exitCode = 125
} finally {
  await rm(directory, { recursive: true, force: true })
}

/**
 * `await using runtime = …`, for the Node versions that do not know it.
 *
 * @param {Runtime} runtime
 * @param {(runtime: Runtime) => Promise<void>} work
 */
async function using(runtime, work) {
  try {
    await work(runtime)
  } finally {
    await runtime.close()
  }
}

/**
 * A pod with namespaces of its own and no network but loopback.
 *
 * @param {string} name
 * @param {string} logDirectory
 * @returns {PodConfig}
 */
function pod(name, logDirectory) {
  return {
    metadata: { name, namespace: 'example', uid: name, attempt: 0 },
    hostname: name,
    logDirectory,
    dns: { servers: [], searches: [], options: [] },
    labels: {},
    annotations: {},
    cgroupParent: '',
    sysctls: {},
    network: 'pod',
    pid: 'container',
    ipc: 'pod',
    user: null,
    privileged: false,
    runtimeHandler: '',
  }
}

/**
 * The image's own process, or another command in it, with the default capabilities and system call filter.
 *
 * @param {string} name
 * @param {string} image
 * @param {string[]} command
 * @returns {ContainerConfig}
 */
function container(name, image, command) {
  return {
    metadata: { name, attempt: 0 },
    image,
    userSpecifiedImage: image,
    command,
    args: [],
    workingDir: '',
    env: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    logPath: `${name}.log`,
    stdin: false,
    stdinOnce: false,
    tty: false,
    stopSignal: 0,
    privileged: false,
    pid: 'container',
    targetId: '',
    capabilities: { add: [], drop: [], ambient: [] },
    runAsUser: null,
    runAsGroup: null,
    runAsUsername: '',
    supplementalGroups: [],
    supplementalGroupsPolicy: 'merge',
    readonlyRootfs: false,
    noNewPrivs: true,
    maskedPaths: ['/proc/kcore', '/proc/keys', '/sys/firmware'],
    readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    seccomp: { type: 'runtime-default', path: '' },
    resources: {},
  }
}

/**
 * The text of a CRI log: `<time> <stream> <P|F> <text>` a line; P: the line goes on in the next one.
 *
 * @param {string} path
 */
async function output(path) {
  const lines = (await readFile(path, 'utf8')).split('\n').slice(0, -1)
  return lines
    .map((line) => {
      const [, , tag = '', ...text] = line.split(' ')
      return text.join(' ') + (tag === 'F' ? '\n' : '')
    })
    .join('')
}
