import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { native } from '#src/native/index.ts'
import type { LayerLimits, LayerStats, Native, NativeError } from '#src/native/types.ts'
import { tar, type LayerEntry } from '../helpers/image.ts'
import { missingTools, run } from '../helpers/tools.ts'
import { describe, makeTree } from '../helpers/trees.ts'

// The oracles: GNU tar for one layer, umoci for an image of several.

const limits: LayerLimits = { maxEntries: 100_000, maxBytes: 2 ** 32 }
const skip = process.getuid?.() === 0 ? missingTools('tar', 'unshare', 'sha256sum') : 'owners and devices need root'

const scratch = await mkdtemp(join(process.env['CAISSON_TEST_TMP'] ?? '/var/tmp', 'caisson-unpack-'))
t.teardown(() => rm(scratch, { recursive: true, force: true }))

const expansion = { maxExpanded: 2 ** 34, maxRatio: 2000, ratioFloor: 0 }

/** A handle on the work; the descriptors are the addon's own by then. */
async function begin(blob: Buffer, directory: string, bounds = limits): Promise<ReturnType<Native['unpackLayer']>> {
  const file = join(scratch, `blob-${randomBytes(6).toString('hex')}`)
  await writeFile(file, blob)
  await mkdir(directory)
  const [from, to] = [await open(file), await native.openDirectory(directory)]
  try {
    const handle = native.unpackLayer(from.fd, to.fd, { ...bounds, ...expansion })
    handle.done.catch(() => undefined) // it may fail before anybody waits
    return handle
  } finally {
    to.close()
    await from.close()
    await rm(file)
  }
}

const unpack = async (blob: Buffer, directory: string, bounds = limits): Promise<LayerStats> =>
  await (
    await begin(blob, directory, bounds)
  ).done

t.test('a layer unpacks as GNU tar unpacks it', { skip }, async (t) => {
  const tree = join(scratch, 'tree')
  await makeTree(tree)
  const archives: Record<string, string[]> = {
    gnu: ['--format=gnu', '--sparse'],
    pax: ['--format=posix', '--xattrs', '--xattrs-include=*', '--sparse'],
    // an attribute on every type of entry; not on one that has another, since their order in a listing is no property
    'pax, attributes': ['--format=posix', '--pax-option=SCHILY.xattr.trusted.note:=kept', '--exclude=./usr/bin/tool'],
    'pax, sparse 0.0': ['--format=posix', '--sparse', '--sparse-version=0.0'],
    'pax, sparse 0.1': ['--format=posix', '--sparse', '--sparse-version=0.1'],
    // directories before what is in them: GNU tar loses the time of one that it meets again later
    'a real tree': [
      ...['--format=posix', '--directory=/', '--no-recursion', './', '--recursion', './etc'],
      ...['--no-recursion', './usr', '--recursion', './usr/include'],
    ],
  }
  for (const [name, options] of Object.entries(archives)) {
    await t.test(name, async (t) => {
      const base = join(scratch, name.replaceAll(/\W/g, '-'))
      const sources = options.includes('--directory=/') ? options : ['--directory', tree, ...options, '.']
      await run('tar', '-cf', `${base}.tar`, ...sources)
      await mkdir(`${base}.oracle`)
      await run('tar', '-C', `${base}.oracle`, '--xattrs', '--xattrs-include=*', '-xpf', `${base}.tar`)
      const stats = await unpack(await readFile(`${base}.tar`), `${base}.ours`)
      const members = (await run('tar', '-tf', `${base}.tar`)).trimEnd().split('\n').length
      t.equal(stats.entries, members)
      const [oracle, ours] = [await describe(`${base}.oracle`), await describe(`${base}.ours`)]
      t.equal(ours.list, oracle.list)
      t.equal(ours.digest, oracle.digest)
      t.equal(stats.opaqueRoot, false)
      if (options.includes('--sparse')) {
        const { blocks, size } = await stat(`${base}.ours/usr/share/sparse`)
        t.ok(blocks * 512 < size / 8, 'the sparse file has its hole')
      }
      await rm(`${base}.ours`, { recursive: true })
      await rm(`${base}.oracle`, { recursive: true })
    })
  }
})

