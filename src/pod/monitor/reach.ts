import type { Context } from '../context.ts'
import { isMonitorGone, type MonitorClient } from './client.ts'
import { connectMonitor } from './spawn.ts'

/** @returns undefined when nobody answers in time; a monitor of another build replaces its program first */
export async function reachMonitor(context: Context, id: string): Promise<MonitorClient | undefined> {
  const client = await connectMonitor(context.native, context.layout.podState(id))
  if (client === undefined) return undefined
  try {
    const hello = await client.hello(context.lease)
    if (hello.buildId !== context.buildId) {
      context.logger.info(
        { pod: id, from: hello.buildId, to: context.buildId },
        'replacing the program of the pod’s monitor',
      )
      await client.reexec(context.monitorProgram.fd)
    }
    return client
  } catch (error) {
    client.close()
    if (!isMonitorGone(error)) throw error
    context.logger.warn({ pod: id, err: error }, 'the monitor of the pod ends, or does not answer')
    return undefined
  }
}
