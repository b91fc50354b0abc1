/** Terminals: console sockets, sizes, what the process finds, and where a terminal is refused. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Change } from '../helpers/differential/bundle.ts'
import { flatten } from '../helpers/differential/observe.ts'
import type { Step } from '../helpers/differential/script.ts'
import { differential } from '../helpers/differential/suite.ts'

const terminal: Change = (spec) => {
  spec.process.terminal = true
  spec.process.args = [
    '/bin/sh',
    '-c',
    'sleep 0.1; ls -l /proc/$$/fd/0; tty; stty size; stat -c "%F %a %u:%g" $(tty); stat -c "%F %a %t" /dev/console; echo end',
  ]
}

/** Runs the commands while the witness waits at the socket; what came over it is noted. */
const received =
  (...commands: string[][]): Step =>
  async ({ place, run, world }) => {
    const socket = join(place.directory, 'console')
    const receiver = spawn(world.programs.witness, ['quiet', `receive=${socket}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    receiver.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
    const ended = once(receiver, 'close')
    for (let tries = 0; tries < 100 && !existsSync(socket); tries++)
      await new Promise((resolve) => setTimeout(resolve, 10))
    const seen: Record<string, string> = {}
    for (const command of commands) {
      const words = command.map((word) =>
        word.replace('$S', socket).replace('$B', place.bundle).replace('$ID', place.id),
      )
      seen[command[0] ?? ''] = String((await run(...words)).status)
    }
    const timer = setTimeout(() => receiver.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(timer)
    const [head = '', ...output] = text.split('\n')
    return {
      ...seen,
      ...flatten(JSON.parse(head)),
      output: output
        .join('\n')
        .replaceAll('\r', '')
        .replace(/.* -> /, '-> ')
        .replaceAll(/\/dev\/pts\/\d+/g, '/dev/pts/N'),
    }
  }

const up = [
  ['create', '--console-socket', '$S', '-b', '$B', '$ID'],
  ['start', '$ID'],
]

differential(
  'terminals',
  {
    spec: terminal,
    differences: [{ at: /payload$/, follow: 'any', why: 'the name that goes with the descriptor may be any' }],
  },
  [
    { name: 'by a console socket', steps: [received(...up)] },
    { name: 'of a size', spec: { process: { consoleSize: { height: 30, width: 100 } } }, steps: [received(...up)] },
    { name: 'of a user', spec: { process: { user: { uid: 1000, gid: 1000 } } }, steps: [received(...up)] },
    { name: 'run --detach', steps: [received(['run', '--detach', '--console-socket', '$S', '-b', '$B', '$ID'])] },
    { name: 'create without a socket', steps: ['create -b $B $ID', 'state $ID'] },
    {
      name: 'create with a socket that is not there',
      steps: ['create --console-socket $D/nothing -b $B $ID', 'state $ID'],
    },
    {
      name: 'run without a terminal of its own',
      differences: [
        {
          at: /: (exit|status|output|.*)$/,
          follow: 'any',
          why: 'ours copies what its standard input is, a terminal or not',
        },
      ],
      steps: ['run -b $B $ID', 'state $ID'],
    },
    {
      name: 'a socket without a terminal',
      spec: { process: { terminal: false } },
      steps: ['create --console-socket $D/nothing -b $B $ID', 'state $ID'],
    },
  ],
)

differential('sizes', {}, [
  {
    name: 'consoleSize without a terminal is ignored',
    spec: { process: { consoleSize: { height: 10, width: 20 } } },
    sees: { 'terminal.size': '' },
  },
])
