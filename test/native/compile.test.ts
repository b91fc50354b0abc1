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

t.test('compileSeccomp', async (t) => {
  const rule = { names: ['sethostname'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }
  const profile = { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [rule] }
  const { filter, flags, notify } = native.compileSeccomp(JSON.stringify(profile))
  t.equal(filter.length % 8, 0)
  t.equal(filter.readUInt16LE(0), 0x20, 'begins with a load, of the architecture')
  t.equal(filter.readUInt32LE(4), 4)
  t.ok(filter.includes(Buffer.from([0x06, 0, 0, 0, 1, 0, 5, 0])), 'has the return of EPERM')
  t.equal(flags, 0)
  t.equal(notify, false)
  t.throws(() => native.compileSeccomp('{"defaultAction":"SCMP_ACT_NONE"}'), {
    code: 'EINVAL',
    message: /SCMP_ACT_NONE/,
  })
  t.throws(() => native.compileSeccomp('{'), { code: 'EINVAL', syscall: 'parse' })
})
