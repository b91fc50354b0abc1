/** Layers that are indexed, not unpacked: their trees beside those that the unpacker makes of the same archives, and GNU tar. */
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { native } from '#src/native/index.ts'
import type { ErofsBlock, NativeError, UnpackedLayer } from '#src/native/types.ts'
import { erofsMount } from '../helpers/erofs.ts'
import { tar, type LayerEntry } from '../helpers/image.ts'
import { findTool, missingTools, run } from '../helpers/tools.ts'
import { describe, makeTree } from '../helpers/trees.ts'

const skip = process.getuid?.() === 0 ? missingTools('tar', 'unshare', 'python3') : 'mounts need root'
const limits = { maxEntries: 1_000_000, maxBytes: 2 ** 34, maxExpanded: 2 ** 34, maxRatio: 2000, ratioFloor: 0 }
const blocks: ErofsBlock[] = [512, 4096]

const scratch = await mkdtemp(join(process.env['CAISSON_TEST_TMP'] ?? '/var/tmp', 'caisson-erofs-'))
t.teardown(() => rm(scratch, { recursive: true, force: true }))

async function make(path: string, directory: string, erofsBlock?: ErofsBlock): Promise<UnpackedLayer> {
  await mkdir(directory)
  const [from, to] = [await open(path), await native.openDirectory(directory)]
  try {
    return await native.unpackLayer(from.fd, to.fd, { ...limits, ...(erofsBlock && { erofsBlock }) }).done
  } finally {
    to.close()
    await from.close()
  }
}

/** Both forms of the index beside the unpacked layer. */
async function compare(t: Test, archive: string, options: { times?: boolean } = {}): Promise<void> {
  const base = join(scratch, randomBytes(6).toString('hex'))
  const unpacked = await make(archive, `${base}.tree`)
  const wanted = await describe(`${base}.tree`, ':', options)
  for (const block of blocks) {
    const layer = `${base}.${block}`
    const indexed = await make(archive, layer, block)
    t.strictSame(indexed, unpacked, `blocks of ${block}: what is told of it`)
    t.strictSame((await readdir(layer)).sort(), block === 512 ? ['layer.erofs', 'layer.tar'] : ['layer.erofs'])
    // the one of Debian 12 (1.5) knows blocks of a page alone
    if (block === 4096 && findTool('fsck.erofs') !== undefined) {
      await run('fsck.erofs', '--extract', join(layer, 'layer.erofs'))
    }
    const seen = await describe(layer, erofsMount(layer), options)
    t.equal(seen.list, wanted.list, `blocks of ${block}`)
    t.equal(seen.digest, wanted.digest, `blocks of ${block}: content, attributes, times`)
    const [own, top] = [await stat(layer), await stat(`${base}.tree`)]
    t.strictSame([own.mode, own.uid, own.gid], [top.mode, top.uid, top.gid], 'its directory looks as its top does')
    await rm(layer, { recursive: true })
  }
  await rm(`${base}.tree`, { recursive: true })
}

t.test('a layer’s index shows what is unpacked of it', { skip }, async (t) => {
  const tree = join(scratch, 'tree')
  await makeTree(tree)
  const archives: Record<string, string[]> = {
    gnu: ['--format=gnu', '--sparse'],
    pax: ['--format=posix', '--xattrs', '--xattrs-include=*', '--sparse'],
    'pax, attributes': ['--format=posix', '--pax-option=SCHILY.xattr.trusted.note:=kept', '--exclude=./usr/bin/tool'],
    'pax, sparse 0.0': ['--format=posix', '--sparse', '--sparse-version=0.0'],
    'pax, sparse 0.1': ['--format=posix', '--sparse', '--sparse-version=0.1'],
    'a real tree': [
      ...['--format=posix', '--directory=/', '--no-recursion', './', '--recursion', './etc'],
      ...['--no-recursion', './usr', '--recursion', './usr/include'],
    ],
  }
  for (const [name, options] of Object.entries(archives)) {
    await t.test(name, async (t) => {
      const archive = join(scratch, `${name.replaceAll(/\W/g, '-')}.tar`)
      const sources = options.includes('--directory=/') ? options : ['--directory', tree, ...options, '.']
      await run('tar', '-cf', archive, ...sources)
      await compare(t, archive)
      await rm(archive)
    })
  }
})

