import t from 'tap'

import { UndoStack } from '#src/undo.ts'

t.test('steps are undone newest first, all of them, and failures come back', async (t) => {
  const order: string[] = []
  const undo = new UndoStack()
  undo.push('one', () => order.push('one'))
  undo.push('two', () => {
    throw new Error('stuck')
  })
  undo.push('three', async () => {
    await Promise.resolve()
    order.push('three')
  })
  const failures = await undo.unwind()
  t.strictSame(order, ['three', 'one'])
  t.match(failures, [{ what: 'two', error: { message: 'stuck' } }])
  t.strictSame(await undo.unwind(), [], 'once only')
})

t.test('nothing is undone after success', async (t) => {
  const undo = new UndoStack()
  undo.push('one', () => t.fail('must not run'))
  undo.commit()
  t.strictSame(await undo.unwind(), [])
})
