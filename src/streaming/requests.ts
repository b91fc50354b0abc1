import { CaissonError, type WantedStreams } from '../index.ts'

/** What a URL stands for. */
export type StreamingRequest =
  | ({ kind: 'exec'; containerId: string; command: readonly string[]; tty: boolean } & WantedStreams)
  | ({ kind: 'attach'; containerId: string; tty: boolean } & WantedStreams)
  | { kind: 'portforward'; podId: string; ports: readonly number[] }

/** The checks of every streaming server of Kubernetes (k8s.io/kubelet pkg/cri/streaming): clients rely on the refusal. */
export function checkStreams(request: { tty: boolean } & WantedStreams): void {
  if (request.tty && request.stderr) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'tty and stderr cannot both be true: a terminal has one output')
  }
  if (!request.stdin && !request.stdout && !request.stderr) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'one of stdin, stdout or stderr must be true')
  }
}