t.test('entries that replace, hide and lead elsewhere', { skip }, async (t) => {
  const directory = (name: string, mode = 0o755): LayerEntry => ({ name, type: 'directory', mode })
  const entries: LayerEntry[] = [
    directory('./', 0o711),
    ...Array.from({ length: 300 }, (_, n): LayerEntry => ({
      name: `many/${n}-${'x'.repeat(n % 80)}`,
      content: `${n}`,
    })),
    ...['-', '.hidden', '..more', 'ä', 'Z', 'a', 'a.b', 'a-b'].map((name): LayerEntry => ({ name: `names/${name}` })),
    { name: 'usr/lib/x', content: 'in lib' },
    { name: 'lib', type: 'symlink', target: '/usr/lib' },
    { name: 'lib/y', content: 'by the link' },
    { name: 'up/link', type: 'symlink', target: '../../../usr/./lib' },
    { name: 'up/link/z', content: 'by another' },
    { name: 'dangling', type: 'symlink', target: 'not/there' },
    { name: 'dangling/file', content: 'made' },
    { name: 'file', content: 'first' },
    { name: 'twin', type: 'hardlink', target: 'file' },
    { name: 'file', content: 'second' },
    { name: 'file', type: 'hardlink', target: 'file' },
    { name: 'third', type: 'hardlink', target: 'lib/y' },
    { name: 'swap/deep/er', content: 'x' },
    { name: 'swap', content: 'a file' },
    { name: 'back', content: 'a file' },
    directory('back/', 0o700),
    { name: 'back/in', content: 'in' },
    { name: '.wh.gone' },
    { name: '.wh.hidden' },
    { name: 'hidden/inside', content: 'of an opaque directory' },
    { name: 'there/', type: 'directory' },
    { name: '.wh.there' },
    { name: 'opaque/.wh..wh..opq' },
    { name: 'white', type: 'character' },
    { name: 'pipe', type: 'fifo', mode: 0o4622, uid: 7 },
    { name: '.wh..wh.aufs', content: 'no content of the image' },
    { name: 'long', type: 'symlink', target: 'l'.repeat(99) },
    { name: 'empty', content: '' },
    { name: 'page', content: Buffer.alloc(4096, 'p') },
    { name: 'odd', content: Buffer.alloc(12_345, 'o') },
  ]
  const archive = join(scratch, 'entries.tar')
  await writeFile(archive, tar(entries))
  await compare(t, archive, { times: false }) // a whiteout has the time of now where the layer is unpacked
  // overlayfs' own marks are no part of the comparison
  const layer = join(scratch, 'marks')
  await make(archive, layer, 512)
  const script = `${erofsMount(layer)}; cd ${layer}; stat -c '%n %F %t:%T' gone hidden white
    getfattr --absolute-names -n trusted.overlay.opaque --only-values hidden opaque there back; stat -c %h file twin usr/lib/y`
  t.equal(
    await run('unshare', '--mount', 'sh', '-ec', script),
    'gone character special file 0:0\nhidden directory 0:0\nwhite character special file 0:0\nyyyy1\n1\n2\n',
  )
})

t.test('what an archive may not say is said as by the unpacker', { skip }, async (t) => {
  const cases: Record<string, LayerEntry[]> = {
    'out of the root': [{ name: '../x' }],
    'a parent that is a file': [{ name: 'f' }, { name: 'f/x' }],
    'a loop of links': [{ name: 'a', type: 'symlink', target: 'a' }, { name: 'a/x' }],
    'a link to nothing': [{ name: 'x', type: 'hardlink', target: 'nowhere' }],
    'a link to a directory': [
      { name: 'd/', type: 'directory' },
      { name: 'x', type: 'hardlink', target: 'd' },
    ],
    'a whiteout of nothing': [{ name: '.wh.' }],
    'a whiteout as a parent': [{ name: '.wh.a/b' }],
    'a top that is a file': [{ name: './' }],
    'an empty link': [{ name: 'x', type: 'symlink', target: '' }],
  }
  for (const [name, entries] of Object.entries(cases)) {
    const archive = join(scratch, 'bad.tar')
    await writeFile(archive, tar(entries))
    const codes = []
    for (const block of [undefined, ...blocks]) {
      const directory = join(scratch, randomBytes(6).toString('hex'))
      codes.push(
        await make(archive, directory, block).then(
          () => 'none',
          (error: unknown) => (error as NativeError).code,
        ),
      )
    }
    t.not(codes[0], 'none', name)
    t.strictSame(codes.slice(1), [codes[0], codes[0]], name)
  }
})

t.test('the archive stays as it is', { skip }, async (t) => {
  const archive = join(scratch, 'whole.tar')
  await writeFile(archive, tar([{ name: 'a', content: 'content' }]))
  await make(archive, join(scratch, 'whole'), 512)
  t.same(await readFile(join(scratch, 'whole/layer.tar')), await readFile(archive))
  await make('/dev/null', join(scratch, 'none'), 512)
  t.equal((await describe(join(scratch, 'none'), erofsMount(join(scratch, 'none')))).list, ' d 755 0:0', 'an empty one')
})

t.test('where the kernel mounts no file there are loop devices, gone with the mount', { skip }, async (t) => {
  const archive = join(scratch, 'loop.tar')
  await writeFile(archive, tar([{ name: 'a', content: Buffer.alloc(9000, 'loop') }]))
  const shm = await mkdtemp('/dev/shm/caisson-erofs-')
  t.teardown(() => rm(shm, { recursive: true }))
  for (const block of blocks) {
    const layer = join(shm, String(block))
    await make(archive, layer, block)
    const directory = await native.openDirectory(layer)
    const [first, second] = [await native.mountErofs(directory.fd), await native.mountErofs(directory.fd)]
    t.same(await readFile(`/proc/self/fd/${first.fd}/a`), Buffer.alloc(9000, 'loop'))
    const devices = [first, second].map(({ fd }) => stat(`/proc/self/fd/${fd}/a`).then(({ dev }) => dev))
    t.equal(await devices[0], await devices[1], 'two mounts have one super block')
    t.match(await run('losetup', '-a'), layer)
    for (const each of [first, second, directory]) each.close()
    t.notMatch(await run('losetup', '-a'), layer)
  }
})