t.test(
  'layers stacked by overlayfs look as umoci unpacks the image',
  { skip: skip || missingTools('umoci') },
  async (t) => {
    const directory = (name: string, mode = 0o755): LayerEntry => ({ name, type: 'directory', mode })
    const layers: LayerEntry[][] = [
      [
        directory('./'),
        directory('etc/'),
        { name: 'etc/a', content: 'a' },
        { name: 'etc/b', content: 'b' },
        directory('opaque/'),
        { name: 'opaque/hidden', content: 'x' },
        directory('gone/'),
        { name: 'gone/x', content: 'x' },
        directory('again/'),
        { name: 'again/old', content: 'x' },
        directory('swap/'),
        { name: 'swap/old', content: 'x' },
        { name: 'file', content: 'file' },
        directory('usr/'),
        directory('usr/lib/'),
        { name: 'lib', type: 'symlink', target: 'usr/lib' },
      ],
      [
        directory('./'),
        directory('etc/', 0o700),
        { name: 'etc/.wh.a' },
        { name: 'etc/c', content: 'c' },
        directory('opaque/'),
        { name: 'opaque/.wh..wh..opq' },
        { name: 'opaque/new', content: 'n' },
        // whiteouts of what is hidden already, or was never there: overlayfs has nothing to merge, and must yet not list them
        { name: 'opaque/.wh.hidden' },
        directory('fresh/'),
        { name: 'fresh/.wh.nothing' },
        { name: 'fresh/here', content: 'h' },
        { name: '.wh.gone' },
        { name: '.wh.again' },
        directory('again/'),
        { name: 'again/new', content: 'n' },
        { name: 'swap', content: 'a file now' },
        { name: '.wh.file' },
        directory('usr/'),
        directory('usr/lib/'),
        { name: 'usr/lib/libx', content: 'lib' },
        { name: 'usr/lib/liby', type: 'hardlink', target: 'usr/lib/libx' },
      ],
    ]
    const layout = join(scratch, 'layout')
    await run('umoci', 'init', '--layout', layout)
    await run('umoci', 'new', '--image', `${layout}:test`)
    const lower: string[] = []
    for (const [index, entries] of layers.entries()) {
      const archive = tar(entries)
      await writeFile(join(scratch, `${index}.tar`), archive)
      await run('umoci', 'raw', 'add-layer', '--image', `${layout}:test`, join(scratch, `${index}.tar`))
      const target = join(scratch, `lower${index}`)
      await unpack(archive, target)
      lower.unshift(target)
    }
    const bundle = join(scratch, 'umoci')
    await run('umoci', 'raw', 'unpack', '--image', `${layout}:test`, bundle)
    const merged = join(scratch, 'merged')
    await mkdir(merged)
    const ours = await describe(merged, `mount -t overlay overlay -o lowerdir=${lower.join(':')} "$1"`)
    const oracle = await describe(bundle)
    t.equal(ours.list, oracle.list)
    t.equal(ours.digest, oracle.digest)
    t.match(ours.list, /^again\/new f/m)
    const script = `mount -t overlay overlay -o lowerdir=${lower.join(':')} "$1" && cd "$1" && ls opaque fresh`
    t.equal(await run('unshare', '--mount', 'sh', '-ec', script, 'sh', merged), 'fresh:\nhere\n\nopaque:\nnew\n')
  },
)

t.test('errors name the entry', { skip }, async (t) => {
  let count = 0
  const rejects = async (archive: Buffer, expected: Partial<NativeError>, bounds = limits): Promise<void> => {
    const error = (await unpack(archive, join(scratch, `error${count++}`), bounds).catch(
      (e: unknown) => e,
    )) as NativeError
    t.type(error, Error)
    t.match(error, expected)
    t.match(error.message, `${expected.code}: `)
    t.match(error.message, `'${expected.path}'`)
  }
  const whole = tar([{ name: 'etc/passwd', content: 'x'.repeat(5000) }])
  await rejects(whole.subarray(0, 4000), { code: 'EBADMSG', errno: -74, path: 'etc/passwd' })
  await rejects(tar([{ name: '../out', content: 'x' }]), { code: 'EPERM', path: '../out' })
  await rejects(tar([{ name: 'h', type: 'hardlink', target: 'no/where' }]), { code: 'ENOENT', path: 'h -> no/where' })
  await rejects(whole, { code: 'EFBIG', path: 'etc/passwd' }, { ...limits, maxBytes: 4999 })
  await rejects(tar([{ name: 'a' }, { name: 'b' }]), { code: 'E2BIG', path: 'b' }, { ...limits, maxEntries: 1 })
  await rejects(Buffer.alloc(512, 'x'), { code: 'EBADMSG', path: 'start of the archive' })
})

t.test('work that is aborted ends, and bad arguments are told', { skip }, async (t) => {
  const archive = tar([{ name: 'a', content: randomBytes(50 << 20) }])
  const { done, abort } = await begin(archive, join(scratch, 'aborted'))
  abort()
  await t.rejects(done, { code: 'ECANCELED' })
  abort()
  t.throws(() => native.unpackLayer(-1, 0, { ...limits, ...expansion }))
  t.throws(() => native.unpackLayer(0, 0, { ...limits, ...expansion, maxEntries: -1 }), /maxEntries/)
  t.throws(() => native.unpackLayer(0, 0, { ...limits, ...expansion, maxRatio: 0 }), RangeError)
})
