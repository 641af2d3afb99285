// What a person can do here, in terms of the protocol: the store is kept in step with the server, messages leave the
// outbox in the order they were written, and after every interruption both are put right.

import { Outbox } from "./outbox.js";
import { Sender } from "./sender.js";
import { Connection } from "./socket.js";
import { Store } from "./store.js";
import * as storage from "./storage.js";

const PAGE = 40;
const LIST_PAGE = 30;
const LARGEST_PAGE = 100;
// How many pages are caught up with; someone who was away for longer starts again at the newest one.
const MOST_PAGES = 5;
const TYPING_LASTS_MS = 6_000;
const TYPING_EVERY_MS = 4_000;

export class Chat {
  #session;
  #handlers;
  #sender;
  // Events that came while the list of conversations was on its way; `null` otherwise.
  #held = null;
  #reading = new Map();
  // Where and when this person was last said to be typing.
  #typed = { cid: null, at: 0 };

  // `changed` is called when there is something new to show, `failed` with what a person should know, `ended` when the
  // session is over.
  constructor(session, handlers) {
    this.#session = session;
    this.#handlers = handlers;
    this.store = new Store(session.user, handlers.changed);
    this.outbox = new Outbox(session.user._id, () => this.store.touch());
    // Whether the list of conversations has arrived, and whether there are more of them on the server.
    this.isListed = false;
    this.hasMoreConversations = false;
    this.connection = new Connection({
      bind: (connection) => this.#bind(connection),
      online: () => this.#online(),
      packet: (packet) => (this.#held ? this.#held.push(packet) : this.#apply(packet)),
      state: () => this.store.touch(),
      refused: (error) => handlers.ended(error.message),
    });
    this.#sender = new Sender(this.connection, this.outbox, {
      accepted: (entry, ask) => this.#accepted(entry, ask),
      lookFor: (entry) => this.#catchUpWith(entry.cid, entry.after, Infinity),
      changed: () => this.store.touch(),
    });
  }

  start() {
    this.connection.start();
  }

  async logOut() {
    await this.#session.logOut();
    this.connection.stop();
    this.outbox.clear();
  }

  async #bind(connection) {
    // From here on events may come, before the list that they change.
    this.#held = [];
    try {
      await connection.request("connect", await this.#session.credentials());
    } catch (error) {
      if (error.code !== "session_token_expired") throw error;
      await this.#session.renew();
      await connection.request("connect", await this.#session.credentials());
    }
  }

  async #online() {
    this.#reading.clear();
    try {
      await this.#listConversations();
      this.#release();
      await this.#catchUp();
    } catch (error) {
      this.#release();
      this.#tell(error);
    }
    this.#sender.takeAll();
  }

  #release() {
    const held = this.#held ?? [];
    this.#held = null;
    for (const packet of held) this.#apply(packet);
    this.store.touch();
  }

  #tell(error) {
    // A broken connection is shown as such, and what it interrupted is repeated.
    if (error.status !== 0) this.#handlers.failed(error.message);
  }

  // As many of the newest conversations as are known, at least a page. What is missing among them has gone.
  async #listConversations() {
    const limit = Math.min(Math.max(this.store.conversations.size, LIST_PAGE), LARGEST_PAGE);
    const { conversations } = await this.connection.request("conversation_list", { limit });
    const isComplete = conversations.length < limit;
    const border = conversations.at(-1)?.updated_at ?? "";
    const listed = new Set(conversations.map(({ _id }) => _id));
    for (const { _id, updated_at } of this.store.listed()) {
      if (!listed.has(_id) && (isComplete || updated_at > border)) this.store.removeConversation(_id);
    }
    conversations.forEach((conversation) => this.store.putConversation(conversation));
    this.isListed = true;
    this.hasMoreConversations = !isComplete;
    await this.#learnMembers([...listed]);
  }

  async listMore() {
    if (!this.hasMoreConversations) return;
    this.hasMoreConversations = false;
    const lt = this.store.listed().at(-1)?.updated_at;
    const answer = await this.connection.request("conversation_list", { limit: LIST_PAGE, updated_at: { lt } });
    answer.conversations.forEach((conversation) => this.store.putConversation(conversation));
    this.hasMoreConversations = answer.conversations.length >= LIST_PAGE;
    await this.#learnMembers(answer.conversations.map(({ _id }) => _id));
  }

  async #learnMembers(cids) {
    if (cids.length === 0) return;
    const { users, conversations } = await this.connection.request("get_participants_by_cids", { cids });
    this.store.putUsers(users);
    this.store.putMembers(conversations);
  }

  // One conversation as the server lists it, if it does.
  async learn(cid) {
    const { conversations } = await this.connection.request("conversation_list", { ids: [cid] });
    conversations.forEach((conversation) => this.store.putConversation(conversation));
    await this.#learnMembers([cid]);
  }

  // Authors who are no members any more.
  async #learnAuthors(messages) {
    const unknown = new Set(messages.map(({ from }) => from).filter((id) => !this.store.users.has(id)));
    if (unknown.size === 0) return;
    const { users } = await this.connection.request("get_users_by_ids", { ids: [...unknown] });
    this.store.putUsers(users);
  }

  // What happened in the loaded histories while there was no connection.
  async #catchUp() {
    for (const { _id: cid, thread } of this.store.listed()) {
      if (!thread) continue;
      if (!thread.syncedTo || !(await this.#catchUpWith(cid, thread.syncedTo, MOST_PAGES))) {
        this.store.dropThread(cid);
        await this.load(cid);
      }
    }
  }

  // False when that is too much.
  async #catchUpWith(cid, from, mostPages) {
    for (let page = 0; page < mostPages; page += 1) {
      const messages = await this.#page(cid, { limit: LARGEST_PAGE, updated_at: { gt: from } });
      if (this.store.conversations.get(cid)?.thread) this.store.putPage(cid, messages);
      if (messages.length < LARGEST_PAGE) return true;
      from = messages.reduce((latest, { updated_at }) => (updated_at > latest ? updated_at : latest), "");
    }
    return false;
  }

  async #page(cid, filter) {
    const { messages } = await this.connection.request("message_list", { cid, ...filter });
    for (const message of messages) this.#settle(message);
    await this.#learnAuthors(messages);
    return messages;
  }

  // The newest page of a history, unless it is there.
  async load(cid) {
    if (this.store.conversations.get(cid)?.thread) return;
    const messages = await this.#page(cid, { limit: PAGE });
    this.store.putPage(cid, messages, { hasOlder: messages.length >= PAGE });
    await this.#learnQuoted(cid, messages);
  }

  async loadOlder(cid) {
    const thread = this.store.conversations.get(cid)?.thread;
    if (!thread?.hasOlder || thread.isLoading) return;
    thread.isLoading = true;
    this.store.touch();
    try {
      const messages = await this.#page(cid, { limit: PAGE, updated_at: { lt: thread.oldest()?.created_at } });
      this.store.putPage(cid, messages, { hasOlder: messages.length >= PAGE });
      await this.#learnQuoted(cid, messages);
    } finally {
      thread.isLoading = false;
      this.store.touch();
    }
  }

  // The messages that these reply to, where they are not loaded. What is not answered is gone, or hidden.
  async #learnQuoted(cid, messages) {
    const conversation = this.store.conversations.get(cid);
    if (!conversation) return;
    const { quoted } = conversation;
    const wanted = messages.map((message) => message.replied_message_id);
    const ids = [...new Set(wanted.filter((id) => id && !quoted.has(id) && !conversation.thread?.messages.has(id)))];
    if (ids.length === 0) return;
    for (const message of await this.#page(cid, { ids })) quoted.set(message._id, message);
    for (const id of ids) if (!quoted.has(id)) quoted.set(id, null);
    this.store.touch();
  }

  // Writes a message; it is sent as soon as there is a connection.
  send(cid, body, repliedMessageId) {
    const conversation = this.store.conversations.get(cid);
    const entry = {
      id: storage.newId(),
      cid,
      body,
      replied_message_id: repliedMessageId,
      written_at: Date.now(),
      after: conversation.last_message?.created_at ?? conversation.created_at,
    };
    if (!this.outbox.put(entry)) this.#handlers.failed("This browser is full: unsent messages are lost on reload.");
    this.#typed.at = 0;
    this.store.touch();
    this.#sender.take(entry.id);
  }

  retry(id) {
    const { error: _, ...entry } = this.outbox.get(id);
    this.outbox.put(entry);
    this.store.touch();
    this.#sender.take(id);
  }

  discard(id) {
    this.outbox.remove(id);
    this.store.touch();
  }

  #accepted({ id, cid, body, replied_message_id }, { server_mid: _id, t, created_at, modified }) {
    const from = this.store.me._id;
    const stored = { _id, cid, from, t, body, replied_message_id, x: { mid: id }, created_at, updated_at: created_at };
    this.#arrived({ ...stored, ...modified });
  }

  #arrived(message) {
    this.#settle(message);
    this.store.putMessage(message);
  }

  // A message of the outbox that came back, in whatever way, has been sent.
  #settle(message) {
    if (message.from === this.store.me._id && message.x?.mid) this.outbox.remove(message.x.mid);
  }

  async #apply(packet) {
    try {
      if (packet.message) await this.#onMessage(packet.message);
      else if (packet.system_message) await this.#onSystemMessage(packet.system_message);
      else if (packet.message_read) this.store.putRead(packet.message_read.cid, packet.message_read.ids);
      else if (packet.typing) this.#onTyping(packet.typing);
      else if (packet.event) this.#onOwnEvent(packet.event);
    } catch (error) {
      this.#tell(error);
    }
  }

  async #onMessage(message) {
    this.#arrived(message);
    // Not known here: too old to be listed so far, or new. The server's list has the message, too.
    if (!this.store.conversations.has(message.cid)) await this.learn(message.cid);
    await this.#learnAuthors([message]);
    await this.#learnQuoted(message.cid, [message]);
  }

  async #onSystemMessage({ x = {} }) {
    const shown = x.conversation_created ?? x.conversation_updated;
    if (shown) {
      this.store.putConversation(shown);
      await this.#learnMembers([shown._id]);
    } else if (x.conversation_kicked) {
      this.store.removeConversation(x.conversation_kicked._id);
    }
  }

  #onTyping({ cid, from, type }) {
    if (type === "stop") return this.store.setTyping(cid, from, null);
    const until = Date.now() + TYPING_LASTS_MS;
    this.store.setTyping(cid, from, until);
    setTimeout(() => {
      const isLatest = this.store.conversations.get(cid)?.typing.get(from) === until;
      if (isLatest) this.store.setTyping(cid, from, null);
    }, TYPING_LASTS_MS);
  }

  // What this user did in another tab or on another device.
  #onOwnEvent({ message_read, conversation_deleted }) {
    if (message_read) this.store.putUnread(message_read.cid, message_read.unread_messages_count);
    if (conversation_deleted) this.store.removeConversation(conversation_deleted._id);
  }

  // The person sees the newest messages of this conversation.
  async markRead(cid) {
    const conversation = this.store.conversations.get(cid);
    if (!conversation || conversation.type === "c" || conversation.unread_messages_count === 0) return;
    if (this.connection.state !== "online" || this.#held || this.#reading.get(cid)) return;
    this.#reading.set(cid, true);
    try {
      this.store.putUnread(cid, 0);
      await this.connection.request("message_read", { cid });
    } catch (error) {
      this.#tell(error);
    } finally {
      this.#reading.delete(cid);
    }
    // What came meanwhile.
    await this.markRead(cid);
  }

  typed(cid) {
    const now = Date.now();
    if (this.#typed.cid === cid && now - this.#typed.at < TYPING_EVERY_MS) return;
    this.#typed = { cid, at: now };
    this.connection.tell({ typing: { cid, type: "start" } });
  }

  async searchUsers(keyword) {
    const { users } = await this.connection.request("user_search", { keyword, limit: 30 });
    this.store.putUsers(users);
    return users;
  }

  // Both return the conversation's id.
  startPrivate(userId) {
    return this.#create({ type: "u", participants: [userId] });
  }

  startGroup(name, userIds) {
    return this.#create({ type: "g", name, participants: userIds });
  }

  async leave(cid) {
    await this.connection.request("conversation_delete", { id: cid });
    this.store.removeConversation(cid);
  }

  async #create(payload) {
    const { conversation } = await this.connection.request("conversation_create", payload);
    this.store.putConversation(conversation);
    await this.learn(conversation._id);
    return conversation._id;
  }
}
