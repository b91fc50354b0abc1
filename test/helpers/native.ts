/** The C++ unit tests: programs in build/cmake that print what they skipped and end with their verdict. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import type { Test } from 'tap'
import { project } from './service.ts'

/** Where scripts/test builds them, under sanitizers. */
export const nativeTests = join(project, 'build', 'cmake')

/** Runs one as a subtest; gives what it printed. A line "skipped …" counts as a skipped test, with its reason. */
export async function nativeTest(t: Test, name: string): Promise<string> {
  let printed = ''
  await t.test(name, async (t) => {
    const { code, text } = await new Promise<{ code: number | string; text: string }>((resolve) => {
      const options = { cwd: project, timeout: 240_000, maxBuffer: 16 << 20 }
      execFile(join(nativeTests, name), [], options, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : (error.code ?? error.signal ?? 'killed'), text: stdout + stderr }),
      )
    })
    printed = text
    const lines = text.trim().split('\n')
    // 77: it could do nothing here
    t.ok(code === 0 || code === 77, `${code}: ${lines.at(-1) ?? ''}`)
    for (const line of lines.filter((line) => line.startsWith('skipped'))) t.pass(name, { skip: line })
    if (code !== 0 && code !== 77) t.comment(lines.slice(-30).join('\n'))
  })
  return printed
}
