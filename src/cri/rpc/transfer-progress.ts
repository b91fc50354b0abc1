import { setTimeout as delay } from 'node:timers/promises'

import { caisson as proto } from '../../gen/caisson.js'
import type { PullProgress, RegistryAuth, Runtime } from '../../index.ts'

const { LayerState } = proto.v1
const states = {
  waiting: LayerState.LAYER_STATE_WAITING,
  downloading: LayerState.LAYER_STATE_DOWNLOADING,
  unpacking: LayerState.LAYER_STATE_UNPACKING,
  done: LayerState.LAYER_STATE_DONE,
}
const intervalMs = 100

/** caisson.v1 PullImage: the newest state of every layer that changed, a few times a second, and at last the image's id. */
export async function* pullProgress(
  runtime: Runtime,
  { image, auth }: proto.v1.PullImageRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.PullImageProgress.$Properties, void, undefined> {
  const changed = new Map<string, PullProgress>()
  const take = (): proto.v1.LayerProgress.$Properties[] => {
    const layers = [...changed.values()].map(({ layer, state, bytes, size }) => ({
      digest: layer,
      state: states[state],
      doneBytes: bytes,
      totalBytes: size,
    }))
    changed.clear()
    return layers
  }
  const ended = new AbortController()
  const pull = runtime.images
    .pull(image, {
      ...(auth == null ? {} : { auth: authOf(auth) }),
      signal,
      onProgress: (progress) => changed.set(progress.layer, progress),
    })
    .finally(() => {
      ended.abort()
    })
  pull.catch(() => undefined) // thrown below, once what came before it was told
  while (!ended.signal.aborted) {
    await delay(intervalMs, undefined, { signal: ended.signal }).catch(() => undefined)
    if (changed.size > 0) yield { layers: take() }
  }
  const { id } = await pull
  yield { layers: take(), imageId: id }
}

function authOf(auth: proto.v1.RegistryAuth.$Properties): RegistryAuth {
  return {
    username: auth.username ?? '',
    password: auth.password ?? '',
    identityToken: auth.identityToken ?? '',
    registryToken: auth.registryToken ?? '',
  }
}
