import { existsSync } from 'node:fs'
import { join } from 'node:path'

/**
 * A shell command that mounts an indexed layer: by mount(2), since mount(8) takes a loop device for the index and none for its archive;
 * where the kernel mounts no file of that file system, with loop devices for both.
 */
export function erofsMount(layer: string, at = layer): string {
  const [index, archive] = [join(layer, 'layer.erofs'), join(layer, 'layer.tar')]
  if (!existsSync(archive)) return `mount -t erofs -o ro ${index} ${at}`
  const program = [
    'import ctypes, sys',
    'index, at, options = (text.encode() for text in sys.argv[1:])',
    'sys.exit(ctypes.CDLL(None).mount(index, at, b"erofs", 1, options) != 0)',
  ].join('\n')
  const loop = `device=$(losetup -f --show -r ${archive}) && mount -t erofs -o ro,device=$device ${index} ${at} && losetup -d $device`
  return `{ python3 -c '${program}' ${index} ${at} device=${archive} || { ${loop}; }; }`
}
