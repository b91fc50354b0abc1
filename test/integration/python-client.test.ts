/** A client in another language: Debian's gRPC for Python, with stubs that its own protoc makes of our protos. */
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { methods } from '../helpers/bad-requests.ts'
import { fakeCriu } from '../helpers/fake-criu.ts'
import { busyboxImage, needsRoot, project, startService } from '../helpers/service.ts'

const python = '/usr/bin/python3' // Debian's, whatever else is in $PATH
const execute = promisify(execFile)

/** What this answers here, for want of a registry; OK is what all others answer. */
const others: Record<string, RegExp> = {
  'ImageService.PullImage': /^UNKNOWN$/,
}
/** Of caisson.v1 what the script gives something; the rest is called with nothing, and says so. */
const given = /^Caisson\.(Info|(Tag|Untag|Inspect)Image|ImageUsage|CheckImages|PruneImages|WaitContainer)$/
const saysSo = /^(OK|INVALID_ARGUMENT|NOT_FOUND|FAILED_PRECONDITION)$/

function expected(key: string): RegExp {
  return others[key] ?? (key.startsWith('Caisson.') && !given.test(key) ? saysSo : /^OK$/)
}

t.test('a client in Python calls every RPC', { skip: needsRoot }, async (t) => {
  const criu = fakeCriu(t)
  const service = await startService(t, { images: [busyboxImage], config: `[checkpoint]\ncriu = "${criu.path}"` })
  const stubs = join(service.directory, 'stubs')
  mkdirSync(stubs)
  for (const [name, file] of Object.entries({ api: 'runtime/v1/api.proto', caisson: 'caisson/v1/caisson.proto' })) {
    // Debian 12's protoc is older than this option, which changes nothing on the wire
    const text = readFileSync(join(project, 'proto', file), 'utf8').replaceAll(/ ?\[debug_redact = true\]/g, '')
    writeFileSync(join(stubs, `${name}.proto`), text)
  }
  const out = ['-I', stubs, `--python_out=${stubs}`, `--grpc_python_out=${stubs}`]
  await execute(python, ['-m', 'grpc_tools.protoc', ...out, 'api.proto', 'caisson.proto'])

  const script = join(project, 'test/helpers/cri_client.py')
  const { stdout } = await execute(python, [script, stubs, service.socket, busyboxImage, service.directory], {
    timeout: 90_000,
  })
  const { calls, seen } = JSON.parse(stdout) as {
    calls: Record<string, [string, string]>
    seen: Record<string, unknown>
  }

  for (const { service: name, name: method } of methods()) {
    const key = `${name}.${method}`
    const [code, details] = calls[key] ?? ['not called', '']
    t.match(code, expected(key), `${key}: ${code} ${details}`)
  }
  t.match(seen, {
    version: 'caisson',
    ready: ['RuntimeReady'],
    images: [[busyboxImage]],
    'streamed images': 1,
    joined: true,
    'pod state': 0,
    pods: true,
    'streamed pods': true,
    'container state': 1,
    annotations: { note: 'ü' },
    times: true,
    containers: true,
    'streamed containers': true,
    restored: ['c'],
    exec: ['42\n', 3],
    resources: { 'cgroup.max.descendants': '9' },
    waited: 137,
    end: 137,
    gone: 'NOT_FOUND',
    'events of the container': [0, 1, 2, 3],
    'events of the pod': [0, 1, 2, 3],
  })
})
