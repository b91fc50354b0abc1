import { join } from 'node:path'

/** Where things are on disk (docs/architecture.md, "On disk"). */
export class Layout {
  readonly root: string
  readonly state: string
  readonly instance: string

  constructor(options: { root: string; state: string; instance: string }) {
    this.root = options.root
    this.state = options.state
    this.instance = options.instance
  }

  get pods(): string {
    return join(this.root, 'instances', this.instance, 'pods')
  }

  get network(): string {
    return join(this.root, 'instances', this.instance, 'network')
  }

  get trash(): string {
    return join(this.root, 'trash')
  }

  pod(id: string): string {
    return join(this.pods, id)
  }

  podRecord(id: string): string {
    return join(this.pod(id), 'pod.json')
  }

  container(podId: string, id: string): string {
    return join(this.pod(podId), 'containers', id)
  }

  containerRecord(podId: string, id: string): string {
    return join(this.container(podId, id), 'container.json')
  }

  exitRecord(podId: string, id: string): string {
    return join(this.container(podId, id), 'exit')
  }

  get podStates(): string {
    return join(this.state, 'pods')
  }

  podState(id: string): string {
    return join(this.podStates, id)
  }

  get bootId(): string {
    return join(this.state, 'boot-id')
  }

  /** Held by the one process that owns the instance, and by the one that owns the state directory. */
  get locks(): string[] {
    return [join(this.root, 'instances', this.instance, 'lock'), join(this.state, 'lock')]
  }
}
