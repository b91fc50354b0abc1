/** The C++ unit tests that meet the kernel, on Debian's 6.1; the `native` suite runs them on this machine's own. */
import { readdirSync } from 'node:fs'
import t from 'tap'
import { nativeTest, nativeTests } from '../helpers/native.ts'
import { needsVm } from '../helpers/vm.ts'

/** Those that test a computation only are as good on any kernel. */
const kernelTest = /^(cgroup\w*|device_attach|launch\w*|layer_apply|monitor\w*|placement|spawn|systemd)_test$/

t.test('native', { skip: needsVm }, async (t) => {
  const programs = readdirSync(nativeTests).filter((name) => kernelTest.test(name))
  t.ok(programs.length >= 6, 'they are built')
  for (const name of programs) await nativeTest(t, name)
})
