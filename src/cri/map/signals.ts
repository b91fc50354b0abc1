import { runtime } from '../../gen/cri.js'
import { parseSignal } from '../../oci/process.ts'

/** The kernel's number of a CRI signal; 0 for "the runtime's default". */
export function fromCriSignal(signal: runtime.v1.Signal): number {
  const name = runtime.v1.Signal[signal] as string | undefined
  const text =
    name
      ?.replace(/^SIGNAL_/, '')
      .replace('PLUS', '+')
      .replace('MINUS', '-') ?? ''
  return (
    parseSignal(text === 'SIGIOT' ? 'SIGABRT' : text === 'SIGCLD' ? 'SIGCHLD' : text === 'SIGPOLL' ? 'SIGIO' : text) ??
    0
  )
}

const byNumber = new Map<number, runtime.v1.Signal>()
for (const value of Object.values(runtime.v1.Signal)) {
  if (typeof value !== 'number') continue
  const number = fromCriSignal(value)
  if (number !== 0 && !byNumber.has(number)) byNumber.set(number, value)
}

export function toCriSignal(number: number): runtime.v1.Signal {
  return byNumber.get(number) ?? runtime.v1.Signal.SIGNAL_RUNTIME_DEFAULT
}
