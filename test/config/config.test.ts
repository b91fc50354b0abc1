import { join } from 'node:path'
import t from 'tap'

import { loadConfig } from '#src/config/index.ts'

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
    ['[cgroup\n', /config\.toml: /],
    ['[registry]\ninsecure = [1]\n', /registry\.insecure/],
    ['[__proto__]\nx = 1\n', /unknown key/],
  ] as const) {
    const directory = t.testdir({ 'config.toml': text })
    await t.rejects(loadConfig(join(directory, 'config.toml')), { code: 'ERR_CONFIG_INVALID', message })
  }
  await t.rejects(loadConfig('/nonexistent/config.toml'), { message: /\/nonexistent\/config\.toml does not exist/ })
})
