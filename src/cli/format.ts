/** What people read: tables, sizes, ages. */

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)))
  return all
    .map(
      (row) =>
        row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('   ')
          .trimEnd() + '\n',
    )
    .join('')
}

export function size(bytes: number): string {
  const names = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < names.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(value >= 10 ? 1 : 2)} ${names[unit] ?? ''}`
}

/** How long ago, in the largest unit that fits. */
export function age(nanoseconds: bigint, now = Date.now()): string {
  if (nanoseconds === 0n) return ''
  const seconds = Math.max(0, Math.floor((now - Number(nanoseconds / 1_000_000n)) / 1000))
  const steps: [number, string][] = [
    [86400, 'day'],
    [3600, 'hour'],
    [60, 'minute'],
  ]
  for (const [length, name] of steps) {
    const count = Math.floor(seconds / length)
    if (count > 0) return `${count} ${name}${count === 1 ? '' : 's'} ago`
  }
  return `${seconds} second${seconds === 1 ? '' : 's'} ago`
}

export function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12)
}

/** Text of a container or an image on a terminal: control characters could rewrite what the reader sees. */
export function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?')
}
