import { parse as parseYaml } from 'yaml'

import { hookNames } from '../../oci/runtime-spec.ts'
import { Reader } from './reader.ts'
import type { CdiDevice, CdiDeviceNode, CdiHook, CdiIntelRdt, CdiSpec, ContainerEdits } from './types.ts'

/** Ascending. */
const versions = ['0.3.0', '0.4.0', '0.5.0', '0.6.0', '0.7.0', '0.8.0', '1.0.0', '1.1.0']
const idMax = 0xffff_fffe

const vendorForm = /^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$/
const classForm = /^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$/
const deviceForm = /^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$/

/** `vendor/class=name` in its parts; null: it is none. */
export function parseDeviceName(text: string): { kind: string; name: string } | null {
  const [kind = '', name = '', ...more] = text.split('=')
  if (more.length > 0 || !isKind(kind) || !deviceForm.test(name)) return null
  return { kind, name }
}

function isKind(text: string): boolean {
  const [vendor = '', name = '', ...more] = text.split('/')
  return more.length === 0 && vendorForm.test(vendor) && classForm.test(name)
}

/**
 * @param text JSON, or YAML without aliases, which could make gigabytes of a page
 * @throws Error saying which member is wrong
 */
export function parseCdiSpec(text: string): CdiSpec {
  const document: unknown = parseYaml(text, { maxAliasCount: 0, strict: true, uniqueKeys: true, schema: 'core' })
  const reader = new Reader(document, '').only('cdiVersion', 'kind', 'annotations', 'devices', 'containerEdits')
  const cdiVersion = reader.member('cdiVersion').text().replace(/^v/, '')
  if (!versions.includes(cdiVersion)) {
    reader.member('cdiVersion').fail(`"${cdiVersion}" is not known; known: ${versions.join(', ')}`)
  }
  const kind = reader.member('kind').text()
  if (!isKind(kind)) reader.member('kind').fail(`"${kind}" is not vendor/class`)
  const devices = reader.member('devices').list().map(deviceOf)
  if (devices.length === 0) reader.member('devices').fail('is empty')
  for (const [index, { name }] of devices.entries()) {
    if (devices.findIndex((other) => other.name === name) !== index) {
      reader.member('devices').fail(`has "${name}" twice`)
    }
  }
  const spec: CdiSpec = {
    cdiVersion,
    kind,
    annotations: reader.member('annotations').map(),
    devices,
    containerEdits: editsOf(reader.member('containerEdits')),
  }
  const [needed, what] = leastVersion(spec)
  if (versions.indexOf(cdiVersion) < versions.indexOf(needed)) {
    reader.member('cdiVersion').fail(`"${cdiVersion}" does not have ${what}, which came with ${needed}`)
  }
  return spec
}

function deviceOf(reader: Reader): CdiDevice {
  reader.only('name', 'annotations', 'containerEdits')
  const name = reader.member('name').text()
  if (!deviceForm.test(name)) reader.member('name').fail(`"${name}" is not the name of a device`)
  return {
    name,
    annotations: reader.member('annotations').map(),
    containerEdits: editsOf(reader.member('containerEdits')),
  }
}

function editsOf(reader: Reader): ContainerEdits {
  reader.only('env', 'deviceNodes', 'netDevices', 'mounts', 'hooks', 'intelRdt', 'additionalGids')
  return {
    env: reader
      .member('env')
      .list()
      .map((entry) => {
        const text = entry.text()
        return /^[^=]+=/.test(text) ? text : entry.fail(`"${text}" is not NAME=value`)
      }),
    deviceNodes: reader.member('deviceNodes').list().map(deviceNodeOf),
    netDevices: reader
      .member('netDevices')
      .list()
      .map((entry) => {
        entry.only('hostInterfaceName', 'name')
        return { hostInterfaceName: entry.member('hostInterfaceName').text(), name: entry.member('name').text() }
      }),
    mounts: reader
      .member('mounts')
      .list()
      .map((entry) => {
        entry.only('hostPath', 'containerPath', 'type', 'options')
        return {
          hostPath: entry.member('hostPath').text(),
          containerPath: entry.member('containerPath').absolutePath(),
          type: entry.member('type').text(''),
          options: entry.member('options').texts(),
        }
      }),
    hooks: reader.member('hooks').list().map(hookOf),
    intelRdt: intelRdtOf(reader.member('intelRdt')),
    additionalGids: reader
      .member('additionalGids')
      .list()
      .map((entry) => entry.integer(0, idMax) ?? entry.fail('is missing')),
  }
}

