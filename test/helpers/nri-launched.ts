/** A plugin that a service launches: it says in a file what it was handed, and sets LAUNCHED in every container. */
import { writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { TestPlugin } from './nri-plugin.ts'

const { NRI_PLUGIN_NAME: name = '', NRI_PLUGIN_IDX: index = '', NRI_PLUGIN_SOCKET: socket = '' } = process.env
const [, , file = ''] = process.argv
const env = Object.keys(process.env).filter((key) => !['PWD', 'SHLVL', '_', 'OLDPWD'].includes(key))

const plugin = new TestPlugin(new Socket({ fd: Number(socket) }), {
  Configure: ({ config }: { config: string }) => {
    writeFileSync(file, JSON.stringify({ name, index, socket, config, env: env.sort(), pid: process.pid }))
    return {}
  },
  CreateContainer: () => ({ adjust: { env: [{ key: 'LAUNCHED', value: 'yes' }] } }),
})
await plugin.register(index, name)
await plugin.closed
