// Takes messages from the outbox to the server, in the order they were written and one after another, so that none
// overtakes another. What another tab wrote is that tab's to send; after a break every tab sends everything, since that
// tab may be gone, and the server knows the doubles by their ids.

// The server recognises a message that is sent again within 15 minutes. Later the history is asked first.
const RESEND_SAFE_MS = 10 * 60_000;
const RETRY_MS = 2_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Sender {
  #connection;
  #outbox;
  #handlers;
  #ours = new Set();
  #isRunning = false;

  // `accepted(entry, ask)` takes what the server acknowledged, `lookFor(entry)` reads the history from when the entry
  // was written on, and thereby empties the outbox of what is found there; `changed` is told of refusals.
  constructor(connection, outbox, handlers) {
    this.#connection = connection;
    this.#outbox = outbox;
    this.#handlers = handlers;
  }

  // Makes this message this tab's business.
  take(id) {
    this.#ours.add(id);
    this.#run();
  }

  takeAll() {
    for (const { id } of this.#outbox.all()) this.#ours.add(id);
    this.#run();
  }

  async #run() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (;;) {
      const entry = this.#outbox.all().find(({ id, error }) => this.#ours.has(id) && !error);
      if (!entry || this.#connection.state !== "online") break;
      try {
        await this.#deliver(entry);
      } catch (error) {
        // Without a connection it stays where it is, until there is one.
        if (error.status === 0) break;
        if (error.isPassing) await pause(RETRY_MS);
        else this.#refused(entry, error);
      }
    }
    this.#isRunning = false;
  }

  async #deliver(entry) {
    const isOld = entry.tried_at && Date.now() - entry.tried_at > RESEND_SAFE_MS;
    if (isOld) await this.#handlers.lookFor(entry);
    if (!this.#outbox.get(entry.id)) return;
    const { id, cid, body, replied_message_id } = entry;
    this.#outbox.put({ ...entry, tried_at: entry.tried_at ?? Date.now() });
    const ask = await this.#connection.sendMessage({ id, cid, body, replied_message_id, x: { mid: id } });
    this.#handlers.accepted(entry, ask);
  }

  #refused(entry, error) {
    if (!this.#outbox.get(entry.id)) return;
    this.#outbox.put({ ...entry, error: error.message });
    this.#handlers.changed();
  }
}
