import { randomInt } from 'node:crypto'

const adjectives = [
  'amber', 'brisk', 'calm', 'clear', 'deep', 'dry', 'early', 'even', 'fair', 'firm', 'fleet', 'frank', 'glad', 'grand', 'hale',
  'keen', 'kind', 'level', 'light', 'lucid', 'mild', 'neat', 'noble', 'plain', 'proud', 'quiet', 'rapid', 'ready', 'sharp', 'sound',
  'steady', 'stout', 'sure', 'swift', 'tidy', 'true', 'vivid', 'warm', 'wide', 'wise',
] // prettier-ignore
const nouns = [
  'anchor', 'arch', 'basin', 'beam', 'bridge', 'buoy', 'canal', 'chart', 'compass', 'crane', 'delta', 'dike', 'dock', 'estuary',
  'ferry', 'fjord', 'girder', 'harbor', 'hull', 'jetty', 'keel', 'lagoon', 'lock', 'mast', 'mole', 'mooring', 'pier', 'pile',
  'pontoon', 'quay', 'reef', 'rudder', 'shoal', 'sluice', 'sound', 'span', 'strait', 'tide', 'weir', 'wharf',
] // prettier-ignore

/** Two words and a number: easy to say, hard to hit twice. */
export function newName(): string {
  return `${adjectives[randomInt(adjectives.length)] ?? ''}-${nouns[randomInt(nouns.length)] ?? ''}-${randomInt(100, 1000)}`
}
