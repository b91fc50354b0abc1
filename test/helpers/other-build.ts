/** The same program as another build: an update, as the service and its monitors see it. */
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { buildId } from '#src/native/index.ts'
import { project } from './service.ts'

/**
 * What is told apart by its build alone: the code is the same. Only the first digit differs, for a linker keeps a string that ends
 * another in that other’s bytes: with another last digit, a device type `"a"` of a build whose identity ends in a was no `"a"` any more.
 */
export const otherBuildId = (buildId.startsWith('f') ? 'e' : 'f') + buildId.slice(1)

let made: Promise<string> | undefined

/** The path of its command: a copy of what runs, with another identity in its native half, until the file's tests have ended. */
export function otherBuild(): Promise<string> {
  return (made ??= make())
}

async function make(): Promise<string> {
  const directory = await mkdtemp('/tmp/caisson-update-')
  t.teardown(() => rm(directory, { recursive: true }))
  const programs = join(directory, 'build', 'Release')
  await mkdir(programs, { recursive: true })
  await cp(join(project, 'dist'), join(directory, 'dist'), {
    recursive: true,
    filter: (path) => !/\.(map|d\.ts)$/.test(path),
  })
  await cp(join(project, 'package.json'), join(directory, 'package.json'))
  await symlink(join(project, 'node_modules'), join(directory, 'node_modules'))
  for (const name of ['caisson.node', 'caisson-monitor']) {
    const bytes = await readFile(join(project, 'build', 'Release', name))
    const at = bytes.indexOf(buildId)
    if (at < 0 || bytes.includes(buildId, at + 1)) throw new Error(`${name} does not have its build’s identity once`)
    bytes.write(otherBuildId, at)
    await writeFile(join(programs, name), bytes, { mode: 0o755 })
  }
  return join(directory, 'dist', 'cli', 'main.js')
}
