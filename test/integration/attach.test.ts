/** Attach: what is seen from when on, standard input and its end, many clients, slow ones, a terminal, a restart of the service. */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { create, ended, output, refused, runPod, startShell, status } from '../helpers/pods.ts'
import { needsRoot, startService, until } from '../helpers/service.ts'
import { commandEnd, openCommand, type Command } from '../helpers/spdy-client.ts'

t.test('attach', { skip: needsRoot, timeout: 120_000 }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)
  const attach = async (
    containerId: string,
    streams: { tty?: boolean; stdin?: boolean; stdout?: boolean; stderr?: boolean },
  ): Promise<Command> => {
    const { url } = await service.runtime.attach({ containerId, ...streams })
    return await openCommand(url, streams)
  }
  const type = (command: Command, text: string, fin = false): void => {
    if (command.stdin === null) throw new Error('no stdin')
    command.client.send(command.stdin, text, fin)
  }

  t.test('what is refused', async (t) => {
    const id = await startShell(service, pod, 'exit 0')
    await ended(service, id)
    await refused(t, runtime.attach({ containerId: '', stdout: true }), 'INVALID_ARGUMENT', 'container_id')
    await refused(t, runtime.attach({ containerId: id }), 'INVALID_ARGUMENT', 'one of stdin')
    await refused(t, runtime.attach({ containerId: id, stdout: true, stderr: true, tty: true }), 'INVALID_ARGUMENT')
    await refused(t, runtime.attach({ containerId: id, stdout: true }), 'FAILED_PRECONDITION', id)
    await refused(t, runtime.attach({ containerId: 'f'.repeat(64), stdout: true }), 'NOT_FOUND')
  })

  t.test('before the start: nothing is missed, and the log has the same', async (t) => {
    const id = await create(service, pod, { command: ['/bin/sh', '-c', 'echo one; echo two >&2; exit 4'] })
    const command = await attach(id, { stdout: true, stderr: true })
    await runtime.startContainer({ containerId: id })
    t.equal((await commandEnd(command)).status, 'Success')
    t.equal(command.stdout?.text, 'one\n')
    t.equal(command.stderr?.text, 'two\n')
    const end = await ended(service, id)
    t.equal(end.exitCode, 4)
    t.same(await output(end.logPath), { stdout: 'one\n', stderr: 'two\n' })
  })

  t.test('output from then on, for many; who leaves does not disturb', async (t) => {
    const id = await startShell(service, pod, 'echo early; while read line; do echo "got $line"; done; echo end', {
      stdin: true,
    })
    await until(async () => (await output((await status(service, id)).logPath)).stdout === 'early\n')
    const readers = await Promise.all(Array.from({ length: 10 }, () => attach(id, { stdout: true })))
    const writer = await attach(id, { stdin: true, stdout: true })
    type(writer, 'a\n')
    for (const { client, stdout } of readers) await client.until(() => stdout?.text === 'got a\n', 'the output')
    readers[0]?.client.socket.destroy()
    // the end of one client's input is not the container's
    type(writer, '', true)
    writer.client.socket.destroy()
    const second = await attach(id, { stdin: true, stdout: true })
    type(second, 'b\n')
    await second.client.until(() => second.stdout?.text === 'got b\n', 'the output')
    t.equal(readers[1]?.stdout?.text, 'got a\ngot b\n')
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    for (const reader of readers.slice(1)) t.equal((await commandEnd(reader)).status, 'Success')
  })

  t.test('stdin_once: the end of the first client’s input is the container’s', async (t) => {
    const id = await startShell(service, pod, 'wc -c', { stdin: true, stdinOnce: true })
    const command = await attach(id, { stdin: true, stdout: true })
    type(command, '12345', true)
    t.equal((await commandEnd(command)).status, 'Success')
    t.equal(command.stdout?.text, '5\n')
    t.equal((await ended(service, id)).exitCode, 0)
    const gone = await startShell(service, pod, 'cat; echo over', { stdin: true, stdinOnce: true })
    const first = await attach(gone, { stdin: true, stdout: true })
    type(first, 'x')
    await first.client.until(() => first.stdout?.text === 'x', 'the echo')
    first.client.socket.destroy()
    t.equal((await ended(service, gone)).exitCode, 0)
    t.equal((await output((await status(service, gone)).logPath)).stdout, 'xover\n')
  })

  t.test('a slow reader is dropped and told; the container goes on', async (t) => {
    const id = await startShell(service, pod, 'read x; head -c 33554432 /dev/zero | tr "\\0" "\\n"; echo finished', {
      stdin: true,
    })
    const slow = await attach(id, { stdout: true })
    slow.client.socket.pause()
    const quick = await attach(id, { stdin: true, stdout: true })
    type(quick, '\n')
    const end = await ended(service, id)
    t.equal(end.exitCode, 0)
    slow.client.socket.resume()
    t.match(await commandEnd(slow), { status: 'Failure', message: /did not read/ })
    const bytes = slow.stdout?.chunks.reduce((sum, { length }) => sum + length, 0) ?? 0
    t.ok(bytes > 64 << 10 && bytes < 32 << 20, `it had ${bytes} bytes`)
  })

  t.test('a terminal: input, size, one output, detaching leaves it', async (t) => {
    const script = 'while read line; do echo "got $line $(stty size)"; done'
    const id = await startShell(service, pod, script, { stdin: true, tty: true })
    const streams = { tty: true, stdin: true, stdout: true }
    const command = await attach(id, streams)
    const { client, stdout, resize } = command
    if (resize === null) throw new Error('no resize')
    client.send(resize, '{"Width":99,"Height":44}')
    // the size travels beside the input, and may come after it
    const asking = setInterval(() => type(command, 'x\n'), 100)
    await client.until(() => /got x 44 99/.test(stdout?.text ?? ''), 'size and line')
    clearInterval(asking)
    client.socket.destroy()
    await delay(100)
    const again = await attach(id, streams)
    type(again, 'y\n')
    await again.client.until(() => /got y/.test(again.stdout?.text ?? ''), 'the second client')
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    t.equal((await commandEnd(again)).status, 'Success')
  })

  t.test('after a restart of the service', async (t) => {
    const id = await startShell(service, pod, 'while read line; do echo "got $line"; done', { stdin: true })
    const before = await attach(id, { stdin: true, stdout: true })
    type(before, '1\n')
    await before.client.until(() => before.stdout?.text === 'got 1\n', 'the output')
    await service.restart()
    await before.client.until(() => before.client.closed, 'the end with the service')
    const after = await attach(id, { stdin: true, stdout: true })
    type(after, '2\n')
    await after.client.until(() => after.stdout?.text === 'got 2\n', 'the output')
    t.equal((await output((await status(service, id)).logPath)).stdout, 'got 1\ngot 2\n')
    await service.runtime.removeContainer({ containerId: id })
  })
})
