/**
 * Trees, compared as archives that GNU tar makes of them in one canonical form: type, mode, owner, extended attributes, link, content,
 * mtime with nanoseconds, hard links.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { findTool, run } from './tools.ts'

/** One line per entry and a digest of everything, as seen by GNU tar; `setup` may mount below the directory. */
export async function describe(
  directory: string,
  setup = ':',
  { times = true } = {},
): Promise<{ list: string; digest: string }> {
  const script = `${setup} && cd "$1" && find . -printf '%P %y %m %U:%G %s %l\\n' | grep -v ' d ' | LC_ALL=C sort &&
    find . -type d -printf '%P %y %m %U:%G\\n' | LC_ALL=C sort && tar --format=posix --sort=name --numeric-owner \\
    --pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime --xattrs --xattrs-include='*' \\
    --xattrs-exclude=trusted.overlay.* ${times ? '' : '--mtime=@0'} -cf - . | sha256sum`
  const text = await run('unshare', '--mount', 'sh', '-ec', script, 'sh', directory)
  const lines = text.trimEnd().split('\n')
  return { digest: lines.pop() ?? '', list: lines.join('\n') }
}

/** A tree with everything a layer can hold. */
export async function makeTree(root: string): Promise<void> {
  const long = 'd'.repeat(120)
  const script = `mkdir -p "$1/usr/bin" "$1/usr/share/${long}/${long}" "$1/dev" "$1/tmp" "$1/etc" && cd "$1"
    cp /bin/true usr/bin/tool; chmod 4755 usr/bin/tool; ln usr/bin/tool usr/bin/same
    ln -s tool usr/bin/link; ln -s /nowhere/${long}/${long} etc/dangling; ln -s usr/bin bin
    printf 'leaf' >"usr/share/${long}/${long}/leaf"; printf 'na\\303\\257ve' >"etc/na\u00efve name"
    : >etc/empty; head -c 3000000 /dev/urandom >usr/share/blob; truncate -s 8M usr/share/sparse
    printf tail >>usr/share/sparse; mknod dev/null c 1 3; chmod 666 dev/null; mknod dev/loop9 b 7 9; mkfifo -m 622 dev/fifo
    chmod 1777 tmp; chown 1000:100 etc/empty; chown -h 3000000:3000001 etc/dangling; chown 3000000 usr/share/blob
    touch -d '2001-02-03 04:05:06.123456789' etc/empty; touch -h -d '1999-01-01 00:00:00.5' usr/bin/link
    touch -d '1960-01-01' tmp; touch -d '2010-10-10' usr/share; chmod 711 .`
  await mkdir(root)
  await run('sh', '-ec', script, 'sh', root)
  const setcap = findTool('setcap')
  if (setcap !== undefined) await run(setcap, 'cap_net_raw+ep', join(root, 'usr/bin/tool'))
}
