import { defaultConfig, loadConfig } from '../../config/index.ts'
import { configJson, configToml } from '../../config/show.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'

export const showConfig: Command = {
  usage: `usage: caisson [--config FILE] config [--default] [--json]
Reads the configuration as "serve" and a reload would, and shows what is in force with it, and where each value comes from. A mistake
in it is told, with status 125.
  --default  without any file
  --json     for programs: files, values, origins (null: the default)
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      default: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    if (operands.length > 0) throw new UsageError('config takes no operands')
    const config = values.default ? defaultConfig() : await loadConfig(globals.config)
    process.stdout.write(values.json ? `${JSON.stringify(configJson(config), null, 2)}\n` : configToml(config))
    return 0
  },
}