function deviceNodeOf(reader: Reader): CdiDeviceNode {
  reader.only('path', 'hostPath', 'type', 'major', 'minor', 'fileMode', 'permissions', 'uid', 'gid')
  const type = reader.member('type').text('')
  if (!['', 'b', 'c', 'u', 'p'].includes(type)) reader.member('type').fail(`"${type}" is not b, c, u or p`)
  const permissions = reader.member('permissions').text('')
  if (!/^[rwm]{0,3}$/.test(permissions)) reader.member('permissions').fail(`"${permissions}" are not of r, w, m`)
  return {
    path: reader.member('path').absolutePath(),
    hostPath: reader.member('hostPath').present ? reader.member('hostPath').absolutePath() : null,
    type: type === '' ? null : type === 'u' ? 'c' : (type as 'b' | 'c' | 'p'),
    major: reader.member('major').integer(0, 0xfff),
    minor: reader.member('minor').integer(0, 0xf_ffff),
    fileMode: reader.member('fileMode').integer(0, 0o7777),
    permissions,
    uid: reader.member('uid').integer(0, idMax),
    gid: reader.member('gid').integer(0, idMax),
  }
}

function hookOf(reader: Reader): CdiHook {
  reader.only('hookName', 'path', 'args', 'env', 'timeout')
  const text = reader.member('hookName').text()
  const hookName = hookNames.find((name) => name === text)
  if (hookName === undefined) return reader.member('hookName').fail(`"${text}" is none of ${hookNames.join(', ')}`)
  return {
    hookName,
    path: reader.member('path').absolutePath(),
    args: reader.member('args').texts(),
    env: reader.member('env').texts(),
    timeout: reader.member('timeout').integer(1, 2 ** 31 - 1),
  }
}

function intelRdtOf(reader: Reader): CdiIntelRdt | null {
  if (!reader.present) return null
  reader.only('closID', 'l3CacheSchema', 'memBwSchema', 'schemata', 'enableMonitoring', 'enableCMT', 'enableMBM')
  return {
    closID: reader.member('closID').text(''),
    l3CacheSchema: reader.member('l3CacheSchema').text(''),
    memBwSchema: reader.member('memBwSchema').text(''),
    schemata: reader.member('schemata').texts(),
    enableMonitoring: reader.member('enableMonitoring').flag(),
    enableCMT: reader.member('enableCMT').flag(),
    enableMBM: reader.member('enableMBM').flag(),
  }
}

/** The first version that has all that the specification uses, and what that is. */
function leastVersion({ kind, annotations, devices, containerEdits }: CdiSpec): [version: string, what: string] {
  const all = [containerEdits, ...devices.map((device) => device.containerEdits)]
  const uses = (used: (edits: ContainerEdits) => boolean): boolean => all.some(used)
  if (uses(({ netDevices }) => netDevices.length > 0)) return ['1.1.0', 'netDevices']
  if (uses(({ intelRdt: rdt }) => rdt !== null && (rdt.schemata.length > 0 || rdt.enableMonitoring))) {
    return ['1.1.0', 'intelRdt.schemata and enableMonitoring']
  }
  if (uses(({ intelRdt }) => intelRdt !== null)) return ['0.7.0', 'intelRdt']
  if (uses(({ additionalGids }) => additionalGids.length > 0)) return ['0.7.0', 'additionalGids']
  const annotated = [annotations, ...devices.map((device) => device.annotations)].some(
    (map) => Object.keys(map).length > 0,
  )
  if (annotated) return ['0.6.0', 'annotations']
  if (kind.slice(kind.indexOf('/')).includes('.')) return ['0.6.0', 'classes with a dot']
  if (devices.some(({ name }) => /^\d/.test(name))) return ['0.5.0', 'names of devices that begin with a digit']
  if (uses(({ deviceNodes }) => deviceNodes.some(({ hostPath }) => hostPath !== null))) {
    return ['0.5.0', 'deviceNodes.hostPath']
  }
  if (uses(({ mounts }) => mounts.some(({ type }) => type !== ''))) return ['0.4.0', 'mounts.type']
  return ['0.3.0', 'anything']
}
