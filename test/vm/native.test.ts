/** The C++ unit tests that meet the kernel, on Debian's 6.1; the `native` suite runs them on this machine's own. */
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { project } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

const built = join(project, 'build', 'cmake')
/** Those that test a computation only are as good on any kernel. */
const kernelTest = /^(cgroup\w*|device_attach|launch\w*|layer_apply|monitor\w*|placement|spawn|systemd)_test$/

t.test('native', { skip: needsVm }, async (t) => {
  const programs = readdirSync(built).filter((name) => kernelTest.test(name))
  t.ok(programs.length >= 6, 'they are built')
  for (const name of programs) {
    const program = join(built, name)
    t.test(name, async (t) => {
      const { code, text } = await new Promise<{ code: number | string; text: string }>((resolve) => {
        const options = { cwd: project, timeout: 240_000, maxBuffer: 16 << 20 }
        execFile(program, [], options, (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : (error.code ?? error.signal ?? 'killed'), text: stdout + stderr }),
        )
      })
      const lines = text.trim().split('\n')
      // 77: it could do nothing here
      t.ok(code === 0 || code === 77, `${code}: ${lines.at(-1) ?? ''}`)
      // a program says what it could not do here: that counts as skipped, with its reason
      const skipped = lines.filter((line) => line.startsWith('skipped'))
      for (const line of skipped) t.pass(name, { skip: line })
      if (code !== 0 && code !== 77) t.comment(lines.slice(-30).join('\n'))
    })
  }
})
