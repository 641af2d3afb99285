// One socket to the server: requests with their replies, messages with their acknowledgements, everything else handed
// on in order. It comes back by itself, with growing pauses, and is bound to the session each time.

import { ApiError, unreachable } from "./errors.js";

// How long a reply may take before the socket counts as dead, in milliseconds. The server gives up after 4 s.
const REPLY_TIMEOUT = 15_000;
// How often a quiet socket is tried.
const PING_EVERY = 25_000;
const PAUSES = [300, 1_000, 2_000, 4_000, 8_000, 15_000];
// The server closed this socket because the device has too many: coming back would push out another tab's.
const TOO_MANY_SOCKETS = 4409;

const address = () => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`;

export class Connection {
  // "connecting", "online", "waiting" (for the next attempt), "paused" (until `resume`) or "stopped".
  state = "stopped";
  #handlers;
  #socket;
  #timer;
  #pinging;
  #failures = 0;
  #waiting = new Map();
  #nextId = 0;

  // `bind(connection)` binds a new socket to the session, `online` follows; `packet` gets every event, `state` is told
  // of changes, `refused` of a session that has ended.
  constructor(handlers) {
    this.#handlers = handlers;
  }

  // One request on a socket of its own, without a session.
  static once(name, payload) {
    return new Promise((resolve, reject) => {
      const connection = new Connection({
        bind: () => {},
        online: () => {
          connection
            .request(name, payload)
            .then(resolve, reject)
            .finally(() => connection.stop());
        },
        packet: () => {},
        state: (state) => {
          if (state !== "waiting") return;
          connection.stop();
          reject(unreachable());
        },
      });
      connection.start();
    });
  }

  start() {
    this.#failures = 0;
    this.#open();
  }

  stop() {
    this.#change("stopped");
    this.#drop();
  }

  // Looks at once whether the connection (still) works, after the computer slept or the network came back.
  wake() {
    if (this.state === "waiting") this.#open();
    if (this.state === "online") this.#ping();
  }

  resume() {
    if (this.state === "paused") this.start();
  }

  // The reply's content; fails with an ApiError.
  request(name, payload) {
    const id = `r${++this.#nextId}`;
    return this.#exchange(id, { request: { [name]: payload, id } });
  }

  // The acknowledgement; fails with an ApiError.
  sendMessage(message) {
    return this.#exchange(`m ${message.id}`, { message });
  }

  // Something that gets no reply.
  tell(packet) {
    if (this.state === "online") this.#socket.send(JSON.stringify(packet));
  }

  #exchange(key, packet) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) return reject(unreachable());
      const socket = this.#socket;
      const timer = setTimeout(() => this.#end(socket), REPLY_TIMEOUT);
      this.#waiting.set(key, { resolve, reject, timer });
      socket.send(JSON.stringify(packet));
    });
  }

  #open() {
    clearTimeout(this.#timer);
    this.#change("connecting");
    const socket = new WebSocket(address());
    this.#socket = socket;
    socket.onopen = () => this.#bind(socket);
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#end(socket, event.code);
    this.#timer = setTimeout(() => this.#end(socket), REPLY_TIMEOUT);
  }

  async #bind(socket) {
    clearTimeout(this.#timer);
    try {
      await this.#handlers.bind(this);
    } catch (error) {
      if (this.#socket !== socket) return;
      if (error.isPassing) return this.#end(socket);
      this.stop();
      return this.#handlers.refused?.(error);
    }
    if (this.#socket !== socket) return;
    this.#failures = 0;
    this.#change("online");
    this.#pinging = setInterval(() => this.#ping(), PING_EVERY);
    this.#handlers.online();
  }

  #ping() {
    // A lost reply ends the socket by itself.
    this.request("ping", {}).catch(() => {});
  }

  #receive(packet) {
    const { response, ask, message } = packet;
    if (response) return this.#settle(response.id, response);
    if (ask) return this.#settle(`m ${ask.mid}`, ask);
    if (message?.error) return this.#settle(`m ${message.id}`, message);
    this.#handlers.packet(packet);
  }

  #settle(key, content) {
    const waiting = this.#waiting.get(key);
    if (!waiting) return;
    this.#waiting.delete(key);
    clearTimeout(waiting.timer);
    if (!content.error) return waiting.resolve(content);
    if (content.error.code === "not_authenticated" && this.state === "online") {
      // Another tab logged out. A new socket finds out whether the session lives.
      waiting.reject(unreachable());
      return this.#end(this.#socket);
    }
    waiting.reject(new ApiError(content.error));
  }

  // The socket is over; the next one comes after a pause.
  #end(socket, code) {
    if (this.#socket !== socket) return;
    this.#drop();
    if (code === TOO_MANY_SOCKETS) return this.#change("paused");
    // At random, so that the clients of a restarted server do not all come back in one moment.
    const pause = PAUSES[Math.min(this.#failures++, PAUSES.length - 1)] * (0.75 + Math.random() / 2);
    this.#timer = setTimeout(() => this.#open(), pause);
    this.#change("waiting");
  }

  #drop() {
    clearTimeout(this.#timer);
    clearInterval(this.#pinging);
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject, timer } of waiting) {
      clearTimeout(timer);
      reject(unreachable());
    }
  }

  #change(state) {
    if (this.state === state) return;
    this.state = state;
    this.#handlers.state?.(state);
  }
}
