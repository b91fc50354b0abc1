import { native } from '../../native/index.ts'

export interface ManagerLog {
  warn(fields: object, message: string): void
}

/** Of WatchdogSec; sd_watchdog_enabled(3) asks for half, and a busy pool may take its time. */
const pingsInTime = 3

/** systemd, or who else listens on $NOTIFY_SOCKET (sd_notify(3)). Without one every call does nothing. */
export class ServiceManager {
  readonly #address: string
  /** Milliseconds; null: nobody watches. */
  readonly #watchdogMs: number | null
  readonly #log: ManagerLog
  #timer: NodeJS.Timeout | null = null
  /** Messages go one after the other: READY=1 must not overtake RELOADING=1. */
  #sent: Promise<void> = Promise.resolve()

  constructor(address: string, watchdogMs: number | null, log: ManagerLog) {
    this.#address = address
    this.#watchdogMs = watchdogMs
    this.#log = log
  }

  /** What is in `environment` is taken out of it, so that no child speaks for this process. */
  static of(environment: NodeJS.ProcessEnv, log: ManagerLog): ServiceManager {
    const { NOTIFY_SOCKET: address = '', WATCHDOG_USEC: usec = '', WATCHDOG_PID: pid = '' } = environment
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) Reflect.deleteProperty(environment, name)
    const isOurs = /^[1-9]\d{0,14}$/.test(usec) && (pid === '' || pid === String(process.pid))
    return new ServiceManager(address, isOurs ? Number(usec) / 1000 : null, log)
  }

  /**
   * The service serves. From here on the watchdog is fed as long as the event loop turns and the thread pool answers: the message goes
   * through both.
   */
  async ready(status: string): Promise<void> {
    await this.#send(`READY=1\nSTATUS=${status}`)
    if (this.#watchdogMs === null || this.#address === '' || this.#timer !== null) return
    const feed = (): void => {
      this.#timer = setTimeout(() => void this.#send('WATCHDOG=1').then(feed), (this.#watchdogMs ?? 0) / pingsInTime)
      this.#timer.unref()
    }
    await this.#send('WATCHDOG=1')
    feed()
  }

  async reloading(): Promise<void> {
    // systemd 253 and later compares it with its own clock
    await this.#send(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
  }

  /** The watchdog is fed until the end: a stop that hangs is ended by TimeoutStopSec, or by it. */
  async stopping(): Promise<void> {
    await this.#send('STOPPING=1\nSTATUS=stopping; pods go on')
  }

  #send(state: string): Promise<void> {
    if (this.#address === '') return Promise.resolve()
    this.#sent = this.#sent.then(() =>
      native.notifyManager(this.#address, state).catch((err: unknown) => {
        this.#log.warn({ err }, 'the service manager cannot be told')
      }),
    )
    return this.#sent
  }
}
