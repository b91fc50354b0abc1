import { spawn } from 'node:child_process'
import { CaissonError } from '../../errors.ts'
import { anonymous, credentialsFor, type Credentials } from './credentials.ts'
import { quoteRemote } from './errors.ts'

const helperTimeoutMs = 30_000
const outputMax = 1 << 20
/** What every helper says on its standard output when it knows nothing: docker-credential-helpers, credentials/error.go. */
const nothingKnown = /credentials not found in native (?:keychain|store)|no credentials server URL/i

/**
 * Asks `docker-credential-<name> get` for a registry's credentials: https://github.com/docker/docker-credential-helpers. It is a child
 * without a shell; its time and its answer are bounded.
 *
 * @param server as the helper knows it: `https://index.docker.io/v1/`, `registry.local:5000`
 * @param file where the helper is named, for messages
 * @throws CaissonError ERR_CONFIG_INVALID when it cannot be run or fails; its answer is never in the text
 */
export async function askHelper(
  name: string,
  server: string,
  file: string,
  timeoutMs = helperTimeoutMs,
): Promise<Credentials> {
  const program = `docker-credential-${name}`
  const fail = (why: string, cause?: unknown): CaissonError =>
    new CaissonError('ERR_CONFIG_INVALID', `credential helper ${program} (of ${file}) for ${server}: ${why}`, {
      ...(cause !== undefined && { cause }),
    })
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$/.test(name)) throw fail('this is not the name of a helper')
  const { status, signal, stdout, stderr, excess, late } = await runHelper(program, server, timeoutMs).catch(
    (cause: unknown) => {
      throw fail(`it cannot be run: ${(cause as Error).message}`, cause)
    },
  )
  if (late) throw fail(`no answer in ${timeoutMs / 1000} s`)
  if (excess) throw fail(`its answer is longer than ${outputMax} bytes`)
  if (status !== 0) {
    if (nothingKnown.test(stdout)) return anonymous
    throw fail(`it ended with ${signal ?? `status ${status}`}${stderr === '' ? '' : `: ${quoteRemote(stderr)}`}`)
  }
  let answer: { Username?: unknown; Secret?: unknown } | null
  try {
    answer = JSON.parse(stdout) as typeof answer
  } catch {
    // the parser's own words would quote the secret
    throw fail('its answer is not JSON')
  }
  const { Username: username, Secret: password } = answer ?? {}
  if (typeof username !== 'string' || typeof password !== 'string') throw fail('its answer has no Username and Secret')
  return credentialsFor('', { username, password })
}

interface HelperResult {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** Whether it said more than is read. */
  excess: boolean
  late: boolean
}

function runHelper(program: string, input: string, timeoutMs: number): Promise<HelperResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { stdio: ['pipe', 'pipe', 'pipe'] })
    const output = { stdout: '', stderr: '' }
    const result: HelperResult = { status: null, signal: null, stdout: '', stderr: '', excess: false, late: false }
    const end = (): void => {
      child.kill('SIGKILL')
      // a grandchild may hold the pipes open: the answer is not waited for
      child.stdout.destroy()
      child.stderr.destroy()
    }
    const timer = setTimeout(() => {
      result.late = true
      end()
    }, timeoutMs)
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8')
      child[name].on('data', (text: string) => {
        output[name] += text
        if (output[name].length <= outputMax) return
        result.excess = true
        end()
      })
    }
    child.once('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.once('close', (status, signal) => {
      clearTimeout(timer)
      resolve({ ...result, ...output, status, signal })
    })
    // one that ends without reading has said all it wants to
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })
}
