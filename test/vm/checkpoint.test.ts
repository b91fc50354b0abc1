/** checkpoint and restore of caisson-oci by criu: Debian's 3.17 knows Debian's 6.1, not the newest kernels. */
import { spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { configuration, writeBundle } from '../helpers/bundle.ts'
import { cgroupRoot, project, until } from '../helpers/service.ts'
import { missingTools } from '../helpers/tools.ts'
import { needsVm } from '../helpers/vm.ts'

void t.test(
  'a container is written to images, and goes on from them',
  { skip: needsVm || missingTools('criu') },
  async (t) => {
    const directory = mkdtempSync('/tmp/caisson-checkpoint-')
    const root = join(directory, 'state')
    const oci = (...args: string[]): SpawnSyncReturns<string> =>
      spawnSync(join(project, 'build/Release/caisson-oci'), ['--root', root, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    const quietly = (...args: string[]): number | null =>
      spawnSync(join(project, 'build/Release/caisson-oci'), ['--root', root, ...args], { stdio: 'ignore' }).status
    t.teardown(() => {
      oci('delete', '--force', 'c')
      rmSync(directory, { recursive: true, force: true })
    })
    const count = 'i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.1; done'
    // /proc/keys is masked by a file that comes from outside, /proc/scsi by a file system of its own
    const config = configuration({ args: ['/bin/sh', '-c', count] }, { maskedPaths: ['/proc/keys', '/proc/scsi'] })
    const bundle = await writeBundle(join(directory, 'bundle'), config)
    const counted = (): number => {
      const file = join(bundle, 'rootfs/count')
      return existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
    }
    const images = join(directory, 'images')

    t.equal(quietly('create', '--bundle', bundle, 'c'), 0)
    t.match(oci('checkpoint', '--image-path', images, 'c'), {
      status: 1,
      stderr: /cannot be checkpointed in created state/,
    })
    t.equal(oci('start', 'c').status, 0)
    await until(() => counted() > 3)
    t.match(oci('--criu', 'no-such-criu', 'checkpoint', '--image-path', images, 'c'), {
      status: 1,
      stderr: /criu is not installed/,
    })

    t.match(oci('checkpoint', '--leave-running', '--image-path', images, 'c'), { status: 0 })
    const left = counted()
    await until(() => counted() > left, undefined, 'it was left running')
    rmSync(images, { recursive: true })
    t.match(oci('checkpoint', '--image-path', images, 'c'), { status: 0 })
    t.match(oci('state', 'c'), { status: 1, stderr: /container does not exist/ })
    t.notOk(existsSync(join(cgroupRoot(), 'c')), 'no cgroup')

    const stopped = counted()
    t.equal(quietly('restore', '--detach', '--image-path', images, '--bundle', bundle, 'c'), 0)
    await until(() => counted() > stopped + 3, undefined, 'it goes on counting')
    const state = JSON.parse(oci('state', 'c').stdout) as { status: string; pid: number }
    t.equal(state.status, 'running')
    t.match(readFileSync(`/proc/${state.pid}/cgroup`, 'utf8'), /\/c\n/, 'in a cgroup of its own')
    t.match(oci('exec', 'c', 'cat', '/proc/keys'), { status: 0, stdout: '' }, 'still masked')
    t.notOk(readFileSync('/proc/self/mountinfo', 'utf8').includes(directory), 'nothing on the host')
    t.equal(oci('delete', '--force', 'c').status, 0)
    t.notOk(existsSync(join(root, 'c')), 'no state')
  },
)
