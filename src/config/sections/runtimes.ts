import { absolutePath, integer, key, listOf, namedTables, text } from '../schema.ts'

const word = text(/^[^\0]{1,4096}$/, 'a string')

/** `[runtimes.<name>]`: other OCI runtimes, for pods that ask for them by that name (RunPodSandbox.runtime_handler). */
export const runtimes = {
  named: key(
    namedTables(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'a lower-case DNS label, as RuntimeClass has it', {
      /** Of an executable with runc's command line. */
      path: { kind: absolutePath() },
      /** Global options, before the verb. */
      options: { kind: listOf(word), initial: [] },
      /** Seconds that one call of it may take. */
      timeout: { kind: integer(1, 3600), initial: 120 },
    }),
    {},
  ),
}
