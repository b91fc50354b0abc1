/** Trees as archives: what GNU tar and our own unpacking make of them is what they were. */
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { native } from '#src/native/index.ts'
import type { NativeFd, RecodedBlob } from '#src/native/types.ts'
import { digestOf } from '../helpers/image.ts'
import { missingTools, run } from '../helpers/tools.ts'
import { describe, makeTree } from '../helpers/trees.ts'

const skip =
  process.getuid?.() === 0 ? missingTools('tar', 'unshare', 'getfattr', 'gzip') : 'owners and devices need root'
const scratch = await mkdtemp(join(process.env['CAISSON_TEST_TMP'] ?? '/var/tmp', 'caisson-pack-'))
t.teardown(() => rm(scratch, { recursive: true, force: true }))

let counter = 0

async function pack(
  directories: readonly string[],
  options: { gzip?: boolean; layer?: boolean; exclude?: string[] } = {},
): Promise<{ file: string; made: RecodedBlob }> {
  const file = join(scratch, `archive-${counter++}`)
  const target = await open(file, 'wx')
  const opened: NativeFd[] = []
  try {
    for (const path of directories) opened.push(await native.openDirectory(path))
    const { gzip = false, layer = false, exclude = [] } = options
    const fds = opened.map(({ fd }) => fd)
    return { file, made: await native.packTree(fds, target.fd, { gzip, layer, exclude }).done }
  } finally {
    for (const each of opened) each.close()
    await target.close()
  }
}

/** What our own unpacking makes of it. */
async function unpacked(file: string): Promise<string> {
  const directory = join(scratch, `tree-${counter++}`)
  await mkdir(directory)
  const [blob, target] = [await open(file), await native.openDirectory(directory)]
  const bounds = { maxEntries: 1e5, maxBytes: 2 ** 40, maxExpanded: 2 ** 34, maxRatio: 2000, ratioFloor: 0 }
  try {
    await native.unpackLayer(blob.fd, target.fd, bounds).done
  } finally {
    target.close()
    await blob.close()
  }
  return directory
}

t.test('a tree comes out of its archive as it was', { skip }, async (t) => {
  const tree = join(scratch, 'tree')
  await makeTree(tree)
  await run('setfattr', '-n', 'user.note', '-v', 'x\n=y', join(tree, 'etc/empty'))
  await run('setfattr', '-n', 'trusted.note', '-v', '1', join(tree, 'usr'))
  const { file, made } = await pack([tree])
  t.equal(made.digest, made.diffId)
  t.equal(digestOf(await readFile(file)), `sha256:${made.digest}`)
  t.equal((await stat(file)).size, made.size)
  t.ok(made.size < 5_000_000, `holes stay holes: ${made.size} bytes`)

  const again = await pack([tree])
  t.equal(again.made.digest, made.digest, 'the same tree, the same bytes')
  const was = await describe(tree)
  t.same(await describe(await unpacked(file)), was, 'by our own unpacking')
  const other = join(scratch, 'gnu')
  await mkdir(other)
  await run('tar', '--xattrs', '--xattrs-include=*', '--numeric-owner', '-xpf', file, '-C', other)
  t.same(await describe(other), was, 'by GNU tar')

  const zipped = await pack([tree], { gzip: true })
  t.equal(zipped.made.diffId, made.diffId)
  t.equal(zipped.made.expanded, made.size)
  t.equal(digestOf(await readFile(zipped.file)), `sha256:${zipped.made.digest}`)
  t.equal((await run('sh', '-c', `gzip -dc ${zipped.file} | sha256sum`)).split(' ')[0], made.diffId)
  t.equal((await pack([tree], { gzip: true })).made.digest, zipped.made.digest)
})

/** Layers in overlayfs' form: what is hidden, replaced by another type, merged, opaque. */
async function makeLayers(): Promise<string[]> {
  const root = join(scratch, `layers-${counter++}`)
  await run(
    'sh',
    '-ec',
    `mkdir -p "$1" && cd "$1" && mkdir base middle top
     mkdir -p base/merged/deep base/opaque base/file-becomes base/gone; echo base >base/merged/a; echo 1 >base/merged/deep/x
     echo hidden >base/opaque/h; echo 2 >base/file-becomes/y; echo 3 >base/dir-becomes; echo 4 >base/whited; echo 5 >base/gone/z
     echo 6 >base/linked; ln base/linked base/merged/linked
     mkdir -p middle/merged/deep middle/opaque middle/dir-becomes; mknod middle/whited c 0 0; mknod middle/gone c 0 0
     setfattr -n trusted.overlay.opaque -v y middle/opaque; echo shown >middle/opaque/s; echo now >middle/file-becomes
     echo middle >middle/merged/b; echo q >middle/dir-becomes/q; chmod 700 middle/merged; chown 5:6 middle/merged
     mkdir -p top/merged top/gone; echo top >top/merged/a; mknod top/merged/b c 0 0; echo again >top/whited
     setfattr -n trusted.overlay.opaque -v y top/gone; setfattr -n trusted.overlay.origin -v zz top/merged
     touch -d '2001-02-03 04:05:06.7' top/merged top/gone middle/opaque .`,
    'sh',
    root,
  )
  return ['top', 'middle', 'base'].map((name) => join(root, name))
}

