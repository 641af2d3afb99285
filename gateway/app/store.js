// What the page knows: users, conversations and the loaded part of their histories. It takes what the server says, in
// any order and any number of times, and keeps each thing once. It sends nothing.

const order = (a, b) => (a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : a._id < b._id ? -1 : 1);
const isNewer = (a, b) => !b || order(a, b) > 0;

// A loaded, gapless piece of a history that ends with the newest message.
class Thread {
  messages = new Map();
  // Whether the server has older ones.
  hasOlder = true;
  // Up to where edits and new messages have been taken over.
  syncedTo = null;

  sorted() {
    return [...this.messages.values()].sort(order);
  }

  oldest() {
    return this.sorted()[0];
  }

  // Message objects without `status` keep the one that is known.
  put(message) {
    const known = this.messages.get(message._id);
    const status = known?.status === "read" ? "read" : (message.status ?? known?.status);
    this.messages.set(message._id, { ...known, ...message, status });
    if (!this.syncedTo || message.updated_at > this.syncedTo) this.syncedTo = message.updated_at;
  }
}

// What a conversation has beside the server's fields: its members' ids, who types until when, the loaded history, and
// messages out of it that others reply to (`null`: gone).
const blank = () => ({ unread_messages_count: 0, members: [], typing: new Map(), thread: null, quoted: new Map() });

export class Store {
  users = new Map();
  conversations = new Map();
  #changed;
  #scheduled = false;

  constructor(me, changed) {
    this.me = me;
    this.users.set(me._id, me);
    this.#changed = changed;
  }

  // Tells whoever shows this, once for all changes of one turn.
  touch() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#changed();
    });
  }

  putUsers(users) {
    for (const user of users) this.users.set(user._id, { ...this.users.get(user._id), ...user });
    this.touch();
  }

  // Takes a conversation object; fields that are absent in it keep their values.
  putConversation(object) {
    const known = this.conversations.get(object._id);
    const conversation = { ...(known ?? blank()), ...object };
    if (object.participants) conversation.members = object.participants;
    if (known?.last_message && isNewer(known.last_message, object.last_message)) {
      // Events have told more than the server knew when it wrote this.
      conversation.last_message = known.last_message;
      conversation.unread_messages_count = known.unread_messages_count;
    }
    if (known && known.updated_at > conversation.updated_at) conversation.updated_at = known.updated_at;
    this.conversations.set(conversation._id, conversation);
    this.touch();
  }

  removeConversation(id) {
    this.conversations.delete(id);
    this.touch();
  }

  putMembers(members) {
    for (const [id, ids] of Object.entries(members)) {
      const conversation = this.conversations.get(id);
      if (conversation) conversation.members = ids;
    }
    this.touch();
  }

  // The most recently active first.
  listed() {
    return [...this.conversations.values()].sort((a, b) =>
      a.updated_at !== b.updated_at ? (a.updated_at < b.updated_at ? 1 : -1) : a._id < b._id ? 1 : -1,
    );
  }

  unreadTotal() {
    return this.listed().reduce((total, { unread_messages_count: count }) => total + count, 0);
  }

  // The other member of a private conversation.
  peerId(conversation) {
    if (conversation.type !== "u") return null;
    return conversation.owner_id === this.me._id ? conversation.opponent_id : conversation.owner_id;
  }

  // A page of history, or what is new since.
  putPage(cid, messages, { hasOlder } = {}) {
    const conversation = this.conversations.get(cid);
    if (!conversation) return;
    conversation.thread ??= new Thread();
    if (hasOlder !== undefined) conversation.thread.hasOlder = hasOlder;
    for (const message of messages) conversation.thread.put(message);
    if (messages.length > 0) this.#putLast(conversation, messages[0]);
    this.touch();
  }

  // Forgets the loaded history, which then has to be loaded anew.
  dropThread(cid) {
    const conversation = this.conversations.get(cid);
    if (conversation) conversation.thread = null;
  }

  // A message that has just been sent, by whomever. What a conversation's last message tells is counted already.
  putMessage(message) {
    const conversation = this.conversations.get(message.cid);
    if (!conversation) return;
    const isMine = message.from === this.me._id;
    if (isMine) message = { status: "sent", ...message };
    else if (isNewer(message, conversation.last_message) && conversation.type !== "c") {
      conversation.unread_messages_count += 1;
    }
    conversation.thread?.put(message);
    this.#putLast(conversation, message);
    if (message.created_at > conversation.updated_at) conversation.updated_at = message.created_at;
    this.setTyping(message.cid, message.from, null);
    this.touch();
  }

  #putLast(conversation, message) {
    if (isNewer(message, conversation.last_message)) conversation.last_message = message;
  }

  // Somebody else has read these of the conversation's messages.
  putRead(cid, ids) {
    const conversation = this.conversations.get(cid);
    if (!conversation) return;
    for (const id of ids) {
      const message = conversation.thread?.messages.get(id);
      if (message) conversation.thread.messages.set(id, { ...message, status: "read" });
      if (conversation.last_message?._id === id) {
        conversation.last_message = { ...conversation.last_message, status: "read" };
      }
    }
    this.touch();
  }

  putUnread(cid, count) {
    const conversation = this.conversations.get(cid);
    if (!conversation) return;
    conversation.unread_messages_count = count;
    this.touch();
  }

  // Somebody types, until the time in Unix milliseconds; `null`: no longer.
  setTyping(cid, userId, until) {
    const typing = this.conversations.get(cid)?.typing;
    if (!typing || (until === null && !typing.has(userId))) return;
    if (until === null) typing.delete(userId);
    else typing.set(userId, until);
    this.touch();
  }
}
