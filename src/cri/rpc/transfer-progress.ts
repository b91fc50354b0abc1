import { setTimeout as delay } from 'node:timers/promises'

import { caisson as proto } from '../../gen/caisson.js'
import type { PullProgress, PushProgress, RegistryAuth, Runtime } from '../../index.ts'

const { LayerState, PushState } = proto.v1
const layerStates = {
  waiting: LayerState.LAYER_STATE_WAITING,
  downloading: LayerState.LAYER_STATE_DOWNLOADING,
  unpacking: LayerState.LAYER_STATE_UNPACKING,
  done: LayerState.LAYER_STATE_DONE,
}
const pushStates = {
  waiting: PushState.PUSH_STATE_WAITING,
  uploading: PushState.PUSH_STATE_UPLOADING,
  mounted: PushState.PUSH_STATE_MOUNTED,
  present: PushState.PUSH_STATE_PRESENT,
  done: PushState.PUSH_STATE_DONE,
}
const intervalMs = 100

/** caisson.v1 PullImage: the newest state of every layer that changed, a few times a second, and at last the image's id. */
export async function* pullProgress(
  runtime: Runtime,
  { image, auth }: proto.v1.PullImageRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.PullImageProgress.$Properties, void, undefined> {
  const work = changes(
    ({ layer }: PullProgress) => layer,
    (onProgress) => runtime.images.pull(image, { ...authOf(auth), signal, onProgress }),
  )
  for await (const { changed, result } of work) {
    const layers = changed.map(({ layer, state, bytes, size }) => ({
      digest: layer,
      state: layerStates[state],
      doneBytes: bytes,
      totalBytes: size,
    }))
    yield { layers, ...(result !== undefined && { imageId: result.id }) }
  }
}

/** caisson.v1 PushImage: the same for the blobs of a push, and at last what the image is called at the registry. */
export async function* pushProgress(
  runtime: Runtime,
  { image, destination, auth }: proto.v1.PushImageRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.PushImageProgress.$Properties, void, undefined> {
  const to = destination === '' ? {} : { to: destination }
  const work = changes(
    ({ blob }: PushProgress) => blob,
    (onProgress) => runtime.images.push(image, { ...to, ...authOf(auth), signal, onProgress }),
  )
  for await (const { changed, result } of work) {
    const blobs = changed.map(({ blob, state, bytes, size }) => ({
      digest: blob,
      state: pushStates[state],
      doneBytes: bytes,
      totalBytes: size,
    }))
    yield { blobs, ...(result !== undefined && { reference: result.reference }) }
  }
}

/** Runs `work`, and tells a few times a second the last of what it has reported of each thing; at last its result. */
async function* changes<T, R extends object>(
  keyOf: (item: T) => string,
  work: (onProgress: (item: T) => void) => Promise<R>,
): AsyncGenerator<{ changed: T[]; result?: R }, void, undefined> {
  const changed = new Map<string, T>()
  const take = (): T[] => {
    const items = [...changed.values()]
    changed.clear()
    return items
  }
  const ended = new AbortController()
  const outcome = work((item) => changed.set(keyOf(item), item)).finally(() => {
    ended.abort()
  })
  outcome.catch(() => undefined) // thrown below, once what came before it was told
  while (!ended.signal.aborted) {
    await delay(intervalMs, undefined, { signal: ended.signal }).catch(() => undefined)
    if (changed.size > 0) yield { changed: take() }
  }
  const result = await outcome
  yield { changed: take(), result }
}

function authOf(auth: proto.v1.RegistryAuth.$Properties | null | undefined): { auth?: RegistryAuth } {
  if (auth == null) return {}
  return {
    auth: {
      username: auth.username ?? '',
      password: auth.password ?? '',
      identityToken: auth.identityToken ?? '',
      registryToken: auth.registryToken ?? '',
    },
  }
}
