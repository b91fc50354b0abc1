/** Traffic of iperf3 between network namespaces, each named by a process that is in it. */
import { spawn } from 'node:child_process'
import type { Test } from 'tap'
import { until } from './service.ts'
import { run } from './tools.ts'

const within = (pid: number): string => `--net=/proc/${pid}/ns/net`

/** A server that ends with the test. */
export function receiveTraffic(t: Test, pid: number): void {
  const server = spawn('nsenter', [within(pid), 'iperf3', '-s'], { stdio: 'ignore' })
  t.teardown(() => server.kill())
}

/** What a server at `to`, once it listens, receives in so many seconds, in bits per second. */
export async function throughput(pid: number, to: string, seconds = 1): Promise<number> {
  let received = 0
  await until(async () => {
    // where nobody listens yet it says so in its JSON, and exits with 0
    const text = await run('nsenter', within(pid), 'iperf3', '-J', '-t', String(seconds), '-c', to).catch(() => '{}')
    const { end } = JSON.parse(text) as { end?: { sum_received?: { bits_per_second: number } } }
    received = end?.sum_received?.bits_per_second ?? 0
    return received > 0
  }, 20_000)
  return received
}
