/** Filters of the list calls: every given field must match; an id may be a prefix; an absent filter takes all. */

export function matchesId(id: string, wanted: string | null | undefined): boolean {
  return wanted == null || wanted === '' || id.startsWith(wanted)
}

export function matchesState<State>(state: State, wanted: { state?: State | null } | null | undefined): boolean {
  // the state of a filter that is there and says nothing is proto3's zero, which is its first state
  return wanted == null || state === (wanted.state ?? (0 as State))
}

export function matchesLabels(
  labels: Readonly<Record<string, string>>,
  selector: Readonly<Record<string, string>> | null | undefined,
): boolean {
  // for a thousand subjects: nothing is allocated when there is no selector
  for (const key in selector) if (labels[key] !== selector[key]) return false
  return true
}
