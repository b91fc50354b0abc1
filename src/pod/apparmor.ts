import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'

import { CaissonError } from '../errors.ts'
import { ifPresent, isPresent } from '../files.ts'
import { defaultApparmorPolicy, defaultApparmorProfile } from '../oci/apparmor-default.ts'
import type { ContainerConfig } from './config.ts'
import type { Logger } from './context.ts'

const parsers = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser']
const parserTimeoutMs = 60_000

/** AppArmor of this host: which profile a container gets. A profile that is not loaded fails the creation, by the kernel's word. */
export class AppArmor {
  readonly #enabled: boolean
  readonly #profile: string
  readonly #logger: Logger
  #loaded: Promise<void> | null = null

  /** @param profile of type RuntimeDefault; our own is loaded when it is first needed, another one is the operator's to load */
  static async open(profile: string, logger: Logger): Promise<AppArmor> {
    const enabled = await ifPresent(readFile('/sys/module/apparmor/parameters/enabled', 'utf8'))
    return new AppArmor(enabled?.trim() === 'Y', profile, logger)
  }

  private constructor(enabled: boolean, profile: string, logger: Logger) {
    this.#enabled = enabled
    this.#profile = profile
    this.#logger = logger
  }

  /**
   * The name for process.apparmorProfile; empty: none. Where the host has no AppArmor only a profile that was named is an error;
   * privileged containers get what was named, and no default.
   */
  async profileOf({ apparmor = null, privileged }: ContainerConfig): Promise<string> {
    if (apparmor?.type === 'localhost') {
      if (this.#enabled) return apparmor.name
      throw new CaissonError(
        'ERR_FAILED_PRECONDITION',
        `apparmor profile "${apparmor.name}": AppArmor is not enabled on this host`,
      )
    }
    if (!this.#enabled || privileged || apparmor?.type === 'unconfined' || this.#profile === '') return ''
    if (this.#profile !== defaultApparmorProfile) return this.#profile
    try {
      await this.#load()
      return this.#profile
    } catch (error) {
      // who asked for it by name must not run without it; who said nothing runs as on any host without AppArmor
      if (apparmor !== null) throw error
      return ''
    }
  }

  /** Once for all containers; after a failure it is tried again, and told once. */
  async #load(): Promise<void> {
    const first = this.#loaded === null
    this.#loaded ??= load()
    try {
      await this.#loaded
    } catch (error) {
      this.#loaded = null
      if (first) this.#logger.warn({ err: error }, 'containers run without the default profile of AppArmor')
      throw error
    }
  }
}

async function load(): Promise<void> {
  const failed = (why: string, cause?: unknown): CaissonError =>
    new CaissonError(
      'ERR_FAILED_PRECONDITION',
      `apparmor profile "${defaultApparmorProfile}" cannot be loaded: ${why}`,
      {
        cause,
      },
    )
  const found = await Promise.all(parsers.map(isPresent))
  const parser = parsers[found.indexOf(true)]
  if (parser === undefined) throw failed('apparmor_parser is not installed (package apparmor)')
  // -r: replaces it where another service has loaded it; -K: nothing is cached on disk
  const child = spawn(parser, ['-r', '-K'], {
    stdio: ['pipe', 'ignore', 'pipe'],
    timeout: parserTimeoutMs,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
  })
  child.stdin.on('error', () => {}) // it has ended before it read all: its status says why
  child.stdin.end(defaultApparmorPolicy)
  const exited = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
  const said = text(child.stderr)
  const [[status, signal], words] = await Promise.all([exited, said])
  if (status !== 0) throw failed(words.trim().slice(0, 500) || `apparmor_parser ended with ${signal ?? String(status)}`)
}
