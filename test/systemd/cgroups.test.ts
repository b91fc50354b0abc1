/** Control groups by way of systemd: its scopes for root, and for a user with a manager of his own. */
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { nativeTest } from '../helpers/native.ts'
import { needsSystemd } from '../helpers/vm.ts'

t.test('systemd', { skip: needsSystemd }, async (t) => {
  // placement_test places as this user
  execFileSync('useradd', ['-u', '12345', '-M', '-d', '/tmp', '-s', '/bin/sh', 'caisson-test'])
  execFileSync('systemctl', ['start', 'user@12345.service'])
  for (const name of ['systemd_test', 'placement_test']) {
    const printed = await nativeTest(t, name)
    t.notMatch(printed, /^skipped/m, `${name}: all of it ran`)
  }
  const units = execFileSync('systemctl', ['list-units', '--all', '--plain', '--no-legend', 'caisson*.scope'])
  t.equal(units.toString(), '', 'no unit is left')
})
