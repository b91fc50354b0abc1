/** conmon with the runtime under test, called as CRI-O calls it: conmon creates and execs, the rest are calls of the runtime. */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import t from 'tap'
import { configuration, writeBundle } from '../helpers/bundle.ts'
import { cannotRun, type Known, runtime, subtests, words } from '../helpers/conformance.ts'
import { type Enclave, openEnclave, put } from '../helpers/enclave.ts'
import { type CommandResult, until } from '../helpers/service.ts'

const known: Known = { runc: { 'poststop hooks': 'Debian 12: one that fails is the last' } }

/** The packets of an attach socket: standard input goes in, then a line for each packet comes out, `<stream> <text as JSON>`. */
const attach = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
sent = sys.stdin.buffer.read()
if sent: s.send(sent)
if sys.argv[2] == "end": s.shutdown(socket.SHUT_WR)
while True:
    packet = s.recv(32768)
    if not packet: break
    print(packet[0], json.dumps(packet[1:].decode()), flush=True)
`

/** What conmon says: of a create or an exec, `data` is the pid, or negative with a message; of an exec's end, its status. */
interface Report {
  data?: number
  message?: string
}

interface Launch {
  /** Reads conmon's next report. */
  report: () => Promise<Report>
}

class Conmon {
  readonly enclave: Enclave

  constructor(enclave: Enclave) {
    this.enclave = enclave
  }

  #path(name: string): string {
    return join(this.enclave.directory, name)
  }
  bundle(id: string): string {
    return this.#path(`b-${id}`)
  }
  /** The attach socket has the room's /run before it: its path has 107 bytes. */
  socket(id: string): string {
    return `/run/s/${id}/attach`
  }

  /** Calls the runtime. */
  runtime(...args: string[]): Promise<CommandResult> {
    return this.enclave.run([runtime, '--root', '/run/r', ...args])
  }

  async ok(...args: string[]): Promise<string> {
    return await this.enclave.must([runtime, '--root', '/run/r', ...args])
  }

  async status(id: string): Promise<string> {
    return (JSON.parse(await this.ok('state', id)) as { status: string }).status
  }

  async exitStatus(id: string): Promise<string> {
    const file = this.#path(`exits/${id}`)
    await until(() => existsSync(file), 20_000, `${id} has ended`)
    return await readFile(file, 'utf8')
  }

  /** The log without its times: `stdout F text`. */
  async log(id: string): Promise<string[]> {
    const text = await readFile(this.#path(`${id}.log`), 'utf8')
    return text
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/^\S+ /, ''))
  }

  /** Starts conmon and lets it go on. */
  #launch(id: string, args: readonly string[]): Launch {
    const common = [
      '-c',
      id,
      '-n',
      id,
      '-u',
      id,
      '-r',
      runtime,
      '--runtime-arg',
      '--root=/run/r',
      '-b',
      this.bundle(id),
    ]
    common.push('--socket-dir-path', '/run/s', '--exit-dir', this.#path('exits'), '--log-level', 'warning')
    const child = this.enclave.spawn(['conmon', ...common, ...args], {
      stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'pipe'],
      env: { ...process.env, _OCI_SYNCPIPE: '3', _OCI_STARTPIPE: '4' },
    })
    const [, , , sync, start] = child.stdio
    let text = ''
    let ended = false
    const pipe = sync as Readable
    pipe.on('data', (data: Buffer) => (text += data.toString()))
    pipe.on('end', () => (ended = true))
    ;(start as unknown as { write: (data: string) => void }).write('\0')
    const report = async (): Promise<Report> => {
      await until(() => text.includes('\n') || ended, 20_000, 'conmon reports')
      const [line = '', ...rest] = text.split('\n')
      text = rest.join('\n')
      return JSON.parse(line === '' ? '{}' : line) as Report
    }
    return { report }
  }

  /** Makes a container; `options` are conmon's. */
  async create(id: string, processOf: object, options: readonly string[] = []): Promise<Report> {
    const config = configuration(processOf, { cgroupsPath: `/t/${id}` })
    await writeBundle(this.bundle(id), config)
    const files = ['-p', this.#path(`${id}.pid`), '-P', this.#path(`${id}.conmon`), '-l', this.#path(`${id}.log`)]
    return await this.#launch(id, [...files, '--api-version', '1', ...options]).report()
  }

  /** Runs a process in a container. @returns its pid's report, and how to get the one of its end */
  async exec(
    id: string,
    name: string,
    processOf: object,
    options: readonly string[] = [],
  ): Promise<{ started: Report; end: Launch['report'] }> {
    const { process: base } = configuration(processOf) as { process: object }
    const spec = await put(this.#path(`${name}.json`), JSON.stringify(base))
    const files = ['-p', this.#path(`${name}.pid`), '-l', this.#path(`${name}.log`), '--exec-process-spec', spec]
    const { report } = this.#launch(id, ['-e', ...files, '--api-version', '1', ...options])
    return { started: await report(), end: report }
  }

  attach(id: string, input: string, mode: 'end' | 'open' = 'end'): Promise<CommandResult> {
    return this.enclave.run(['python3', '-c', attach, this.socket(id), mode], { input })
  }

  /** A line to conmon's control FIFO. */
  async control(id: string, line: string): Promise<void> {
    await writeFile(join(this.bundle(id), 'ctl'), line)
  }

  async pidOf(file: string): Promise<number> {
    return Number(await readFile(this.#path(file), 'utf8'))
  }
}

void t.test('conmon', { skip: cannotRun('conmon', 'busybox'), timeout: 120_000 }, async (t) => {
  const enclave = await openEnclave(t, [/^cgroup \/t$/])
  await enclave.must(['mkdir', '-p', '/run/r', '/run/s', join(enclave.directory, 'exits')])
  const conmon = new Conmon(enclave)
  const shell = (script: string): object => ({ args: ['sh', '-c', script] })
  const test = subtests(t, known)

  test('a container, its log, its exit file', async (t) => {
    const { data: pid } = await conmon.create('a', shell('echo out; echo err >&2; printf partial; exit 3'))
    t.ok(pid !== undefined && pid > 0, `pid ${String(pid)}`)
    t.equal(await conmon.pidOf('a.pid'), pid, 'the pid file')
    t.match(JSON.parse(await conmon.ok('state', 'a')), { id: 'a', pid, status: 'created', bundle: conmon.bundle('a') })
    await conmon.ok('start', 'a')
    t.equal(await conmon.exitStatus('a'), '3')
    t.same((await conmon.log('a')).sort(), ['stderr F err', 'stdout F out', 'stdout P partial'].sort())
    t.equal(await conmon.status('a'), 'stopped')
    await conmon.ok('delete', 'a')
    t.not((await conmon.runtime('state', 'a')).status, 0)
  })

  test('signals, pause, resume, delete', async (t) => {
    await conmon.create('k', shell('trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'))
    await conmon.ok('start', 'k')
    await until(() => existsSync(join(enclave.directory, 'k.log')))
    await until(async () => (await conmon.log('k')).includes('stdout F ready'))
    t.not((await conmon.runtime('start', 'k')).status, 0, 'started already')
    t.not((await conmon.runtime('delete', 'k')).status, 0, 'a running one is not deleted')
    await conmon.ok('pause', 'k')
    t.equal(await conmon.status('k'), 'paused')
    await conmon.ok('resume', 'k')
    t.equal(await conmon.status('k'), 'running')
    t.equal(
      (JSON.parse(await conmon.ok('ps', '--format', 'json', 'k')) as number[]).includes(await conmon.pidOf('k.pid')),
      true,
    )
    await conmon.ok('kill', 'k', 'TERM')
    t.equal(await conmon.exitStatus('k'), '9')
    t.not((await conmon.runtime('kill', 'k', 'TERM')).status, 0, 'it has ended')
    await conmon.ok('delete', 'k')

    await conmon.create('f', shell('exec sleep 100'))
    await conmon.ok('delete', '--force', 'f')
    t.equal(await conmon.exitStatus('f'), '137', 'a created one')
    await conmon.create('g', shell('exec sleep 100'))
    await conmon.ok('start', 'g')
    await conmon.ok('delete', '--force', 'g')
    t.equal(await conmon.exitStatus('g'), '137', 'a running one')
    t.equal((await conmon.runtime('delete', '--force', 'none')).status, 0, 'and one that is not there')
  })

  test('what cannot be created', async (t) => {
    const missing = await conmon.create('m', { args: ['none'] })
    t.ok((missing.data ?? 0) < 0)
    t.match(missing.message, words.notInPath)
    t.not((await conmon.runtime('state', 'm')).status, 0, 'nothing is left of it')
    const denied = await conmon.create('n', { args: ['/etc'] })
    t.match(denied.message, words.notExecutable)
    await conmon.create('twice', shell('exec sleep 100'))
    const config = configuration(shell('true'))
    await writeBundle(conmon.bundle('other'), config)
    const again = await conmon.runtime('create', '--bundle', conmon.bundle('other'), 'twice')
    t.not(again.status, 0)
    t.match(again.stderr, /already (in use|exists)|exists/i)
    t.equal(await conmon.status('twice'), 'created', 'the first one is as it was')
    await conmon.ok('delete', '--force', 'twice')
  })

  test('standard input, by the attach socket', async (t) => {
    await conmon.create('i', shell('while read line; do echo "got $line"; done; echo end'), ['-i'])
    const attached = conmon.attach('i', 'one\ntwo\n')
    await conmon.ok('start', 'i')
    const { stdout, stderr } = await attached
    t.match(stdout, /^2 "got one/, stderr)
    t.equal(await conmon.exitStatus('i'), '0', 'its end is the end of the file')
    t.same(await conmon.log('i'), ['stdout F got one', 'stdout F got two', 'stdout F end'])
    await conmon.ok('delete', 'i')

    await conmon.create('o', shell('read line; echo "got $line"; read line; echo "then $line"'), [
      '-i',
      '--leave-stdin-open',
    ])
    await conmon.ok('start', 'o')
    void conmon.attach('o', 'first\n')
    await until(
      async () =>
        existsSync(join(enclave.directory, 'o.log')) && (await conmon.log('o')).includes('stdout F got first'),
    )
    await conmon.attach('o', 'second\n')
    t.equal(await conmon.exitStatus('o'), '0')
    t.same(await conmon.log('o'), ['stdout F got first', 'stdout F then second'])
    await conmon.ok('delete', 'o')
  })

  test('a terminal', async (t) => {
    const script = 'read line; tty; stty size; echo "got $line"; test -t 2 && exit 4'
    const { data: pid } = await conmon.create(
      't',
      { ...shell(script), terminal: true, consoleSize: { height: 10, width: 20 } },
      ['-t'],
    )
    t.ok((pid ?? 0) > 0)
    await conmon.ok('start', 't')
    await conmon.control('t', '1 33 77\n')
    const attached = await conmon.attach('t', 'a line\n', 'open')
    const shown = attached.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line.slice(2)) as string)
      .join('')
    t.match(shown, '/dev/pts/0')
    t.match(shown, '33 77', 'resized')
    t.match(shown, 'got a line')
    t.equal(await conmon.exitStatus('t'), '4')
    await conmon.ok('delete', 't')
  })

  test('exec', async (t) => {
    await conmon.create('e', shell('exec sleep 100'))
    await conmon.ok('start', 'e')
    const first = await conmon.exec('e', 'e1', { ...shell('echo out; id -u; exit 5'), user: { uid: 1000, gid: 1000 } })
    t.ok((first.started.data ?? 0) > 0, 'its pid')
    t.match(await first.end(), { data: 5 })
    t.same(await conmon.log('e1'), ['stdout F out', 'stdout F 1000'])
    const missing = await conmon.exec('e', 'e2', { args: ['none'] })
    t.match(missing.started.message, words.notInPath)
    const terminal = await conmon.exec('e', 'e3', { ...shell('tty'), terminal: true }, ['-t'])
    t.match(await terminal.end(), { data: 0 })
    t.match((await conmon.log('e3')).join(), '/dev/pts/')
    const late = await conmon.exec('e', 'e4', shell('exec sleep 50'), ['-T', '1'])
    t.match(await late.end(), { message: 'command timed out' }, 'a probe that takes too long is killed')
    await until(async () => !(await conmon.ok('ps', 'e')).includes('sleep 50'))
    await conmon.ok('delete', '--force', 'e')
  })

  test('flags that engines pass on', async (t) => {
    const { data: pid, message } = await conmon.create('p', shell('grep -c . /proc/keys; echo ran'), [
      '--no-pivot',
      '--no-new-keyring',
    ])
    t.ok((pid ?? 0) > 0, message ?? 'created')
    await conmon.ok('start', 'p')
    t.equal(await conmon.exitStatus('p'), '0')
    t.match((await conmon.log('p')).join(), 'ran')
    await conmon.ok('delete', 'p')
  })

  test('conmon is killed, the container is not', async (t) => {
    await conmon.create('l', shell('exec sleep 100'))
    await conmon.ok('start', 'l')
    await enclave.must(['kill', '-9', String(await conmon.pidOf('l.conmon'))])
    t.equal(await conmon.status('l'), 'running')
    await conmon.ok('kill', 'l', 'KILL')
    await until(async () => (await conmon.status('l')) === 'stopped')
    await conmon.ok('delete', 'l')
  })

  test('the exit command', async (t) => {
    const file = join(enclave.directory, 'called')
    await conmon.create('x', shell('exit 6'), [
      '--exit-command',
      '/bin/sh',
      '--exit-command-arg',
      '-c',
      '--exit-command-arg',
      `${runtime} --root /run/r delete x && echo deleted >${file}`,
    ])
    await conmon.ok('start', 'x')
    await until(async () => existsSync(file) && (await readFile(file, 'utf8')) === 'deleted\n')
    t.not((await conmon.runtime('state', 'x')).status, 0)
  })

  test('poststop hooks', async (t) => {
    const file = join(enclave.directory, 'stopped')
    const hook = (command: string): object => ({ path: '/bin/sh', args: ['sh', '-c', command] })
    const hooks = { poststop: [hook('exit 1'), hook(`cat >${file}`)] }
    await writeBundle(conmon.bundle('h'), { ...configuration(shell('true'), { cgroupsPath: '/t/h' }), hooks })
    await conmon.ok('run', '--bundle', conmon.bundle('h'), 'h')
    t.match(JSON.parse(await readFile(file, 'utf8')), { id: 'h', status: 'stopped' }, 'one that fails is not the last')
  })

  test('nothing is left', async (t) => {
    t.equal((await conmon.ok('list', '--quiet')).trim(), '')
    t.same((await enclave.must(['ls', '/run/r'])).trim(), '')
  })
})
