/** A program in criu's place: what the service and the monitor do around it, on kernels that criu does not know. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs/minimal.js'
import type { Test } from 'tap'

const { Writer } = protobuf
const magics = { core: 0x55053847, mountpoints: 0x55563928, seccomp: 0x64413049 }

export function criuImage(kind: keyof typeof magics, ...entries: Uint8Array[]): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x54564319, 0)
  head.writeUInt32LE(magics[kind], 4)
  const parts = entries.flatMap((entry) => {
    const size = Buffer.alloc(4)
    size.writeUInt32LE(entry.length)
    return [size, entry]
  })
  return Buffer.concat([head, ...parts])
}

/** A process: the words of its bounding set, and its filter of system calls by its index. */
export function coreEntry(bounding: readonly number[] = [0, 0], filter: number | null = null): Uint8Array {
  const creds = Writer.create()
  for (const word of bounding) creds.uint32((12 << 3) | 0).uint32(word)
  const thread = Writer.create()
    .uint32((10 << 3) | 2)
    .bytes(creds.finish())
  if (filter !== null)
    thread
      .uint32(11 << 3)
      .uint32(2)
      .uint32(12 << 3)
      .uint32(filter)
  return Writer.create()
    .uint32((5 << 3) | 2)
    .bytes(thread.finish())
    .finish()
}

export function mountEntry(type: number, point: string, external = '', plugin = false): Uint8Array {
  const writer = Writer.create()
    .uint32(1 << 3)
    .uint32(type)
    .uint32((7 << 3) | 2)
    .string(point)
  if (plugin) writer.uint32(12 << 3).bool(true)
  if (external !== '') writer.uint32((18 << 3) | 2).string(external)
  return writer.finish()
}

export function seccompEntry(programs: readonly Uint8Array[]): Uint8Array {
  const writer = Writer.create()
  programs.forEach((program, index) => {
    const filter = Writer.create()
      .uint32((1 << 3) | 2)
      .bytes(program)
    if (index > 0) filter.uint32(2 << 3).uint32(index - 1)
    writer.uint32((1 << 3) | 2).bytes(filter.finish())
  })
  return writer.finish()
}

export interface FakeCriu {
  path: string
  /** Its own, in which a test may have files; gone with the test. */
  directory: string
  /** What `dump` does: `ok`, `fail`, or `wait` for `release()`; what `restore` does: `ok`, `fail`. */
  behave(mode: { dump?: 'ok' | 'fail' | 'wait'; restore?: 'ok' | 'fail' }): void
  release(): void
}

/** `restore` leaves a process that counts on the container's standard output, and ends with 7 when it is told to. */
export function fakeCriu(t: Test): FakeCriu {
  const directory = mkdtempSync('/tmp/caisson-criu-')
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true })
  })
  const path = join(directory, 'criu')
  const file = (name: string): string => join(directory, name)
  writeFileSync(file('core-1.img'), criuImage('core', coreEntry()))
  writeFileSync(
    path,
    `#!/bin/sh
set -e
verb=$1
while [ $# -gt 0 ]; do
  case $1 in
    --images-dir) images=$2 ;;
    --work-dir) work=$2 ;;
    --images-dir=*) images=\${1#*=} ;;
    --work-dir=*) work=\${1#*=} ;;
  esac
  shift
done
mode=$(cat ${directory}/$verb)
case $verb-$mode in
  dump-wait)
    touch ${directory}/waits
    while [ ! -e ${directory}/release ]; do sleep 0.05; done ;;
  *-fail)
    echo "(00.1) Error (criu/fake.c:1): the fake cannot" >"$work/$verb.log"
    echo "(00.2) Error (criu/fake.c:2): FAILED." >>"$work/$verb.log"
    exit 1 ;;
esac
if [ $verb = dump ]; then
  cp ${directory}/core-1.img "$images/"
  echo fine >"$work/dump.log"
else
  sh -c 'trap "echo told to end; exit 7" TERM; i=0; while :; do i=$((i + 1)); echo count $i; sleep 0.1; done' &
  echo $! >"$work/pid"
fi
`,
  )
  chmodSync(path, 0o755)
  const fake: FakeCriu = {
    path,
    directory,
    behave({ dump = 'ok', restore = 'ok' }) {
      for (const name of ['waits', 'release']) rmSync(file(name), { force: true })
      writeFileSync(file('dump'), dump)
      writeFileSync(file('restore'), restore)
    },
    release() {
      writeFileSync(file('release'), '')
    },
  }
  fake.behave({})
  return fake
}
