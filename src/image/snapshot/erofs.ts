import type { ChainLink } from '../chain.ts'
import type { ErofsProbe } from '../layer-form.ts'
import type { LayerDescriptor } from '../manifest.ts'
import { OverlaySnapshotter, type OverlayParts } from './overlay.ts'
import type { LayerOptions } from './snapshotter.ts'

/**
 * An overlay of layers that are not unpacked: an archive is kept as it is, and an EROFS index, which points into it, is mounted (a file
 * each, however many are in the layer). Layers that are there unpacked, and those that a commit has made, are taken as they are.
 */
export class ErofsSnapshotter extends OverlaySnapshotter {
  override readonly name = 'erofs'
  readonly #layers: OverlayParts['layers']
  readonly #probe: ErofsProbe

  constructor(parts: OverlayParts & { probe: ErofsProbe }) {
    super(parts)
    this.#layers = parts.layers
    this.#probe = parts.probe
  }

  override async unpack(
    link: ChainLink,
    blob: LayerDescriptor,
    signal: AbortSignal,
    options: LayerOptions = {},
  ): Promise<boolean> {
    return this.#layers.unpack(link, blob, signal, { ...options, erofsBlock: await this.#probe.block() })
  }
}
