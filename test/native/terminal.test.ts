import { closeSync, openSync, readSync, writeSync } from 'node:fs'

import t from 'tap'

import { native } from '#src/native/index.ts'

t.test('a pseudo-terminal, its size, and what is written to it', async (t) => {
  const { master, slave } = native.openPty(24, 80)
  writeSync(slave.fd, 'hello\n')
  const buffer = Buffer.alloc(64)
  t.equal(buffer.toString('latin1', 0, readSync(master.fd, buffer)), 'hello\r\n')

  const sizeIn = async (): Promise<string> => {
    const shell = openSync('/bin/sh', 'r')
    const child = native.spawn({
      exe: shell,
      argv: ['sh', '-c', 'stty size'],
      env: ['PATH=/bin:/usr/bin'],
      fds: [slave.fd, slave.fd, slave.fd],
    })
    closeSync(shell)
    await child.exited
    return buffer.toString('latin1', 0, readSync(master.fd, buffer))
  }
  t.equal(await sizeIn(), '24 80\r\n')
  native.setWindowSize(master.fd, 50, 132)
  t.equal(await sizeIn(), '50 132\r\n')

  t.throws(() => native.openPty(70000, 80), TypeError)
  const file = await native.openDirectory('/')
  t.throws(() => native.setWindowSize(file.fd, 1, 1), { code: /^(ENOTTY|EBADF)$/, syscall: 'ioctl' })
  for (const fd of [file, master, slave]) fd.close()
})
