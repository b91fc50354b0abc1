import t from 'tap'

import { native } from '#src/native/index.ts'

t.test('a compiler’s error is its own sentence', async (t) => {
  const spec = { ociVersion: '1.3.0', root: { path: '/r' }, process: { cwd: '/', args: ['sh'] } }
  const linux = { namespaces: [{ type: 'mount' }], resources: { memory: { limit: 4096 } } }
  t.throws(() => native.compileContainer(JSON.stringify({ spec: { ...spec, linux }, controllers: [] })), {
    message: "linux.resources.memory.limit: controller 'memory' is not available in this cgroup hierarchy",
    code: 'ENOTSUP',
    syscall: 'compile',
  })
  t.throws(() => native.compilePod('{"id":'), { message: /^[^E].*/, code: 'EINVAL', syscall: 'parse' })
})
