import { open, type FileHandle } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import type { Native, NativeFd } from '../../native/types.ts'
import type { JsonObject } from '../../records.ts'
import type { EarlierPlugins } from './earlier-plugins.ts'
import { span } from '../../tracing/span.ts'

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS'

export interface Invocation {
  verb: Verb
  /** Of the configuration list; for messages. */
  network: string
  type: string
  config: JsonObject
  /** Parameters of the specification's section 2 that the verb takes: CNI_CONTAINERID and so on. */
  parameters: Record<string, string>
  signal?: AbortSignal | undefined
}

export interface PluginHost {
  native: Native
  /** Where plugins are, in the order they are looked for. */
  directories: readonly string[]
  /** One plugin may take this long. */
  timeoutMs: number
  earlier: EarlierPlugins
}

const stdoutMax = 1 << 20
const stderrMax = 64 << 10
/** After the end of a plugin its own children may still hold its output: they are not waited for longer than this. */
const drainMs = 500

interface PluginFailure {
  pluginCode?: number
  started?: boolean
  cause?: unknown
}

/** An error of the specification's section 5 ("Error"), or what stands for one. */
export class PluginError extends CaissonError {
  /** Of the specification; 0: it gave none. */
  readonly pluginCode: number
  /** Whether the plugin was executed, and may have done something. */
  readonly started: boolean

  constructor(message: string, { pluginCode = 0, started = true, cause }: PluginFailure = {}) {
    super('ERR_NETWORK_SETUP', message, { cause })
    this.pluginCode = pluginCode
    this.started = started
  }
}

/**
 * Runs one plugin to its end and reads what it says: null when that is nothing. It has a process group of its own, which is killed
 * when it takes too long, says too much, or is not waited for any more.
 *
 * @throws PluginError naming network, plugin and verb, with its own words
 */
export function runPlugin(host: PluginHost, call: Invocation): Promise<JsonObject | null> {
  const attributes = { 'cni.plugin': call.type, 'cni.network': call.network }
  return span(`cni.${call.verb}`, attributes, () => run(host, call))
}

async function run(host: PluginHost, call: Invocation): Promise<JsonObject | null> {
  const what = `network "${call.network}": plugin "${call.type}": ${call.verb}`
  call.signal?.throwIfAborted()
  const pod = call.parameters['CNI_CONTAINERID']
  const lock = pod === undefined ? null : await host.earlier.outwait(pod, host.timeoutMs)
  const { path, interpreter, file } = await find(host, call.type, what).catch((error: unknown) => {
    lock?.close()
    throw error
  })
  const input = host.native.sealedMemfd('cni-config', Buffer.from(JSON.stringify(call.config)))
  const stdout = host.native.pipe()
  const stderr = host.native.pipe()
  // the last is for nothing but to be open: it holds the lock for as long as the plugin lives, whatever becomes of us
  const wires = [input, stdout.writer, stderr.writer, ...(lock === null ? [] : [lock])]
  try {
    const child = host.native.spawn({
      exe: file.fd,
      argv: [...interpreter, path],
      env: environment(host, call),
      fds: wires.map(({ fd }) => fd),
      session: true,
    })
    for (const wire of wires) wire.close()
    let why = ''
    const end = (reason: string): void => {
      why ||= reason
      child.killGroup(9)
    }
    const timer = setTimeout(() => {
      end(`did not end in ${host.timeoutMs / 1000} s`)
    }, host.timeoutMs)
    const cancel = (): void => {
      end('was cancelled')
    }
    call.signal?.addEventListener('abort', cancel)
    try {
      const said = collect(stdout.reader, stdoutMax, () => {
        end(`wrote more than ${stdoutMax} bytes to its standard output`)
      })
      const complained = collect(stderr.reader, stderrMax, null)
      const exit = await child.exited
      const drained = setTimeout(() => {
        said.cut()
        complained.cut()
      }, drainMs)
      const [out, err] = await Promise.all([said.text, complained.text])
      clearTimeout(drained)
      if (why !== '') throw new PluginError(`${what} ${why}${quoted(err)}`)
      if (exit.code === 0) return out.trim() === '' ? null : parse(out, what)
      throw failure(
        what,
        exit.code === null ? `was ended by signal ${exit.signal}` : `exit code ${exit.code}`,
        out,
        err,
      )
    } finally {
      clearTimeout(timer)
      call.signal?.removeEventListener('abort', cancel)
    }
  } catch (error) {
    if (error instanceof PluginError) throw error
    throw new PluginError(`${what}: cannot execute ${path}: ${(error as Error).message}`, {
      started: false,
      cause: error,
    })
  } finally {
    for (const wire of wires) wire.close()
    await file.close()
    stdout.reader.close()
    stderr.reader.close()
  }
}

