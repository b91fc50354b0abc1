import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import type { Hooks, Spec } from '../oci/runtime-spec.ts'
import { specJson } from '../oci/spec-json.ts'
import type { Layout } from './layout.ts'

/** What an OCI hook finds on disk, and who is told of it. */
export interface HookBundle {
  /** The compiler's `hookBundle` (docs/architecture.md, "Inputs of the compiler"). */
  input: { cover: string; path: string; root: string }
  /** For the monitor, which runs hooks itself and says what their container is (native/monitor/hooks.h). */
  told: object
}

/** The same hooks, each with a limit of time: nothing that is waited for may hang for ever. */
export function boundedHooks(hooks: Hooks, seconds: number): Hooks {
  return Object.fromEntries(
    Object.entries(hooks).map(([name, list]) => [name, list.map((hook) => ({ timeout: seconds, ...hook }))]),
  )
}

/**
 * Makes the bundle: `config.json`, where hooks look up the root, and `rootfs`, where they find it in the container's mount namespace. On
 * the host it stays empty. It goes with the directory of its container.
 */
export async function makeHookBundle(
  layout: Layout,
  directory: string,
  container: { id: string; spec: Spec; hooks: Hooks; annotations: Readonly<Record<string, string>> },
): Promise<HookBundle> {
  const { id, spec, hooks } = container
  const path = join(directory, 'bundle')
  const root = join(path, 'rootfs')
  const annotations = { ...container.annotations, ...spec.annotations }
  // searchable by the root of a user namespace, too
  await mkdir(path, { mode: 0o755 })
  await mkdir(root, { mode: 0o755 })
  await writeFile(join(path, 'config.json'), specJson({ ...published(spec), annotations }), { mode: 0o644 })
  const { ociVersion } = spec
  return { input: { cover: layout.root, path, root }, told: { ociVersion, id, bundle: path, annotations, hooks } }
}

/** Without the words that stand for what the monitor holds: no file of the host has those names. */
function published(spec: Spec): object {
  const word = 'caisson:'
  const namespaces = spec.linux.namespaces.map(({ type, path }) =>
    path === undefined || path.startsWith(word) ? { type } : { type, path },
  )
  const mounts = spec.mounts.map((mount) => ({
    ...mount,
    relabel: undefined, // ours alone: left out
    source: mount.source.startsWith(word) ? mount.source.slice(word.length) : mount.source,
  }))
  return { ...spec, mounts, linux: { ...spec.linux, namespaces } }
}
