// The list of conversations, who is logged in, and how the connection is.

import * as format from "../format.js";
import { $, avatar, h, icon, reconcile } from "./dom.js";

// In short, and what it means for somebody who writes.
const STATES = {
  connecting: ["Connecting…", "Connecting…"],
  online: ["Connected", ""],
  waiting: ["Offline, trying again…", "No connection. What you write is sent as soon as it is back."],
  paused: ["Paused", "This chat is open in too many windows. Click here to go on in this one."],
  stopped: ["Offline", ""],
};

export function titleOf(chat, conversation) {
  if (conversation.type !== "u") return conversation.name;
  return format.displayName(chat.store.users.get(chat.store.peerId(conversation)));
}

export function avatarOf(chat, conversation, size) {
  return avatar(chat.store.peerId(conversation) ?? conversation._id, titleOf(chat, conversation), size);
}

// "Ann is typing…", or nothing.
export function typingText(chat, conversation) {
  if (chat.connection.state !== "online") return "";
  const typists = [...conversation.typing.keys()].map((id) => chat.store.users.get(id)).filter(Boolean);
  if (typists.length === 0) return "";
  if (conversation.type === "u") return "typing…";
  const shown = typists.slice(0, 3).map((user) => user.first_name || format.displayName(user));
  return `${format.names(shown)} ${shown.length === 1 ? "is" : "are"} typing…`;
}

// A message in one line.
export function summary(message) {
  if (!message) return "";
  return message.body?.replace(/\s+/gu, " ") || `Attachment: ${message.attachments?.[0]?.file_name ?? "a file"}`;
}

export class ListView {
  #chat;

  constructor(chat) {
    this.#chat = chat;
    const scroller = $("list-scroll");
    scroller.onscroll = () => {
      const isNearEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 300;
      // A failure shows in the state of the connection, and the next scroll tries again.
      if (isNearEnd) chat.listMore().catch(() => (chat.hasMoreConversations = true));
    };
    const { me } = chat.store;
    $("me-avatar").replaceChildren(avatar(me._id, format.displayName(me)));
    $("me-name").textContent = format.displayName(me);
    $("me-name").title = me.login;
    $("connection").onclick = () => chat.connection.resume();
    $("banner").onclick = () => chat.connection.resume();
  }

  render(openCid) {
    const { store, isListed } = this.#chat;
    const conversations = store.listed();
    reconcile(
      $("list"),
      conversations.map((conversation) => this.#item(conversation, openCid)),
      (item) => this.#build(item),
    );
    $("list-empty").hidden = !isListed || conversations.length > 0;
    this.#renderConnection();
    const unread = store.unreadTotal();
    document.title = unread > 0 ? `(${unread}) SAMA chat` : "SAMA chat";
  }

  #renderConnection() {
    const { state } = this.#chat.connection;
    ["connection", "banner"].forEach((id, index) => {
      const element = $(id);
      if (element.dataset.state === state) return;
      element.dataset.state = state;
      element.textContent = STATES[state][index];
    });
    $("banner").hidden = state === "online";
  }

  #item(conversation, openCid) {
    const { store, outbox } = this.#chat;
    const unsent = outbox.of(conversation._id).at(-1);
    const last = conversation.last_message;
    const isOwn = unsent || last?.from === store.me._id;
    const author = isOwn ? "You" : conversation.type === "u" ? "" : this.#firstName(last?.from);
    return {
      key: conversation._id,
      title: titleOf(this.#chat, conversation),
      avatarId: store.peerId(conversation) ?? conversation._id,
      isOpen: conversation._id === openCid,
      unread: conversation.unread_messages_count,
      typing: typingText(this.#chat, conversation),
      author,
      text: unsent ? unsent.body : summary(last),
      status: unsent ? (unsent.error ? "failed" : "clock") : isOwn ? (last.status === "read" ? "read" : "check") : null,
      time: format.listTime(new Date(unsent?.written_at ?? last?.created_at ?? conversation.created_at)),
    };
  }

  #firstName(id) {
    const user = this.#chat.store.users.get(id);
    return user ? user.first_name || format.displayName(user) : "";
  }

  #build({ key, title, avatarId, isOpen, unread, typing, author, text, status, time }) {
    const preview = typing
      ? h("span", { class: "preview typing-text" }, typing)
      : h("span", { class: "preview" }, author ? h("span", { class: "author" }, `${author}: `) : null, text);
    const count = h("span", { class: "count" }, unread > 999 ? "999+" : String(unread));
    const counted = h("span", {}, count, h("span", { class: "hidden" }, " unread"));
    const link = h(
      "a",
      { href: `#${key}`, class: "row", "aria-current": isOpen ? "page" : null },
      avatar(avatarId, title),
      h("span", { class: "row-text" }, h("span", { class: "row-title" }, title), preview),
      h(
        "span",
        { class: "row-side" },
        h("span", { class: "time" }, status ? icon(status) : null, time),
        unread > 0 ? counted : null,
      ),
    );
    return h("li", { "data-unread": unread }, link);
  }
}
