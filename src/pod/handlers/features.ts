import { spawn } from 'node:child_process'

/** What a kubelet asks of a runtime handler before it uses it. */
export interface HandlerFeatures {
  recursiveReadOnlyMounts: boolean
  userNamespaces: boolean
}

const timeoutMs = 5000
const outputMax = 1 << 20

/** What is found out of an executable. */
export interface ProbedRuntime {
  features: HandlerFeatures
  /** Its `exec` has `--cgroup`, as runc's and crun's; runsc's has not. */
  placesExecs: boolean
}

/**
 * What `<runtime> features` says (runtime-spec features.md), run once in a process group of its own, bounded in time and size. A
 * runtime that does not know the word, hangs, or answers with something else, has no features that it would have to tell of. What its
 * `exec` can is told by `<runtime> exec --help`, whatever that ends with.
 *
 * @returns `problem`, where there is one, is for the log
 */
export async function probeRuntime(path: string): Promise<ProbedRuntime & { problem: string }> {
  // one that says nothing of it is taken for runc's like
  const help = outputOf(path, ['exec', '--help'], true).catch(() => '')
  // every source of a mount is a clone of ours by then, read-only with all that is below it: no runtime has a say in it
  const features = { recursiveReadOnlyMounts: true, userNamespaces: false }
  let problem = ''
  try {
    const document = JSON.parse(await outputOf(path, ['features'])) as { linux?: { namespaces?: unknown } } | null
    const namespaces = document?.linux?.namespaces
    features.userNamespaces = Array.isArray(namespaces) && namespaces.includes('user')
  } catch (error) {
    problem = `${path} features: ${(error as Error).message}`
  }
  const options = await help
  return { features, placesExecs: !/-pid-file/.test(options) || /-cgroup/.test(options), problem }
}

/** What it prints, to standard error too where `help` is asked for, which some runtimes count as a failure. */
function outputOf(path: string, args: readonly string[], help = false): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: {} })
    const chunks: Buffer[] = []
    let size = 0
    const end = (why: string): void => {
      if (child.pid !== undefined && child.exitCode === null) {
        try {
          process.kill(-child.pid, 'SIGKILL')
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
        }
      }
      child.stdout.destroy()
      child.stderr.destroy()
      reject(new Error(why))
    }
    const timer = setTimeout(() => {
      end(`has not ended within ${timeoutMs} ms`)
    }, timeoutMs)
    const take = (chunk: Buffer): void => {
      size += chunk.length
      if (size > outputMax) end(`has written more than ${outputMax} bytes`)
      else chunks.push(chunk)
    }
    child.stdout.on('data', take)
    if (help) child.stderr.on('data', take)
    else child.stderr.resume()
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', (code) => {
      clearTimeout(timer)
      if (code === 0 || help) resolve(Buffer.concat(chunks).toString())
      else reject(new Error(`failed with status ${code}`))
    })
  })
}
