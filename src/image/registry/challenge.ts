/** One challenge of a WWW-Authenticate header: RFC 9110, section 11.6.1. */
export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>
}

/** Characters of all WWW-Authenticate headers of one answer that are looked at. */
const headerMax = 8192
const challengesMax = 16

const token = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y
const token68 = /[A-Za-z0-9\-._~+/]+=*(?=\s*(?:,|$))/y
const space = /[ \t]*/y

/**
 * Parses every challenge of the headers. What is malformed ends the parse: the challenges before it stand, since a registry that
 * garbles its second challenge can still be served by the first.
 */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  const challenges: Challenge[] = []
  let budget = headerMax
  for (const header of headers) {
    if (header.length > budget) break
    budget -= header.length
    parseHeader(header, challenges)
  }
  return challenges
}

function parseHeader(text: string, challenges: Challenge[]): void {
  let at = 0
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = at
    const match = pattern.exec(text)?.[0] ?? null
    if (match !== null) at += match.length
    return match
  }
  const eat = (char: string): boolean => {
    if (text[at] !== char) return false
    at++
    return true
  }
  let parameters: Map<string, string> | null = null
  while (at < text.length && challenges.length < challengesMax) {
    take(space)
    if (eat(',')) continue
    const name = take(token)
    if (name === null) return
    const gap = take(space) ?? ''
    if (parameters !== null && eat('=')) {
      take(space)
      const value = text[at] === '"' ? quoted() : take(token)
      if (value === null) return
      parameters.set(name.toLowerCase(), value)
      continue
    }
    // a name that no "=" follows begins the next challenge
    parameters = new Map()
    challenges.push({ scheme: name.toLowerCase(), parameters })
    if (gap !== '' && !/^[^\s=,]+\s*=\s*[^\s=,]/.test(text.slice(at, at + 256))) take(token68)
  }

  function quoted(): string | null {
    let value = ''
    for (at++; at < text.length; at++) {
      const char = text[at]
      if (char === '"') {
        at++
        return value
      }
      if (char === '\\') at++
      value += text[at] ?? ''
    }
    return null
  }
}
