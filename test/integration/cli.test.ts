/** The command line against a real service, and without one. */
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { buildLayout, hostArchitecture } from '../helpers/image.ts'
import { busyboxImage, needsRoot, probeImage, startService, until } from '../helpers/service.ts'

t.test('the command line', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const cli = (...args: string[]): ReturnType<typeof service.cli> => service.cli(args)
  const sh = (script: string, ...options: string[]): ReturnType<typeof service.cli> =>
    cli('run', ...options, busyboxImage, 'sh', '-c', script)

  t.test('run: output and status', async (t) => {
    t.same(await sh('echo out; echo err >&2; exit 42'), { status: 42, signal: null, stdout: 'out\n', stderr: 'err\n' })
    t.match(await cli('run', probeImage, 'exit', '3'), { status: 3 }, 'arguments for the image’s entrypoint')
    t.match(await sh('sh -c "kill -9 \\$\\$"; exit $?'), { status: 137 }, '128 + the signal')
    t.match(await cli('run', '--entrypoint', 'missing', busyboxImage), { status: 127, stderr: /missing.*not found/ })
    t.match(await cli('run', '--entrypoint', '/etc/passwd', busyboxImage), { status: 126, stderr: /\/etc\/passwd/ })
    const none = await cli('run', '--pull', 'never', 'localhost/none:1')
    t.match(none, { status: 125, stderr: /^caisson: .*localhost\/none:1/ })
    t.equal(none.stderr.trim().split('\n').length, 1, 'one line')
    t.match(await cli('run'), { status: 125, stderr: /takes an image/ })
    t.match(await cli('run', '--no-such', busyboxImage), { status: 125, stderr: /no-such/ })
    t.match(await cli('flay'), { status: 125, stderr: /unknown command "flay"/ })
    t.match(await cli('run', '-u', 'nobody-here', busyboxImage, 'true'), { status: 125, stderr: /nobody-here/ })
  })

  t.test('run: options', async (t) => {
    writeFileSync(join(service.directory, 'in'), 'volume\n')
    const { stdout } = await sh(
      'echo $A $B; pwd; id -u; hostname; cat /v; touch /x 2>&1; grep CapBnd /proc/self/status',
      ...['-e', 'A=1', '-e', 'B', '-w', '/tmp', '-u', '1000:7', '--hostname', 'named', '--read-only'],
      ...['-v', `${join(service.directory, 'in')}:/v:ro`, '--cap-drop', 'ALL'],
    )
    t.equal(stdout, '1\n/tmp\n1000\nnamed\nvolume\ntouch: /x: Read-only file system\nCapBnd:\t0000000000000000\n')
  })

  t.test('run: output that nobody reads any more ends the container', async (t) => {
    const child = service.spawnCli(['run', busyboxImage, 'yes'])
    child.stdout?.once('data', () => child.stdout?.destroy())
    const [status] = (await once(child, 'exit')) as unknown[]
    t.equal(status, 141, '128 + SIGPIPE')
  })

  t.test('run leaves nothing', async (t) => {
    t.same((await service.runtime.listPodSandbox({})).items, [])
    t.same(await service.leaks(), [])
    t.same(readdirSync(join(service.root, 'logs')), [], 'no log')
  })

  t.test('stats', async (t) => {
    const { stdout } = await sh('while :; do :; done', '-d', '--name', 'busy')
    const idle = (await sh('exec sleep 1000', '-d', '--name', 'idle')).stdout.trim()
    const id = stdout.trim()
    const shown = await cli('stats')
    const [head = '', first = '', second = ''] = shown.stdout.split('\n')
    t.match(head, /^CONTAINER +NAME +CPU % +MEMORY \/ LIMIT +NET IN \/ OUT +DISK$/)
    t.match(first, new RegExp(`^${id.slice(0, 12)} +busy +[1-9][0-9.]+ `), 'the busiest first')
    t.match(second, new RegExp(`^${idle.slice(0, 12)} +idle +0\\.\\d\\d `))
    const [row, ...more] = JSON.parse((await cli('stats', '--json', 'busy')).stdout) as Record<string, unknown>[]
    t.same(more, [])
    t.match(row, { id, name: 'busy', cpuPercent: Number, disk: Number })
    t.match(await cli('stats', 'none'), { status: 125, stderr: /no container "none"/ })
    const watching = service.spawnCli(['stats', '--watch', '--json'])
    let lines = ''
    watching.stdout?.setEncoding('utf8').on('data', (text: string) => (lines += text))
    await until(() => lines.split('\n').length > 2, 20_000, 'two rounds')
    watching.kill('SIGINT')
    const [, signal] = (await once(watching, 'exit')) as unknown[]
    t.equal(signal, 'SIGINT')
    t.equal((JSON.parse(lines.split('\n')[1] ?? '') as unknown[]).length, 2)
    t.match(await cli('rm', '-f', 'busy', 'idle'), { status: 0 })
  })

  t.test('in the background: ps, logs, exec, stop, rm', async (t) => {
    const script = 'trap "echo stopping; exit 0" TERM; echo hello; echo oops >&2; while :; do sleep 0.02; done'
    const started = await sh(script, '-d', '--name', 'bg')
    t.match(started, { status: 0, stdout: /^[0-9a-f]{64}\n$/ })
    const id = started.stdout.trim()
    t.match(await sh('true', '--name', 'bg'), { status: 125, stderr: /"bg"/ }, 'a name is taken once')
    const [row] = JSON.parse((await cli('ps', '--json')).stdout) as Record<string, unknown>[]
    t.match(row, { id, name: 'bg', image: busyboxImage, state: 'running' })
    t.match((await cli('ps')).stdout, new RegExp(`^CONTAINER .*\\n${id.slice(0, 12)} +bg +\\S+ +running`))
    t.equal((await cli('ps', '-q')).stdout, `${id}\n`)
    await until(async () => (await cli('logs', 'bg')).stdout === 'hello\n')
    t.match(await cli('logs', 'bg'), { status: 0, stdout: 'hello\n', stderr: 'oops\n' })
    t.match((await cli('logs', '-t', id.slice(0, 6))).stdout, /^\d{4}-\d\d-\d\dT\S+Z hello\n$/)
    t.match(await cli('exec', 'bg', 'sh', '-c', 'echo in; echo e >&2; exit 5'), {
      status: 5,
      stdout: 'in\n',
      stderr: 'e\n',
    })
    t.match(await cli('exec', 'bg', 'no-such'), { status: 127 })
    t.match(await cli('exec', 'bg', '/etc/passwd'), { status: 126 })
    t.match(await cli('exec', '--timeout', '1', 'bg', 'sleep', '100'), { status: 125, stderr: /timed out/ })
    t.match(await cli('exec', '--timeout', '1', '-i', 'bg', 'true'), { status: 125, stderr: /neither -i nor -t/ })
    t.match(await cli('exec', '-it', 'bg', 'true'), { status: 125, stderr: /needs a terminal/ })
    t.match(await cli('exec', '-t', 'bg', 'tty'), { status: 0, stdout: '/dev/pts/0\r\n' })
    const fed = service.spawnCli(['exec', '-i', 'bg', 'sh', '-c', 'wc -c; exit 3'], 'pipe')
    let counted = ''
    fed.stdout?.setEncoding('utf8').on('data', (text: string) => (counted += text))
    fed.stdin?.end(Buffer.alloc(5_000_000))
    t.same(await once(fed, 'exit'), [3, null], 'input, its end, and the status')
    t.equal(counted.trim(), '5000000')
    const early = service.spawnCli(['exec', '-i', 'bg', 'true'], 'pipe')
    t.same(await once(early, 'exit'), [0, null], 'an input that stays open holds nobody up')
    const big = await cli('exec', 'bg', 'sh', '-c', 'head -c 20000000 /dev/zero')
    t.equal(big.stdout.length, 20_000_000, 'more than ExecSync keeps')
    t.match(await cli('exec', 'none', 'true'), { status: 125, stderr: /no container "none"/ })
    t.match(await cli('rm', 'bg'), { status: 125, stderr: /running/ })
    const following = cli('logs', '-f', 'bg')
    t.match(await cli('stop', 'bg'), { status: 0, stdout: 'bg\n' })
    t.match(await following, { status: 0, stdout: 'hello\nstopping\n' }, 'follows to the end')
    t.equal((await cli('ps', '-q')).stdout, '')
    t.equal((await cli('ps', '-aq')).stdout, `${id}\n`)
    t.match(await cli('rm', 'bg'), { status: 0 })
    t.same(await service.leaks(), [])
    const forced = (await cli('run', '-d', probeImage, 'sleep', '1000')).stdout.trim()
    t.match(await cli('rm', '-f', forced), { status: 0 })
    t.same(await service.leaks(), [])
  })

  t.test('an interrupt stops the container', async (t) => {
    const script = 'trap "echo caught; exit 9" TERM; echo ready; while :; do sleep 0.02; done'
    const child = service.spawnCli(['run', busyboxImage, 'sh', '-c', script])
    let out = ''
    child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()))
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    await until(() => out.includes('ready'))
    child.kill('SIGINT')
    t.equal(await ended, 9)
    t.equal(out, 'ready\ncaught\n')
    t.same(await service.leaks(), [])
  })

  t.test('images, info, version', async (t) => {
    const images = JSON.parse((await cli('images', '--json')).stdout) as {
      id: string
      repoTags: string[]
      size: number
    }[]
    t.same(images.flatMap(({ repoTags }) => repoTags).sort(), [busyboxImage, probeImage].sort())
    for (const { id, size } of images) t.ok(/^sha256:[0-9a-f]{64}$/.test(id) && size > 1000)
    t.match((await cli('images')).stdout, /^REPOSITORY +TAG +IMAGE +SIZE\n/)
    const info = JSON.parse((await cli('info', '--json')).stdout) as Record<string, unknown>
    t.match(info, { pid: service.pid, paths: { root: service.root } })
    t.match((await cli('info')).stdout, /^version +0\.1\.0/)
    t.match(JSON.parse((await cli('version', '--json')).stdout), { version: '0.1.0', buildId: info['buildId'] })
    t.match(await cli('import', join(service.directory, 'busybox'), 'localhost/second:1'), { status: 0 })
    t.match(await cli('rmi', 'localhost/none:1'), { status: 125, stderr: /localhost\/none:1/ })
    t.match(await cli('tag', 'localhost/second:1', 'localhost/third:1'), { status: 0, stdout: '' })
    t.same((await cli('rmi', 'localhost/third:1')).stdout, 'untagged: localhost/third:1\n')
    t.match(await cli('tag', 'localhost/second:1', 'localhost/UPPER'), { status: 125, stderr: /UPPER/ })
    const usage = JSON.parse((await cli('image', 'df', '--json')).stdout) as { bytes: number; uniqueBytes: number }[]
    t.ok(usage.length >= 2 && usage.every(({ bytes, uniqueBytes }) => bytes > 1000 && uniqueBytes <= bytes))
    t.match((await cli('image', 'df')).stdout, /^IMAGE +NAME +ON DISK +SHARED +ITS OWN\n/)
    t.match(await cli('image', 'check'), {
      status: 0,
      stdout: /^\d+ images, \d+ blobs \(.* hashed\), \d+ layers: 0 problems\n$/,
    })
    t.match(await cli('image', 'prune'), { status: 0, stdout: '0 B are free again\n' })
    t.match(await cli('image', 'ls', '-q'), { status: 0, stdout: /^sha256:/ })
    t.match(await cli('image', 'none'), { status: 125, stderr: /"none" is none of ls, / })
    t.match(await cli('import', '/nowhere', 'localhost/x:1'), { status: 125, stderr: /\/nowhere/ })
  })

  t.test('inspect, history', async (t) => {
    const layout = join(service.directory, 'made')
    const built = await buildLayout(layout, {
      name: 'made',
      layers: [[{ name: 'a', content: 'a' }], [{ name: 'b', content: 'b' }]],
      config: { Cmd: ['/a'], Env: ['A=1'], ExposedPorts: { '80/tcp': {} }, Labels: { k: 'v' } },
      history: [
        { created: '2020-01-02T03:04:05Z', created_by: 'ADD a /' },
        { created_by: `ENV A=1 \u001b[2J${'x'.repeat(80)}`, empty_layer: true },
        { created: 'yesterday', created_by: 'ADD b /', comment: 'the last', author: 'somebody' },
      ],
    })
    await service.importImage(layout, 'localhost/made:1')
    const [details] = JSON.parse((await cli('inspect', 'localhost/made:1')).stdout) as Record<string, unknown>[]
    t.match(details, {
      id: built.configDigest,
      repoTags: ['localhost/made:1'],
      roots: [built.manifest],
      platform: `linux/${hostArchitecture}`,
      created: '2026-01-02T03:04:05Z',
      config: { cmd: ['/a'], env: ['A=1'], exposedPorts: ['80/tcp'], labels: { k: 'v' } },
      layers: built.layerDigests.map((digest, index) => ({ digest, diffId: built.diffIds[index] })),
      history: [{ layer: built.layerDigests[0] }, { layer: '' }, { layer: built.layerDigests[1], author: 'somebody' }],
    })
    const rows = (await cli('history', built.configDigest.slice(7, 19))).stdout.trim().split('\n')
    t.match(rows[0], /^LAYER +CREATED +CREATED BY +SIZE +COMMENT$/)
    t.match(rows[1], new RegExp(`^${built.layerDigests[1]?.slice(7, 19) ?? ''} +ADD b / +\\d+ B +the last$`))
    t.match(rows[2], /^ +ENV A=1 \?\[2Jx+… +0 B$/, 'no control characters, and cut')
    t.match(rows[3], /^[0-9a-f]{12} +\d+ days ago +ADD a \/ +\d+ B$/)
    t.match((await cli('image', 'history', '--no-trunc', 'localhost/made:1')).stdout, 'x'.repeat(80))
    t.match(await cli('inspect', 'localhost/none:1'), { status: 125, stderr: /localhost\/none:1.*not present/ })
    t.match(await cli('rmi', 'localhost/made:1'), { status: 0 })
  })

  t.test('without a service', async (t) => {
    await service.stop()
    t.match(await cli('ps'), { status: 125, stderr: /caisson serve/ }, 'says how to start one')
    t.same(await sh('echo alone; exit 6'), { status: 6, signal: null, stdout: 'alone\n', stderr: '' }, 'run starts one')
    t.notOk(existsSync(service.socket), 'and ends it')
    t.same(await service.leaks(), [])
    // killed without a chance to say goodbye, it leaves no service behind: that ends with its standard input
    const child = service.spawnCli(['run', busyboxImage, 'sh', '-c', 'echo ready; sleep 1000'])
    let out = ''
    child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()))
    await until(() => out.includes('ready'))
    child.kill('SIGKILL')
    await until(() => !existsSync(service.socket))
    await service.start()
    t.equal((await service.runtime.listContainers({})).containers.length, 1, 'the container waits for who removes it')
    t.match(readFileSync(service.logFile, 'utf8'), /adopted a running pod/)
  })
})
