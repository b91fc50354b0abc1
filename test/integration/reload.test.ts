/** SIGHUP: what can change while pods live changes; what cannot is told; what is not valid changes nothing. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { runPod } from '../helpers/pods.ts'
import { busyboxImage, type LogLine, needsRoot, startService, until } from '../helpers/service.ts'

interface ReloadLine extends LogLine {
  changes?: string[]
}

t.test('reload', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const dropIns = join(service.directory, 'config.d')
  await mkdir(dropIns)
  const logOf = async (words: RegExp): Promise<ReloadLine[]> =>
    (await service.log()).filter(({ msg }) => words.test(msg ?? ''))
  /** Writes a drop-in, sends SIGHUP, and waits for what is said of it. */
  const reloaded = async (text: string, words = /was read again|cannot be used/): Promise<ReloadLine> => {
    const before = (await logOf(words)).length
    await writeFile(join(dropIns, '50-test.toml'), text)
    process.kill(service.pid, 'SIGHUP')
    await until(async () => (await logOf(words)).length > before)
    return (await logOf(words)).at(-1) ?? { level: 0 }
  }
  const ready = async (): Promise<string | null | undefined> =>
    (await service.runtime.status({})).status?.conditions?.find(({ type }) => type === 'NetworkReady')?.message
  const pinned = async (): Promise<boolean | null | undefined> =>
    (await service.image.imageStatus({ image: { image: busyboxImage } })).image?.pinned
  const states = (): Promise<string[]> => readdir(join(service.state, 'pods'))

  t.test('a configuration that is not valid leaves everything as it was', async (t) => {
    const line = await reloaded('[images]\npinned = ["localhost/busybox:latest"]\n[netwrk]\ndriver = "cni"\n')
    t.equal(line.level, 50)
    t.match(line.err?.message, /50-test\.toml: unknown section \[netwrk\]; did you mean \[network\]\?/)
    t.equal(await pinned(), false)
    t.match(
      (await reloaded('[network\n')).err?.message,
      /50-test\.toml:1:\d+: /,
      'a mistake of TOML is told with its line',
    )
  })

  t.test('pinned images, networks, spare sandboxes, limits', async (t) => {
    const pod = await runPod(service)
    const plugins = join(service.directory, 'net.d')
    t.equal(await pinned(), false)
    t.match(await ready(), /loopback only/)
    const text = (spares: number): string =>
      `[images]\npinned = ["localhost/busybox"]\n[network]\ndriver = "cni"\ncni_config_dir = "${plugins}"\nspare_sandboxes = ${spares}\n[cgroup]\nmissing_controller = "warn"\n`
    const line = await reloaded(text(2))
    t.match(line.changes, [
      'cgroup.missing_controller: "error" -> "warn"',
      'images.pinned: [] -> ["localhost/busybox"]',
    ])
    t.equal(line.changes?.length, 5)
    t.equal(await pinned(), true)
    t.match(await ready(), `no configuration of CNI in ${plugins}`)
    t.equal((await service.caisson.info({})).cgroup?.missingControllerIsError, false)
    await until(async () => (await states()).length === 3)
    await reloaded(text(1))
    await until(async () => (await states()).length === 2)
    t.ok((await states()).includes(pod.id), 'what ends is a spare')

    t.test('what is taken away is the default again', async (t) => {
      t.equal((await reloaded('')).changes?.length, 5)
      t.equal(await pinned(), false)
      t.match(await ready(), /loopback only/)
      await until(async () => (await states()).length === 1)
    })
  })

  t.test('what needs a restart is told, every time, and is as it was', async (t) => {
    for (const when of ['at first', 'again']) {
      const line = await reloaded('[images]\noverlay_volatile = true\n', /need a restart/)
      t.same(line.changes, ['images.overlay_volatile: false -> true'], when)
    }
  })

  t.test('caisson config shows what a reload would take', async (t) => {
    await writeFile(join(dropIns, '50-test.toml'), '[images]\nrootfs_size = 100\n')
    const shown = await service.cli(['config'])
    t.match(shown.stdout, `rootfs_size = 100 # ${dropIns}/50-test.toml\n`)
    t.match(shown.stdout, `driver = "none" # ${service.configFile}\n`)
    const { values } = JSON.parse((await service.cli(['config', '--default', '--json'])).stdout) as {
      values: { images: object }
    }
    t.match(values.images, { rootfs_size: 0 })
    await writeFile(join(dropIns, '50-test.toml'), '[images]\nrootfs_size = "big"\n')
    t.match(await service.cli(['config']), {
      status: 125,
      stdout: '',
      stderr: /^caisson: .*50-test\.toml: images\.rootfs_size is "big"; allowed: an integer/,
    })
  })

  t.test('many at once', async (t) => {
    await writeFile(join(dropIns, '50-test.toml'), '')
    for (let n = 0; n < 100; n++) process.kill(service.pid, 'SIGHUP')
    t.equal((await service.runtime.version({})).runtimeName, 'caisson')
    await reloaded('[images]\nrootfs_size = 100\n')
    await until(async () => (await logOf(/read again/)).some(({ changes }) => /rootfs_size/.test(String(changes))))
  })
})

t.test('the level of the log', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [], logLevel: null, config: '[log]\nlevel = "warn"' })
  t.same(await service.log(), [])
  await writeFile(service.configFile, (await readFile(service.configFile, 'utf8')).replace('"warn"', '"info"'))
  process.kill(service.pid, 'SIGHUP')
  await until(async () => (await service.log()).some(({ msg }) => /read again/.test(msg ?? '')))
})