function environment({ directories }: PluginHost, { verb, parameters }: Invocation): string[] {
  const variables = { CNI_COMMAND: verb, CNI_PATH: directories.join(':'), ...parameters }
  // plugins call iptables, ip, tc by name
  const path = process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
  return [`PATH=${path}`, ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)]
}

interface Program {
  path: string
  /** Words that go before the path: a script is executed as the kernel would, by its interpreter. */
  interpreter: string[]
  file: FileHandle
}

async function find({ directories }: PluginHost, type: string, what: string): Promise<Program> {
  for (const directory of directories) {
    const path = join(directory, type)
    const cannot = (error: unknown): PluginError =>
      new PluginError(`${what}: cannot execute ${path}: ${(error as Error).message}`, { started: false, cause: error })
    let file: FileHandle
    try {
      file = await executable(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue
      throw cannot(error)
    }
    let script: RegExpExecArray | null
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0)
      const [line = ''] = buffer.toString('latin1', 0, bytesRead).split('\n', 1)
      script = /^#![ \t]*(\S+)(?:[ \t]+(.*\S))?/.exec(line)
      if (script === null) return { path, interpreter: [], file }
    } catch (error) {
      await file.close()
      throw cannot(error)
    }
    await file.close()
    const [, program = '', argument] = script
    const interpreter = argument === undefined ? [program] : [program, argument]
    return {
      path,
      interpreter,
      file: await executable(program).catch((error: unknown) => {
        throw cannot(error)
      }),
    }
  }
  throw new PluginError(
    `${what}: there is no such program in ${directories.join(', ')}: install it, or change the network`,
    { started: false },
  )
}

/** Root may execute what has any of the three bits; the kernel says so only when it is too late to say it well. */
async function executable(path: string): Promise<FileHandle> {
  const file = await open(path, 'r')
  const { mode } = await file.stat()
  if ((mode & 0o111) !== 0) return file
  await file.close()
  throw new Error('it is not executable')
}

/** Reads a pipe to its end; of more than `limit` bytes the rest is dropped, and told once. */
function collect(
  fd: NativeFd,
  limit: number,
  tooMuch: (() => void) | null,
): { text: Promise<string>; cut: () => void } {
  const socket = new Socket({ fd: fd.release(), readable: true, writable: false })
  const chunks: Buffer[] = []
  let size = 0
  const text = new Promise<string>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      const room = limit - size
      if (room > 0) chunks.push(chunk.subarray(0, room))
      size += chunk.length
      if (chunk.length > room) tooMuch?.()
    })
    socket.on('error', () => socket.destroy()) // what was read is all there is
    socket.on('close', () => resolve(Buffer.concat(chunks).toString()))
  })
  return { text, cut: () => socket.destroy() }
}

function parse(text: string, what: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject
  } catch {
    // said below, with the text
  }
  throw new PluginError(`${what}: what it says is not a JSON object${quoted(text)}`)
}

/** Section 5: `{"code":…,"msg":…,"details":…}` on standard output; plugins that crash write to standard error instead. */
function failure(what: string, ending: string, out: string, err: string): PluginError {
  let said: JsonObject = {}
  try {
    said = parse(out, what)
  } catch {
    return new PluginError(`${what} failed (${ending})${quoted(out.trim() === '' ? err : out)}`)
  }
  const { code, msg, details } = said
  const words = [msg, details].filter((word) => typeof word === 'string' && word !== '').join('; ')
  return new PluginError(
    `${what} failed: ${readable(words) || ending}${quoted(err)}`,
    typeof code === 'number' ? { pluginCode: code } : {},
  )
}

const quotedMax = 512

function quoted(text: string): string {
  const words = readable(text)
  return words === '' ? '' : `; it wrote: ${words}`
}

/** On one line, without control characters: it ends in logs and on terminals. */
function readable(text: string): string {
  const words = text.replace(/[\x00-\x1f\x7f]+/g, ' ').trim()
  return words.length > quotedMax ? `${words.slice(0, quotedMax)}…` : words
}
