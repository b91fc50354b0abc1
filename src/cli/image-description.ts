/** What `commit` and `import` say of the image that they make. */
export const describeOptions = {
  change: { type: 'string', short: 'c', multiple: true, default: [] as string[] },
  author: { type: 'string', short: 'a', default: '' },
  message: { type: 'string', short: 'm', default: '' },
} as const

export function description(values: { change: readonly string[]; author: string; message: string }): {
  changes: string[]
  author: string
  message: string
} {
  return { changes: [...values.change], author: values.author, message: values.message }
}
