import { caisson } from '../gen/caisson.js'
import { safeInt } from '../cri/grpc/int64.ts'
import { CaissonError } from '../errors.ts'
import type { Service } from './context.ts'
import { shortId, size } from './format.ts'

const { LayerState } = caisson.v1
const words: Record<caisson.v1.LayerState, string> = {
  [LayerState.LAYER_STATE_WAITING]: 'waiting',
  [LayerState.LAYER_STATE_DOWNLOADING]: 'downloading',
  [LayerState.LAYER_STATE_UNPACKING]: 'unpacking',
  [LayerState.LAYER_STATE_DONE]: 'done',
}

/** Pulls an image and shows its layers on standard error: a block that is redrawn on a terminal, else a line for each end. */
export async function showPull(service: Service, request: caisson.v1.PullImageRequest.$Properties): Promise<string> {
  const view = process.stderr.isTTY ? new TerminalView(process.stderr) : new PlainView(process.stderr)
  for await (const { layers, imageId } of service.caisson.pullImage(request)) {
    for (const layer of layers) view.update(layer)
    view.draw()
    if (imageId !== '') return imageId
  }
  throw new CaissonError('ERR_INTERNAL', `the service ended the pull of "${request.image ?? ''}" without a result`)
}

class PlainView {
  readonly #out: NodeJS.WriteStream
  readonly #done = new Set<string>()

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  update({ digest, state, totalBytes }: caisson.v1.LayerProgress.$Properties): void {
    if (state !== LayerState.LAYER_STATE_DONE || digest == null || this.#done.has(digest)) return
    this.#done.add(digest)
    this.#out.write(`${shortId(digest)} done, ${size(safeInt(totalBytes))}\n`)
  }

  draw(): void {
    // lines are written as layers end
  }
}

class TerminalView {
  readonly #out: NodeJS.WriteStream
  readonly #layers = new Map<string, caisson.v1.LayerProgress.$Properties>()
  #drawn = 0

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  update(layer: caisson.v1.LayerProgress.$Properties): void {
    this.#layers.set(layer.digest ?? '', layer)
  }

  draw(): void {
    // a block taller than the screen cannot be redrawn: its end is shown
    const room = Math.max(1, this.#out.rows - 1)
    // a line that wraps would take two rows, and the next block would begin too low
    const lines = [...this.#layers.values()]
      .slice(-room)
      .map((layer) => this.#line(layer).slice(0, this.#out.columns - 1))
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : ''
    this.#out.write(up + lines.map((line) => `\x1b[2K${line}\n`).join(''))
    this.#drawn = lines.length
  }

  #line({ digest, state, doneBytes, totalBytes }: caisson.v1.LayerProgress.$Properties): string {
    const [done, total] = [safeInt(doneBytes), safeInt(totalBytes)]
    const word = words[state ?? LayerState.LAYER_STATE_WAITING]
    if (state !== LayerState.LAYER_STATE_DOWNLOADING)
      return `${shortId(digest ?? '')}  ${word.padEnd(11)}  ${size(total)}`
    const width = Math.min(40, Math.max(10, this.#out.columns - 50))
    const filled = total === 0 ? 0 : Math.min(width, Math.floor((done / total) * width))
    const bar = `${'='.repeat(filled)}${' '.repeat(width - filled)}`
    return `${shortId(digest ?? '')}  ${word.padEnd(11)}  [${bar}]  ${size(done)} / ${size(total)}`
  }
}
