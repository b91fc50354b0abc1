/** run with standard input and with a terminal: a pipe, a terminal of script(1), and a way out of it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { busyboxImage, main, needsRoot, probeImage, startService, until } from '../helpers/service.ts'
import { missingTools } from '../helpers/tools.ts'

t.test('run -i, run -t', { skip: needsRoot || missingTools('script') }, async (t) => {
  const service = await startService(t)
  const cli = (...args: string[]): ReturnType<typeof service.cli> => service.cli(args)
  const states = async (): Promise<{ id: string; state: string; name: string }[]> =>
    JSON.parse((await cli('ps', '-a', '--json')).stdout) as { id: string; state: string; name: string }[]

  /** The command line on a terminal of 33 lines and 99 columns. */
  class Terminal {
    readonly #child: ChildProcess
    readonly ended: Promise<unknown[]>
    shown = ''

    constructor(...args: string[]) {
      const words = [process.execPath, main, ...service.globals, ...args].map((word) => `'${word}'`)
      const command = `stty rows 33 cols 99; exec ${words.join(' ')}`
      this.#child = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
      this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.shown += text))
      this.ended = once(this.#child, 'close')
      t.teardown(() => this.#child.kill('SIGKILL'))
    }

    type(keys: string): void {
      this.#child.stdin?.write(keys)
    }

    async shows(what: RegExp): Promise<void> {
      await until(() => what.test(this.shown), 30_000, what.source).catch((error: unknown) => {
        throw new Error(`it shows ${JSON.stringify(this.shown)}`, { cause: error })
      })
    }
  }

  t.test('standard input: its bytes, its end, the status', async (t) => {
    const fed = service.spawnCli(['run', '-i', busyboxImage, 'sh', '-c', 'wc -c; exit 3'], 'pipe')
    let out = ''
    fed.stdout?.setEncoding('utf8').on('data', (text: string) => (out += text))
    fed.stdin?.end(Buffer.alloc(5_000_000))
    t.same(await once(fed, 'close'), [3, null])
    t.equal(out.trim(), '5000000')

    const open = service.spawnCli(['run', '-i', busyboxImage, 'sh', '-c', 'read x; echo got $x >&2'], 'pipe')
    let err = ''
    open.stderr?.setEncoding('utf8').on('data', (text: string) => (err += text))
    open.stdin?.write('a line\n')
    t.same(await once(open, 'close'), [0, null], 'an input that stays open holds nobody up')
    t.equal(err, 'got a line\n')

    t.match(await service.cli(['run', '-i', busyboxImage, 'cat'], { input: Buffer.from('x') }), {
      status: 0,
      stdout: 'x',
    })
    t.match(await service.cli(['run', busyboxImage, 'cat'], { input: Buffer.from('x') }), { status: 0, stdout: '' })
    t.match(await service.cli(['run', '-i', '--entrypoint', 'missing', busyboxImage], { input: Buffer.from('x') }), {
      status: 127,
      stderr: /missing.*not found/,
    })
    const stopped = service.spawnCli(
      ['run', '-i', busyboxImage, 'sh', '-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.02; done'],
      'pipe',
    )
    let ready = ''
    stopped.stdout?.setEncoding('utf8').on('data', (text: string) => (ready += text))
    await until(() => ready.includes('ready'))
    stopped.kill('SIGINT')
    t.same(await once(stopped, 'close'), [9, null], 'an interrupt stops it')
  })

  t.test('a terminal inside', async (t) => {
    t.match(await cli('run', '-t', busyboxImage, 'sh', '-c', 'tty; echo $TERM; exit 4'), {
      status: 4,
      stdout: '/dev/pts/0\r\nxterm\r\n',
    })
    t.match(await cli('run', '-it', busyboxImage, 'true'), { status: 125, stderr: /needs a terminal/ })
    t.match(await cli('run', '-t', '--entrypoint', 'missing', busyboxImage), {
      status: 127,
      stderr: /missing.*not found/,
    })
  })

  t.test('a terminal at both ends', async (t) => {
    const terminal = new Terminal('run', '-it', busyboxImage, 'sh')
    await terminal.shows(/\/ # /)
    terminal.type('stty size; echo a$((1+1))b\r')
    await terminal.shows(/33 99\r+\na2b\r+\n/)
    terminal.type('echo sleeping; sleep 1000\r')
    await terminal.shows(/\nsleeping\r/)
    terminal.type('\x03')
    await terminal.shows(/\^C[^]*\/ # /)
    terminal.type('exit 7\r')
    t.same(await terminal.ended, [7, null], 'ctrl-c is the program’s, and the status is its own')
  })

  t.test('ctrl-p ctrl-q leaves it running; attach comes back', async (t) => {
    const terminal = new Terminal('run', '-it', '--name', 'left', busyboxImage, 'sh')
    await terminal.shows(/\/ # /)
    terminal.type('x=kept\r')
    terminal.type('\x10')
    terminal.type('\x11')
    t.same(await terminal.ended, [0, null])
    const [row] = await states()
    t.match(row, { name: 'left', state: 'running' })
    t.ok(terminal.shown.trimEnd().endsWith(row?.id ?? '-'), 'its id is told')
    const again = new Terminal('attach', 'left')
    again.type('echo $x; exit 5\r')
    await again.shows(/kept\r+\n/)
    t.same(await again.ended, [5, null])
    t.match(await cli('rm', 'left'), { status: 0 })
  })

  t.test('in the background, for who attaches', async (t) => {
    t.match(await cli('run', '-dit', '--name', 'shell', busyboxImage, 'sh'), { status: 0, stdout: /^[0-9a-f]{64}\n$/ })
    const first = new Terminal('attach', 'shell')
    first.type('y=1; echo set$y\r')
    await first.shows(/set1\r/)
    first.type('\x10\x11')
    t.same(await first.ended, [0, null])
    const second = new Terminal('attach', 'shell')
    second.type('exit 1$y\r')
    t.same(await second.ended, [11, null])
    t.match(await cli('rm', 'shell'), { status: 0 })
  })

  t.test('nothing is left', async (t) => {
    t.same((await service.runtime.listPodSandbox({})).items, [])
    t.same(await service.leaks(), [])
    t.same(readdirSync(join(service.root, 'logs')), [])
    t.match(await cli('run', '-i', probeImage, 'exit', '3'), { status: 3 }, 'without input')
  })
})
