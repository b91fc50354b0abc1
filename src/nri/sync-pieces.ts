import { messages, type ContainerView, type PodSandbox } from './messages.ts'
import { frameMax } from './frame.ts'

/** What a message may hold: a frame, without the envelope. */
const pieceMax = frameMax - 4096
/** Of an entry: its field, and its length. */
const entryOverhead = 8

export interface SyncPiece {
  pods: PodSandbox[]
  containers: ContainerView[]
  more: boolean
}

/** Everything there is, in as few messages as hold it: the pods first. At least one. */
export function syncPieces(
  pods: readonly PodSandbox[],
  containers: readonly ContainerView[],
  max: number = pieceMax,
): SyncPiece[] {
  let piece: SyncPiece = { pods: [], containers: [], more: false }
  const pieces = [piece]
  let size = 0
  const room = (length: number): SyncPiece => {
    if (size > 0 && size + length > max) {
      piece.more = true
      piece = { pods: [], containers: [], more: false }
      pieces.push(piece)
      size = 0
    }
    size += length
    return piece
  }
  for (const pod of pods) room(messages.PodSandbox.encode(pod).finish().length + entryOverhead).pods.push(pod)
  for (const container of containers) {
    room(messages.Container.encode(container).finish().length + entryOverhead).containers.push(container)
  }
  return pieces
}
