// A process of its own beside bench/lists.mjs: starts and stops so many containers a second until its standard input ends, and then says
// how many there were.
import { connect } from '../dist/cri/grpc/connect.js'
import { requests } from './peers.mjs'

const [socket, image, logDirectory, rate] = process.argv.slice(2)
const { runtime, caisson, ready, close } = connect(socket)
await ready(5000)
const { pod } = requests(image, [], { name: 'churn', uid: 'churn', logDirectory })
const { podSandboxId } = await runtime.runPodSandbox({ config: pod })
let count = 0
const failures = []
const underWay = new Set()
const timer = setInterval(
  () => {
    const life = one(`churn-${++count}`)
      .catch((error) => failures.push(String(error)))
      .finally(() => underWay.delete(life))
    underWay.add(life)
  },
  1000 / Number(rate),
)
process.stdin.resume().on('end', async () => {
  clearInterval(timer)
  await Promise.all(underWay)
  await runtime.removePodSandbox({ podSandboxId })
  process.stdout.write(JSON.stringify({ count, failures }))
  close()
})

async function one(name) {
  const { container } = requests(image, ['exit', '0'], { name, uid: name, logDirectory })
  const { containerId } = await runtime.createContainer({ podSandboxId, config: container, sandboxConfig: pod })
  const exit = caisson.waitContainer({ containerId })
  await runtime.startContainer({ containerId })
  await exit
  await runtime.removeContainer({ containerId })
}
