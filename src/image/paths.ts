import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { hexOf, type Digest } from './digest.ts'

/** Where the image store is on disk (docs/architecture.md, "On disk"). */
export class ImagePaths {
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  /** The OCI image layout. */
  get layout(): string {
    return join(this.root, 'image')
  }

  get index(): string {
    return join(this.layout, 'index.json')
  }

  get layoutMarker(): string {
    return join(this.layout, 'oci-layout')
  }

  get blobs(): string {
    return join(this.layout, 'blobs', 'sha256')
  }

  blob(digest: Digest): string {
    return join(this.blobs, hexOf(digest))
  }

  /** Unpacked layers, each a lowerdir. */
  get layers(): string {
    return join(this.root, 'layers', 'fs')
  }

  get layerMeta(): string {
    return join(this.root, 'layers', 'meta')
  }

  /** One file per owner that needs layers or blobs. */
  get leases(): string {
    return join(this.root, 'layers', 'leases')
  }

  /** flock files; outside the layout, which belongs to other tools as well. */
  get locks(): string {
    return join(this.root, 'layers', 'locks')
  }

  get tmp(): string {
    return join(this.root, 'tmp')
  }

  get trash(): string {
    return join(this.root, 'trash')
  }

  /** Everything 0700: layers hold set-uid files that no other user may reach (CVE-2021-41103). */
  async create(): Promise<void> {
    for (const path of [this.blobs, this.layers, this.layerMeta, this.leases, this.locks, this.tmp, this.trash]) {
      await mkdir(path, { recursive: true, mode: 0o700 })
    }
  }
}
