// Messages that are written and not yet acknowledged. They outlive the page: each lies in this browser under a key of
// its own, so that several tabs cannot overwrite each other's.
//
// An entry: id (the client's own, also in `x.mid`, by which the message is recognised wherever it comes back), cid,
// body, replied_message_id, written_at, after (the newest stamp known in the conversation then), tried_at (when it was
// first sent, if it was), error (why the server refused it, if it did). Times of this browser are in Unix milliseconds.

import * as storage from "./storage.js";

export class Outbox {
  #prefix;
  #entries = new Map();

  constructor(userId, onChange) {
    this.#prefix = `sama.outbox.${userId}.`;
    for (const key of storage.keys(this.#prefix)) this.#read(key);
    storage.onChange(this.#prefix, (key) => {
      if (key === null) this.#entries.clear();
      else this.#read(key);
      onChange();
    });
  }

  // The oldest first.
  all() {
    return [...this.#entries.values()].sort((a, b) => a.written_at - b.written_at || (a.id < b.id ? -1 : 1));
  }

  get(id) {
    return this.#entries.get(id);
  }

  of(cid) {
    return this.all().filter((entry) => entry.cid === cid);
  }

  // False when it lives in this tab only, because the browser has no room.
  put(entry) {
    this.#entries.set(entry.id, entry);
    return storage.set(this.#prefix + entry.id, JSON.stringify(entry));
  }

  remove(id) {
    this.#entries.delete(id);
    storage.remove(this.#prefix + id);
  }

  clear() {
    for (const id of [...this.#entries.keys()]) this.remove(id);
  }

  #read(key) {
    const id = key.slice(this.#prefix.length);
    try {
      const entry = JSON.parse(storage.get(key));
      if (typeof entry?.cid === "string" && typeof entry.body === "string") {
        this.#entries.set(id, { ...entry, id });
        return;
      }
    } catch {
      // Not ours, or damaged.
    }
    this.#entries.delete(id);
  }
}
