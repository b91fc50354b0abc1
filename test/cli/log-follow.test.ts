import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import t from 'tap'

import { LogReader } from '#src/cli/log-follow.ts'

class Sink extends Writable {
  text = ''
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    done()
  }
}

const stamp = '2026-01-02T03:04:05.000000006Z'

t.test('streams are told apart and split lines joined', async (t) => {
  const path = join(t.testdir(), 'log')
  writeFileSync(
    path,
    `${stamp} stdout F hello world\n${stamp} stderr P par\n${stamp} stdout F  two\n${stamp} stderr F tial\nnonsense\n`,
  )
  const [stdout, stderr] = [new Sink(), new Sink()]
  const reader = await LogReader.open(path, { stdout, stderr })
  await reader.drain()
  await reader.close()
  t.equal(stdout.text, 'hello world\n two\n')
  t.equal(stderr.text, 'partial\n')
})

t.test('time stamps stand at the beginning of lines only', async (t) => {
  const path = join(t.testdir(), 'log')
  writeFileSync(path, `${stamp} stdout P a\n${stamp} stdout F b\n`)
  const stdout = new Sink()
  const reader = await LogReader.open(path, { stdout, stderr: new Sink() }, true)
  await reader.drain()
  await reader.close()
  t.equal(stdout.text, `${stamp} ab\n`)
})

t.test('following ends with the container, and not before its last byte', async (t) => {
  const path = join(t.testdir(), 'log')
  writeFileSync(path, '')
  const stdout = new Sink()
  const reader = await LogReader.open(path, { stdout, stderr: new Sink() })
  let end: () => void = () => undefined
  const following = reader.follow(path, new Promise<void>((resolve) => (end = resolve)))
  for (let i = 0; i < 100; i++) {
    appendFileSync(path, `${stamp} stdout F line ${i}\n`)
    if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  end()
  await following
  await reader.close()
  t.equal(stdout.text, Array.from({ length: 100 }, (_, i) => `line ${i}\n`).join(''))
})
