import { CaissonError, isSystemError } from '../../errors.ts'
import type { Native } from '../../native/types.ts'
import type { DropChain, TableElement, TableInput, TableState } from './native-types.ts'

/** Our own table of nf_tables, `inet <name>`: native/core/nft_table.h says what is in it. */
export class Table {
  readonly name: string
  readonly #native: Native
  readonly #contents: () => TableElement[]
  #generation = 0

  /** @param contents all elements that are to stand in it now */
  constructor(native: Native, name: string, contents: () => TableElement[]) {
    this.#native = native
    this.name = name
    this.#contents = contents
  }

  /** Puts it there with all its contents, in the place of one that is there. @throws CaissonError ERR_HOST_UNSUPPORTED */
  async install(): Promise<void> {
    await this.#commit({ add: this.#contents(), delete: [] }, true)
    this.#generation = (await this.#state()).generation
  }

  /** Where others have been at the table, it is made again. @throws CaissonError ERR_HOST_UNSUPPORTED */
  async add(elements: TableElement[]): Promise<void> {
    await this.#change({ add: elements, delete: [] })
  }

  /** What is not there is fine. */
  async delete(elements: readonly TableElement[]): Promise<void> {
    await unlessLacking(this.#change({ add: [], delete: elements.map(({ set, key }) => ({ set, key })) }))
  }

  /** Takes it away; one that is not there is fine. */
  async remove(): Promise<void> {
    const state = await unlessLacking(this.#state())
    if (state?.present === true) await this.#run(this.#native.nftRemove(this.name))
  }

  /** Whether others have changed it since it was last looked at. */
  async isDamaged(): Promise<boolean> {
    const state = await this.#state()
    if (state.generation !== this.#generation && !state.whole) return true
    this.#generation = state.generation
    return false
  }

  /**
   * Whether the kernel has what the table needs.
   *
   * @param options.thorough puts a table there and takes it away, which must not be ours in use: a kernel may lack single expressions
   * @throws CaissonError ERR_HOST_UNSUPPORTED
   */
  async probe({ thorough = false } = {}): Promise<void> {
    await this.#state()
    if (!thorough) return
    await this.#commit({ add: [], delete: [] }, true)
    await this.remove()
  }

  /** Chains of others that drop what ours accept: of hook 1, input, or 2, forward. */
  async dropChains(): Promise<DropChain[]> {
    const text = await unlessLacking(this.#run(this.#native.nftDropChains(this.name)))
    return text === null ? [] : (JSON.parse(text) as DropChain[])
  }

  async #change(input: TableInput): Promise<void> {
    try {
      await this.#native.nftChange(this.name, JSON.stringify(input), false)
    } catch (error) {
      if (!isSystemError(error) || (error.code !== 'ENOENT' && error.code !== 'EEXIST')) throw explained(error)
      await this.install()
    }
  }

  async #commit(input: TableInput, replace: boolean): Promise<void> {
    await this.#run(this.#native.nftChange(this.name, JSON.stringify(input), replace))
  }

  async #state(): Promise<TableState> {
    return JSON.parse(await this.#run(this.#native.nftState(this.name))) as TableState
  }

  async #run<T>(asked: Promise<T>): Promise<T> {
    try {
      return await asked
    } catch (error) {
      throw explained(error)
    }
  }
}

/** A kernel without nf_tables, or without a part of it, says so in one of these ways. */
const lacking = new Set(['EPROTONOSUPPORT', 'EOPNOTSUPP', 'ENOTSUP', 'ENOENT', 'EINVAL', 'EAFNOSUPPORT'])

function explained(error: unknown): unknown {
  if (!isSystemError(error) || !lacking.has(error.code)) return error
  return new CaissonError(
    'ERR_HOST_UNSUPPORTED',
    `the built-in network needs nf_tables (CONFIG_NF_TABLES_INET), and the kernel refuses "${error.path ?? 'nf_tables'}"`,
    { cause: error },
  )
}

/** Where the kernel has no nf_tables there is nothing of ours in it. @returns null then */
async function unlessLacking<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked
  } catch (error) {
    if (error instanceof CaissonError && error.code === 'ERR_HOST_UNSUPPORTED') return null
    throw error
  }
}
