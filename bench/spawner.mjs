import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** bench/spawner.c as a process: starts programs and times them without Node in between. */
export class Spawner {
  #child
  #lines

  /** @param wrapper a command that the spawner itself runs under, such as unshare(1) with a script */
  constructor(program, wrapper = []) {
    const [command, ...args] = [...wrapper, program]
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
    this.errors = ''
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.errors = (this.errors + text).slice(-2000)
    })
  }

  /**
   * Runs a program to its end.
   *
   * @returns milliseconds from before its clone to after its wait
   * @throws Error with what it wrote when its status is not `expected`
   */
  async run(command, expected = 0) {
    return (await this.measure(command, expected)).ms
  }

  /**
   * The same with the processor time that it took, and those that it has waited for.
   *
   * @throws Error with what it wrote when its status is not `expected`
   */
  async measure(command, expected = 0) {
    if (command.some((word) => /[\t\n]/.test(word) || word === '')) throw new Error(`cannot be sent: ${command}`)
    this.errors = ''
    this.#child.stdin.write(`${command.join('\t')}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`the spawner ended: ${this.errors}`)
    const [ns, status, us] = value.split(' ').map(Number)
    if (status !== expected) {
      await new Promise((resolve) => setTimeout(resolve, 50)) // for the rest of its errors
      throw new Error(`${command.join(' ')}: status ${status}: ${this.errors.trim()}`)
    }
    return { ms: ns / 1e6, cpuMs: us / 1e3 }
  }

  async close() {
    const exited = once(this.#child, 'exit')
    this.#child.stdin.end()
    await exited
  }
}
