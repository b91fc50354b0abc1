import { caisson } from '../gen/caisson.js'
import { safeInt } from '../cri/grpc/int64.ts'
import { CaissonError } from '../errors.ts'
import type { Service } from './context.ts'
import { shortId, size } from './format.ts'
import { userAuth } from './registry-auth.ts'

const { LayerState, PushState } = caisson.v1

/** One row: a layer that comes, a blob that goes. */
interface Item {
  digest: string
  word: string
  /** Under way: it is shown with a bar. */
  moving: boolean
  done: boolean
  doneBytes: number
  totalBytes: number
}

const layerWords: Record<caisson.v1.LayerState, string> = {
  [LayerState.LAYER_STATE_WAITING]: 'waiting',
  [LayerState.LAYER_STATE_DOWNLOADING]: 'downloading',
  [LayerState.LAYER_STATE_UNPACKING]: 'unpacking',
  [LayerState.LAYER_STATE_DONE]: 'done',
}
const pushWords: Record<caisson.v1.PushState, string> = {
  [PushState.PUSH_STATE_WAITING]: 'waiting',
  [PushState.PUSH_STATE_UPLOADING]: 'uploading',
  [PushState.PUSH_STATE_MOUNTED]: 'mounted',
  [PushState.PUSH_STATE_PRESENT]: 'present',
  [PushState.PUSH_STATE_DONE]: 'done',
}

/**
 * Pulls an image, with the caller's own logins unless the request brings credentials, and shows its layers on standard error: a
 * block that is redrawn on a terminal, else a line for each end.
 */
export async function showPull(service: Service, request: caisson.v1.PullImageRequest.$Properties): Promise<string> {
  const view = viewOn(process.stderr)
  const auth = request.auth ?? (await userAuth(request.image ?? ''))
  for await (const { layers, imageId } of service.caisson.pullImage({ ...request, ...(auth && { auth }) })) {
    for (const { digest, state, doneBytes, totalBytes } of layers) {
      const known = state ?? LayerState.LAYER_STATE_WAITING
      view.update({
        digest: digest ?? '',
        word: layerWords[known],
        moving: known === LayerState.LAYER_STATE_DOWNLOADING,
        done: known === LayerState.LAYER_STATE_DONE,
        doneBytes: safeInt(doneBytes),
        totalBytes: safeInt(totalBytes),
      })
    }
    view.draw()
    if (imageId !== '') return imageId
  }
  throw withoutResult('pull', request.image)
}

/** The same for a push. @returns what the image is called at the registry */
export async function showPush(service: Service, request: caisson.v1.PushImageRequest.$Properties): Promise<string> {
  const view = viewOn(process.stderr)
  const auth = request.auth ?? (await userAuth(request.destination || (request.image ?? '')))
  for await (const { blobs, reference } of service.caisson.pushImage({ ...request, ...(auth && { auth }) })) {
    for (const { digest, state, doneBytes, totalBytes } of blobs) {
      const known = state ?? PushState.PUSH_STATE_WAITING
      view.update({
        digest: digest ?? '',
        word: pushWords[known],
        moving: known === PushState.PUSH_STATE_UPLOADING,
        done: known >= PushState.PUSH_STATE_MOUNTED,
        doneBytes: safeInt(doneBytes),
        totalBytes: safeInt(totalBytes),
      })
    }
    view.draw()
    if (reference !== '') return reference
  }
  throw withoutResult('push', request.image)
}

function withoutResult(what: string, image: string | null | undefined): CaissonError {
  return new CaissonError('ERR_INTERNAL', `the service ended the ${what} of "${image ?? ''}" without a result`)
}

interface View {
  update(item: Item): void
  draw(): void
}

function viewOn(out: NodeJS.WriteStream): View {
  return out.isTTY ? new TerminalView(out) : new PlainView(out)
}

class PlainView implements View {
  readonly #out: NodeJS.WriteStream
  readonly #done = new Set<string>()

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  update({ digest, word, done, totalBytes }: Item): void {
    if (!done || this.#done.has(digest)) return
    this.#done.add(digest)
    this.#out.write(`${shortId(digest)} ${word}, ${size(totalBytes)}\n`)
  }

  draw(): void {
    // lines are written as items end
  }
}

class TerminalView implements View {
  readonly #out: NodeJS.WriteStream
  readonly #items = new Map<string, Item>()
  #drawn = 0

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  update(item: Item): void {
    this.#items.set(item.digest, item)
  }

  draw(): void {
    // a block taller than the screen cannot be redrawn: its end is shown
    const room = Math.max(1, this.#out.rows - 1)
    // a line that wraps would take two rows, and the next block would begin too low
    const lines = [...this.#items.values()].slice(-room).map((item) => this.#line(item).slice(0, this.#out.columns - 1))
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : ''
    this.#out.write(up + lines.map((line) => `\x1b[2K${line}\n`).join(''))
    this.#drawn = lines.length
  }

  #line({ digest, word, moving, doneBytes, totalBytes }: Item): string {
    if (!moving) return `${shortId(digest)}  ${word.padEnd(11)}  ${size(totalBytes)}`
    const width = Math.min(40, Math.max(10, this.#out.columns - 50))
    const filled = totalBytes === 0 ? 0 : Math.min(width, Math.floor((doneBytes / totalBytes) * width))
    const bar = `${'='.repeat(filled)}${' '.repeat(width - filled)}`
    return `${shortId(digest)}  ${word.padEnd(11)}  [${bar}]  ${size(doneBytes)} / ${size(totalBytes)}`
  }
}
