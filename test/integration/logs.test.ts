/** CRI log files: the format, long and unfinished lines, volume, and reopening while output flows. */
import { execFileSync } from 'node:child_process'
import { createReadStream, existsSync, mkdirSync, readFileSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import {
  ContainerState,
  create,
  ended,
  output,
  parseLog,
  refused,
  runPod,
  startShell,
  status,
  start,
} from '../helpers/pods.ts'
import { needsRoot, probeImage, startService, until } from '../helpers/service.ts'

t.test('logs', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)
  const logOf = async (id: string): Promise<string> => (await status(service, id)).logPath

  t.test('the format', async (t) => {
    const from = Date.now()
    const id = await startShell(service, pod, 'echo one; echo two >&2; printf "ü \\\\t x\\n"; echo; printf unfinished')
    await ended(service, id)
    const path = await logOf(id)
    t.equal(statSync(path).mode & 0o777, 0o640)
    const entries = parseLog(await readFile(path, 'utf8'))
    const of = (stream: string): string[] =>
      entries.filter((entry) => entry.stream === stream).map(({ tag, text }) => `${tag} ${text}`)
    t.same(of('stdout'), ['F one', 'F ü \t x', 'F ', 'P unfinished'])
    t.same(of('stderr'), ['F two'])
    for (const { time } of entries) t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/)
    const times = entries.map(({ time }) => time)
    t.ok(Math.abs(Date.parse(times[0] ?? '') - from) < 60_000, 'a time of now, in UTC')
  })

  t.test('a long line is split, and joined again it is whole', async (t) => {
    const id = await startShell(service, pod, 'head -c 100000 /dev/zero | tr "\\0" x; echo; echo next')
    await ended(service, id)
    const content = await readFile(await logOf(id), 'utf8')
    const entries = parseLog(content)
    t.ok(entries.some(({ tag }) => tag === 'P'))
    t.equal(entries.at(-1)?.text, 'next')
    t.equal((await output(await logOf(id))).stdout, `${'x'.repeat(100_000)}\nnext\n`)
    for (const { text } of entries) t.ok(text.length <= 16 << 10, 'no more than 16 KiB each')
  })

  t.test('arbitrary bytes', async (t) => {
    const id = await startShell(service, pod, 'printf "\\000\\377\\033[31m\\r\\n"')
    await ended(service, id)
    const content = readFileSync(await logOf(id))
    t.ok(content.includes(Buffer.from([0x46, 0x20, 0x00, 0xff, 0x1b])), 'as they are')
  })

  t.test('200 000 lines', async (t) => {
    const id = await start(service, pod, { image: probeImage, args: ['lines', '200000'] })
    const end = await ended(service, id)
    t.notOk(end.exitCode)
    // EXITED is told only after the last byte: what is read now is all
    let expected = 1
    for await (const line of createInterface({ input: createReadStream(await logOf(id)) })) {
      if (!line.endsWith(` stdout F line ${expected}`)) break
      expected++
    }
    t.equal(expected - 1, 200_000, 'in order, none missing')
    t.match(await runtime.containerStatus({ containerId: id }), { status: { state: ContainerState.CONTAINER_EXITED } })
  })

  t.test('reopening under load loses and doubles nothing', async (t) => {
    const script = 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo $i; done; echo done'
    const id = await startShell(service, pod, script)
    const path = await logOf(id)
    const parts: string[] = []
    while ((await status(service, id)).state === ContainerState.CONTAINER_RUNNING && parts.length < 8) {
      const part = `${path}.${parts.length}`
      renameSync(path, part)
      try {
        await runtime.reopenContainerLog({ containerId: id })
      } catch (error) {
        if ((await status(service, id)).state === ContainerState.CONTAINER_RUNNING) throw error
        renameSync(part, path) // it ended meanwhile: as a kubelet does
        break
      }
      const size = statSync(part).size
      parts.push(part)
      await until(() => (existsSync(path) && statSync(path).size > 1000) || false, 10_000).catch(() => undefined)
      t.equal(statSync(part).size, size, 'the old file gets no more')
    }
    await ended(service, id)
    t.ok(parts.length > 2, `${parts.length} times`)
    const lines = [...parts, path].flatMap((file) => parseLog(readFileSync(file, 'utf8')).map(({ text }) => text))
    t.equal(lines.pop(), 'done')
    t.equal(lines.length, 60_000)
    t.ok(lines.every((line, index) => line === String(index + 1)))
  })

  t.test('reopening what does not run is an error and makes no file', async (t) => {
    const id = await create(service, pod, { command: ['true'] })
    await refused(t, runtime.reopenContainerLog({ containerId: id }), 'FAILED_PRECONDITION', id)
    t.notOk(existsSync(await logOf(id)))
    await runtime.startContainer({ containerId: id })
    await ended(service, id)
    const path = await logOf(id)
    renameSync(path, `${path}.old`)
    await refused(t, runtime.reopenContainerLog({ containerId: id }), 'FAILED_PRECONDITION', id)
    t.notOk(existsSync(path))
    await refused(t, runtime.reopenContainerLog({ containerId: 'f'.repeat(64) }), 'NOT_FOUND')
  })

  t.test('what is no file, or a link to one, is refused by its name', async (t) => {
    for (const logPath of ['directory/', '.', './.', 'a/..']) {
      await refused(t, create(service, pod, { logPath }), 'INVALID_ARGUMENT', `log_path "${logPath}"`)
    }
    const directory = pod.config.logDirectory ?? ''
    mkdirSync(join(directory, 'directory'))
    symlinkSync(join(service.directory, 'elsewhere'), join(directory, 'link'))
    execFileSync('mkfifo', [join(directory, 'fifo')])
    const taken: [string, string, string][] = [
      ['directory', 'FAILED_PRECONDITION', 'Is a directory'],
      ['link', 'INVALID_ARGUMENT', 'Symbolic link loop'],
      ['fifo', 'INVALID_ARGUMENT', 'not a regular file'],
    ]
    for (const [logPath, code, why] of taken) {
      const containerId = await create(service, pod, { command: ['true'], logPath })
      await refused(t, runtime.startContainer({ containerId }), code, `log "${logPath}": ${why}`)
      t.match(await status(service, containerId), { reason: 'StartError', message: `log "${logPath}": ${why}` })
    }
    t.notOk(existsSync(join(service.directory, 'elsewhere')))
  })

  t.test('no log path, no log', async (t) => {
    const id = await startShell(service, pod, 'echo lost; exit 4', { logPath: '' })
    const end = await ended(service, id)
    t.equal(end.exitCode, 4)
    t.notOk(end.logPath)
    const unlogged = await runPod(service, { logDirectory: '' })
    t.equal((await ended(service, await startShell(service, unlogged, 'echo lost; exit 5'))).exitCode, 5)
    await runtime.removePodSandbox({ podSandboxId: unlogged.id })
  })
})
