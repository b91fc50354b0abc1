import { CaissonError } from '../errors.ts'

/** No limit on a burst, as kubelets had it when they drove plugins themselves. */
const unlimited = 2 ** 31 - 1
const rateMin = 1000
const rateMax = 1e15

/** The two annotations of Kubernetes that limit a pod's traffic, in bits per second. */
export function bandwidth(annotations: Record<string, string>): Record<string, number> | undefined {
  const limits: Record<string, number> = {}
  for (const direction of ['ingress', 'egress']) {
    const key = `kubernetes.io/${direction}-bandwidth`
    const text = annotations[key]
    if (text === undefined) continue
    const rate = quantity(text)
    if (rate === null || rate < rateMin || rate > rateMax) {
      throw new CaissonError(
        'ERR_INVALID_ARGUMENT',
        `annotation ${key} is ${JSON.stringify(text)}; allowed: a quantity of bits per second from 1k to 1P`,
      )
    }
    limits[`${direction}Rate`] = rate
    limits[`${direction}Burst`] = unlimited
  }
  return Object.keys(limits).length === 0 ? undefined : limits
}

const suffixes: Record<string, number> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
}

/** A quantity of Kubernetes: `10M`, `1.5Gi`, `1e6`. */
function quantity(text: string): number | null {
  const match = /^(\d{1,18}(?:\.\d{1,9})?)(?:([kMGTP]i?|Ki)|[eE](\d{1,2}))?$/.exec(text)
  if (match === null) return null
  const [, digits = '', suffix = '', exponent = '0'] = match
  const factor = suffixes[suffix]
  return factor === undefined ? null : Math.round(Number(digits) * factor * 10 ** Number(exponent))
}
