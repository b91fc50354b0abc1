import { absolutePath, boolean, integer, key, listOf, text } from '../schema.ts'

const pluginName = text(/^[a-zA-Z0-9._+-]{1,128}$/, 'the name of a plugin: 1 to 128 of a-z A-Z 0-9 . _ + -')

/** `[nri]`: plugins of the Node Resource Interface, which are asked before containers are made and changed. */
export const nri = {
  enable: key(boolean, false),
  /** Where external plugins connect; root alone may. */
  socketPath: key(absolutePath(), '/var/run/nri/nri.sock'),
  /** No socket: only plugins of `plugin_path`. */
  disableConnections: key(boolean, false),
  /** Directory of programs `NN-name` that are started with the service, and ended with it. */
  pluginPath: key(absolutePath(), '/opt/nri/plugins'),
  /** Directory of what is handed to them: `NN-name.conf`, else `name.conf`. */
  pluginConfigPath: key(absolutePath(), '/etc/nri/conf.d'),
  /** Milliseconds that a plugin has for each of registering, being configured, and being told what there is. */
  pluginRegistrationTimeout: key(integer(100, 600_000), 5000),
  /** Milliseconds that a plugin has to answer; one that does not is dropped. */
  pluginRequestTimeout: key(integer(10, 600_000), 2000),
  /** Names of plugins without which no container is created. */
  requiredPlugins: key(listOf(pluginName), []),
}
