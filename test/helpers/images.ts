import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ImageService, type ImageServiceOptions } from '#src/image/index.ts'
import { native } from '#src/native/index.ts'
import type { Test } from 'tap'

export const quiet = { debug: (): void => undefined, warn: (): void => undefined }

/** A short-lived directory outside the checkout, removed when the test ends. */
export async function temporary(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'caisson-image-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

const shortTimes = { stallTimeoutMs: 2000, backoffMs: 20, attempts: 3 }

/** An image service on a root of its own; times are short, so that failures are quick. */
export async function openImages(
  t: Test,
  root: string,
  options: Partial<ImageServiceOptions> = {},
): Promise<ImageService> {
  const images = await ImageService.open({
    root,
    native,
    logger: quiet,
    ...options,
    registry: { ...options.registry, transport: { ...shortTimes, ...options.registry?.transport } },
  })
  t.teardown(() => images.close())
  return images
}

/** What the store has on disk, by kind: for tests that nothing is left. */
export async function contents(
  root: string,
): Promise<Record<'blobs' | 'layers' | 'meta' | 'leases' | 'tmp' | 'trash', string[]>> {
  const list = async (...path: string[]): Promise<string[]> => (await readdir(join(root, ...path))).sort()
  return {
    blobs: await list('image', 'blobs', 'sha256'),
    layers: await list('layers', 'fs'),
    meta: await list('layers', 'meta'),
    leases: await list('layers', 'leases'),
    tmp: await list('tmp'),
    trash: await list('trash'),
  }
}

export const nothing = { blobs: [], layers: [], meta: [], leases: [], tmp: [], trash: [] }
