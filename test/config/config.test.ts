import { join } from 'node:path'
import t from 'tap'

import { changesOf, withReloaded } from '#src/config/changes.ts'
import { defaultConfig, loadConfig } from '#src/config/index.ts'
import { configJson, configToml } from '#src/config/show.ts'

t.test('the file, then the drop-ins in the order of their names', async (t) => {
  const directory = t.testdir({
    'config.toml': '[cgroup]\nmonitors = "/a.slice"\n[registry]\ninsecure = ["r:5000"]\n',
    'config.d': {
      '20-later.toml': '[cgroup]\nmissing_controller = "warn"\n',
      '10-first.toml': '[cgroup]\nmissing_controller = "error"\nmonitors = "/b.slice"\n',
      'ignored.txt': 'not toml',
    },
  })
  const path = join(directory, 'config.toml')
  t.match(await loadConfig(path), {
    cgroup: { monitors: '/b.slice', pods: '', driver: 'cgroupfs', missingController: 'warn' },
    registry: { insecure: ['r:5000'] },
    path,
  })
})

t.test('a mistake is told with file, key and what is allowed', async (t) => {
  for (const [text, message] of [
    [
      '[cgroup]\nmissing_controller = "maybe"\n',
      /config\.toml: cgroup\.missing_controller is "maybe"; allowed: "error" or "warn"/,
    ],
    ['[cgroup]\nmonitors = "../x"\n', /cgroup\.monitors/],
    ['[cgroup]\npods = "pods"\n', /cgroup\.pods is "pods"; allowed: .* slice/],
    ['[cgroup]\ndriver = "none"\n', /cgroup\.driver is "none"; allowed: "cgroupfs" or "systemd"/],
    ['[cgroup]\nnope = 1\n', /unknown key "cgroup\.nope"; known: /],
    ['top = 1\n', /unknown key "top"/],
    ['[cgroup\n', /config\.toml:1:8: illegal character in key$/],
    ['[registry]\ninsecure = [1]\n', /registry\.insecure/],
    ['[__proto__]\nx = 1\n', /unknown section/],
    [
      '[cgroup]\nmonitors = "/a"\nmonitors = "/b"\n',
      /config\.toml:3:\d+: trying to redefine an already defined table or value$/,
    ],
    ['[[cgroup]]\nmonitors = "/a"\n', /cgroup is a section: its keys are written below \[cgroup\]/],
    ['cgroup = 1\n', /cgroup is a section/],
    [
      '[cgroups]\nmonitors = "/a"\n',
      /unknown section \[cgroups\]; did you mean \[cgroup\]\?; known: \[cadvisor\], \[cgroup\], /,
    ],
    [
      '[cgroup]\nmissing_controler = "warn"\n',
      /"cgroup\.missing_controler"; did you mean cgroup\.missing_controller\?/,
    ],
    ['[registry]\nsnapshotter = "native"\n', /"registry\.snapshotter"; did you mean images\.snapshotter\?/],
    ['insecure = []\n', /"insecure"; did you mean registry\.insecure\?/],
    ['[images]\npinned = ["a/Upper"]\n', /images\.pinned is \["a\/Upper"\]; allowed: /],
    [
      '[images]\nrootfs_size = -1\nsnapshotter = "zfs"\n',
      /images\.rootfs_size is -1; allowed: .*; images\.snapshotter is "zfs"; allowed: /,
    ],
    ['[images]\nrootfs_size = 1979-05-27\n', /rootfs_size is "1979/],
  ] as const) {
    const directory = t.testdir({ 'config.toml': text })
    await t.rejects(loadConfig(join(directory, 'config.toml')), { code: 'ERR_CONFIG_INVALID', message })
  }
  await t.rejects(loadConfig('/nonexistent/config.toml'), { message: /\/nonexistent\/config\.toml does not exist/ })
})

t.test('what is in force, shown as a file that comes to the same', async (t) => {
  const directory = t.testdir({
    'config.toml': '[cgroup]\nmonitors = "/a\\"b"\n',
    'config.d': { '1.toml': '[registry]\ninsecure = ["r:5000", "s"]\n[images]\nrootfs_size = 7\n' },
  })
  const path = join(directory, 'config.toml')
  const config = await loadConfig(path)
  const shown = configToml(config)
  t.match(shown, `# ${path}\n# ${directory}/config.d/1.toml\n\n[cadvisor]\n`)
  t.match(shown, `\nrootfs_size = 7 # ${directory}/config.d/1.toml\n`)
  t.match(shown, '\nmissing_controller = "error" # default\n')
  const again = await loadConfig(join(t.testdir({ 'config.toml': shown }), 'config.toml'))
  t.same(changesOf(config, again), [])
  t.match(configJson(config), {
    files: [path, join(directory, 'config.d/1.toml')],
    values: { images: { rootfs_size: 7, overlay_volatile: false } },
    origins: { 'images.rootfs_size': join(directory, 'config.d/1.toml'), 'images.pinned': null },
  })
})

t.test('a reload takes what can change while the service runs', async (t) => {
  const before = defaultConfig()
  const after = defaultConfig()
  after.images.rootfsSize = 5
  after.images.overlayVolatile = true
  after.registry.insecure = ['a']
  t.same(
    changesOf(before, after).map(({ name, reloads }) => [name, reloads]),
    [
      ['images.rootfs_size', true],
      ['images.overlay_volatile', false],
      ['registry.insecure', true],
    ],
  )
  const inForce = withReloaded(before, after)
  t.match(inForce, { images: { rootfsSize: 5, overlayVolatile: false }, registry: { insecure: ['a'] } })
  t.same(
    changesOf(inForce, after).map(({ name }) => name),
    ['images.overlay_volatile'],
    'what needs a restart is told again',
  )
})
