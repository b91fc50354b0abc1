import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

import { readRecord, writeRecord } from '#src/records.ts'

t.test('a record comes back, nanoseconds as text, and leaves no temporary file', async (t) => {
  const directory = t.testdir()
  const path = join(directory, 'pod.json')
  await writeRecord(path, { id: 'x', createdAt: 1_700_000_000_000_000_001n })
  t.strictSame(await readRecord(path), { id: 'x', createdAt: '1700000000000000001', v: 1 })
  await writeRecord(path, { id: 'y' })
  t.match(await readRecord(path), { id: 'y' })
  t.strictSame(readdirSync(directory), ['pod.json'])
})

t.test('an absent record is null; broken and newer ones are errors that name the file', async (t) => {
  const directory = t.testdir()
  t.equal(await readRecord(join(directory, 'none')), null)
  for (const [text, why] of [
    ['{', /not JSON/],
    ['[]', /not an object/],
    ['{}', /no version/],
    ['{"v":2}', /newer Caisson/],
  ] as const) {
    const path = join(directory, 'record.json')
    writeFileSync(path, text)
    await t.rejects(readRecord(path), { code: 'ERR_RECORD_INVALID', message: why })
    await t.rejects(readRecord(path), { message: new RegExp(path) })
  }
})

t.test('a write that cannot be done leaves nothing', async (t) => {
  const directory = t.testdir()
  await t.rejects(writeRecord(join(directory, 'missing', 'pod.json'), {}), { code: 'ENOENT' })
  t.strictSame(readdirSync(directory), [])
})
