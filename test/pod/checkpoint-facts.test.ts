import t from 'tap'
import { mountLines, outsideMounts } from '#src/pod/checkpoint/process-facts.ts'

const mountinfo = [
  '76 62 0:38 / / rw,relatime - overlay overlay rw',
  '77 76 0:40 / /proc rw - proc proc rw',
  '78 76 0:41 / /dev rw - tmpfs tmpfs rw',
  '61 78 0:36 / /dev/shm rw - tmpfs tmpfs rw',
  '80 78 0:37 / /dev/mqueue rw - mqueue mqueue rw',
  '81 76 0:43 / /sys ro - sysfs sysfs rw',
  '82 81 0:29 /pod/container /sys/fs/cgroup ro - cgroup2 cgroup rw',
  '58 76 254:0 /state/etc/hosts /etc/hosts rw shared:3 master:1 - ext4 /dev/vda rw',
  '90 77 0:40 /sys /proc/sys ro - proc proc rw',
  '91 77 0:5 /null /proc/keys rw - devtmpfs udev rw',
  '92 77 0:99 / /proc/scsi ro - tmpfs tmpfs ro',
  '93 76 0:77 / /data\\040dir rw - tmpfs tmpfs rw',
  '94 93 0:78 / /data\\040dir/below rw - tmpfs tmpfs rw',
  '95 77 0:6 /null /proc/timer_list rw - tmpfs tmpfs rw',
  '',
].join('\n')

t.test('what is not of a container’s own making', (t) => {
  const lines = mountLines(mountinfo)
  t.match(lines[7], { id: '58', device: '254:0', root: '/state/etc/hosts', point: '/etc/hosts', type: 'ext4' })
  t.equal(lines.length, 14)
  t.same(
    outsideMounts(lines, ['/dev/shm', '/etc/hosts', '/data dir']),
    ['/dev/shm', '/sys/fs/cgroup', '/etc/hosts', '/proc/keys', '/data dir', '/data dir/below', '/proc/timer_list'],
    'binds by their places, what criu cannot make, and files of file systems that are not the container’s',
  )
  t.end()
})