t.test('layers are merged as overlayfs merges them', { skip }, async (t) => {
  const layers = await makeLayers()
  const merged = join(scratch, 'merged')
  await mkdir(merged)
  const mount = `mount -t overlay overlay -o lowerdir=${layers.join(':')} ${merged}`
  const { file } = await pack(layers)
  t.same(await describe(await unpacked(file)), await describe(merged, mount))
})

t.test('a layer has whiteouts and opaque markers, and what is left out is out of the tree too', { skip }, async (t) => {
  const [top = ''] = await makeLayers()
  await run(
    'sh',
    '-ec',
    `cd "$1" && mkdir -p etc proc/sub && : >etc/hosts && echo mine >etc/mine && touch -d '2002-02-02' etc . &&
     perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "etc/socket", Listen => 1)' && touch -d '2002-02-02' etc`,
    'sh',
    top,
  )
  const { file } = await pack([top], { layer: true, exclude: ['etc/hosts', 'proc', 'not/there'] })
  const names = (await run('tar', '-tf', file)).trim().split('\n')
  t.same(names, [
    './',
    'etc/',
    'etc/mine',
    'gone/',
    'gone/.wh..wh..opq',
    'merged/',
    'merged/a',
    'merged/.wh.b',
    'whited',
  ])
  const tree = await unpacked(file)
  const listing = ['-not', '-type', 'c', '-printf', '%P %y %m %U:%G %T@\\n'] as const
  const sorted = async (path: string): Promise<string[]> => (await run('find', path, ...listing)).split('\n').sort()
  t.same(await sorted(tree), await sorted(top), 'the tree is what the layer is')
  const opaque = ['getfattr', '--only-values', '-n', 'trusted.overlay.opaque'] as const
  t.equal(await run(...opaque, join(tree, 'gone')), 'y')
  t.notMatch(await run('getfattr', '-d', '-m', '-', join(tree, 'merged')), /overlay\.(?!origin="")/, 'it is merged')

  await writeFile(join(top, '.wh.mine'), '')
  await t.rejects(pack([top], { layer: true }), { code: 'EINVAL', path: '.wh.mine' }, 'a name that would be a whiteout')
  t.match(await run('tar', '-tf', (await pack([top])).file), /\.wh\.mine/, 'of a tree it is a name like others')
})

t.test('long names, and 32 GiB of holes', { skip }, async (t) => {
  const tree = join(scratch, 'names')
  const long = 'n'.repeat(255)
  const deep = join(tree, long, long, long)
  await mkdir(deep, { recursive: true })
  await writeFile(join(deep, 'ü'.repeat(120)), 'x')
  const sparse = await open(join(tree, 'huge'), 'w')
  await sparse.write('begin', 0)
  await sparse.write('end', 2 ** 34)
  await sparse.truncate(2 ** 35)
  await sparse.close()
  const { file, made } = await pack([tree])
  t.ok(made.size < 200_000, String(made.size))
  const back = await unpacked(file)
  t.equal((await stat(join(back, 'huge'))).size, 2 ** 35)
  const listing = ['-printf', '%P %y %m %U:%G %s %l\\n'] as const
  t.equal(await run('find', back, ...listing), await run('find', tree, ...listing))
})

t.test('it ends when it is aborted, and when nobody reads', { skip }, async (t) => {
  const tree = join(scratch, 'wide')
  await mkdir(tree)
  await writeFile(join(tree, 'big'), Buffer.alloc(20_000_000, 'x'))
  const directory = await native.openDirectory(tree)
  const { reader, writer } = native.pipe()
  const options = { gzip: false, layer: false, exclude: [] }
  const { done, abort } = native.packTree([directory.fd], writer.fd, options)
  writer.close()
  abort()
  reader.close()
  await t.rejects(done, { code: /ECANCELED|EPIPE/ })
  directory.close()
  t.throws(() => native.packTree([], null, options), { message: /at least|one/ })
  t.throws(() => native.packTree([-1], null, options))
})
