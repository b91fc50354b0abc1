import { spawn } from 'node:child_process'

/** What a kubelet asks of a runtime handler before it uses it. */
export interface HandlerFeatures {
  recursiveReadOnlyMounts: boolean
  userNamespaces: boolean
}

const timeoutMs = 5000
const outputMax = 1 << 20

/**
 * What `<runtime> features` says (runtime-spec features.md), run once in a process group of its own, bounded in time and size. A
 * runtime that does not know the word, hangs, or answers with something else, has no features that it would have to tell of.
 *
 * @returns `problem`, where there is one, is for the log
 */
export async function probeFeatures(path: string): Promise<{ features: HandlerFeatures; problem: string }> {
  // every source of a mount is a clone of ours by then, read-only with all that is below it: no runtime has a say in it
  const features = { recursiveReadOnlyMounts: true, userNamespaces: false }
  try {
    const document = JSON.parse(await outputOf(path)) as { linux?: { namespaces?: unknown } } | null
    const namespaces = document?.linux?.namespaces
    return {
      features: { ...features, userNamespaces: Array.isArray(namespaces) && namespaces.includes('user') },
      problem: '',
    }
  } catch (error) {
    return { features, problem: `${path} features: ${(error as Error).message}` }
  }
}

function outputOf(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, ['features'], { detached: true, stdio: ['ignore', 'pipe', 'ignore'], env: {} })
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
      reject(new Error(why))
    }
    const timer = setTimeout(() => {
      end(`has not ended within ${timeoutMs} ms`)
    }, timeoutMs)
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > outputMax) end(`has written more than ${outputMax} bytes`)
      else chunks.push(chunk)
    })
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', (code) => {
      clearTimeout(timer)
      if (code === 0) resolve(Buffer.concat(chunks).toString())
      else reject(new Error(`failed with status ${code}`))
    })
  })
}
