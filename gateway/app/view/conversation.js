// The open conversation: its head, its messages, who types, and the composer.

import * as format from "../format.js";
import { $, h, icon, reconcile, toast } from "./dom.js";
import { avatarOf, titleOf, typingText } from "./list.js";
import { buildRow, quote, quoteContent, rows } from "./messages.js";

// This close to the end, in pixels, the newest message counts as seen, and new ones are followed.
const NEAR_END = 60;
// This close to the beginning older messages are fetched.
const NEAR_START = 300;

export class ConversationView {
  #chat;
  #cid = null;
  #firstKey = null;
  #followsEnd = true;
  // Where following has put the scroll position. Further up, a person has moved it.
  #endTop = 0;
  #lastSeenKey = null;
  #drafts = new Map();
  #replies = new Map();
  // Whether older messages could not be had; the next scroll tries again.
  #isStuck = false;
  // Whose history is on its way, or could not be had.
  #loading = null;
  // What was asked for last and is no conversation of this person's, as far as is known.
  #unknown = null;

  constructor(chat) {
    this.#chat = chat;
    const log = $("log");
    log.onscroll = () => this.#scrolled();
    log.onkeydown = (event) => this.#logKey(event);
    new ResizeObserver(() => this.#followsEnd && this.#toEnd()).observe(log);
    $("to-latest").onclick = () => {
      this.#toEnd();
      chat.store.touch();
      $("composer-text").focus();
    };
    $("composer").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    const text = $("composer-text");
    text.onkeydown = (event) => this.#composerKey(event);
    text.oninput = () => {
      if (text.value) chat.typed(this.#cid);
      this.#fitComposer();
    };
    $("quoting-cancel").onclick = () => this.#reply(null);
    addEventListener("focus", () => this.#see());
    document.addEventListener("visibilitychange", () => this.#see());
  }

  get cid() {
    return this.#cid;
  }

  // Shows this conversation, or none.
  open(cid) {
    if (this.#cid) this.#drafts.set(this.#cid, $("composer-text").value);
    this.#cid = cid;
    this.#loading = null;
    this.#isStuck = false;
    this.#endTop = 0;
    this.#firstKey = null;
    this.#followsEnd = true;
    this.#lastSeenKey = null;
    $("messages").replaceChildren();
    $("composer-text").value = this.#drafts.get(cid) ?? "";
    this.render();
    this.#fitComposer();
    // On a touch screen the keyboard would cover what one came to read.
    if (cid && !matchMedia("(pointer: coarse)").matches) $("composer-text").focus();
  }

  render() {
    const conversation = this.#chat.store.conversations.get(this.#cid);
    $("nothing-open").hidden = Boolean(conversation);
    $("conversation").hidden = !conversation;
    document.body.classList.toggle("is-open", Boolean(conversation));
    if (!conversation) return this.#learn();
    this.#renderHead(conversation);
    this.#renderQuoting(conversation);
    if (conversation.thread) this.#renderMessages(conversation);
    else this.#load();
    this.#renderNote(conversation);
    this.#see();
  }

  #renderHead(conversation) {
    const { store } = this.#chat;
    const title = titleOf(this.#chat, conversation);
    if ($("conversation-title").textContent !== title) {
      $("conversation-title").textContent = title;
      $("conversation-avatar").replaceChildren(avatarOf(this.#chat, conversation));
    }
    const members = conversation.members.filter((id) => id !== store.me._id);
    const peer = store.users.get(store.peerId(conversation));
    const subtitle =
      conversation.type === "u"
        ? (peer?.login ?? "")
        : format.names(["You", ...members.map((id) => format.displayName(store.users.get(id)))]);
    $("conversation-subtitle").textContent = subtitle;
    const typing = typingText(this.#chat, conversation);
    const shown = typing && conversation.type === "u" ? `${title} is ${typing}` : typing;
    if ($("typing").textContent !== shown) $("typing").textContent = shown;
  }

  #renderMessages(conversation) {
    const log = $("log");
    if (log.scrollTop < this.#endTop) this.#followsEnd = this.#isNearEnd();
    const fromEnd = log.scrollHeight - log.scrollTop;
    const items = rows(this.#chat, conversation);
    // A day's row may stay the first one, whatever comes in below it.
    const firstKey = items.find((row) => row.kind !== "day")?.key ?? null;
    reconcile($("messages"), items, (row) => buildRow(row, this.#actions));
    if (this.#followsEnd) this.#toEnd();
    // Older ones came in above: what is being read stays where it is.
    else if (firstKey !== this.#firstKey) log.scrollTop = log.scrollHeight - fromEnd;
    this.#firstKey = firstKey;
    this.#renderToLatest(items);
    if (log.scrollTop < NEAR_START) this.#loadOlder();
  }

  #renderToLatest(items) {
    const received = items.filter((row) => row.kind === "message");
    if (this.#followsEnd) this.#lastSeenKey = received.at(-1)?.key ?? null;
    const unseen = received.length - 1 - received.findIndex((row) => row.key === this.#lastSeenKey);
    const button = $("to-latest");
    button.hidden = this.#followsEnd;
    if (button.hidden) return;
    const label = unseen > 0 ? `${unseen} new` : "";
    button.replaceChildren(...(label ? [label, icon("down")] : [icon("down")]));
    button.setAttribute("aria-label", label ? `${label}, go to the newest messages` : "Go to the newest messages");
  }

  #renderNote({ thread }) {
    const note = $("log-note");
    const isEmpty = thread?.messages.size === 0 && this.#chat.outbox.of(this.#cid).length === 0;
    const text = !thread || thread.isLoading ? "Loading…" : isEmpty ? "No messages yet. Say hello!" : "";
    if (note.textContent !== text) note.textContent = text;
    note.hidden = !text;
  }

  #renderQuoting(conversation) {
    const id = this.#replies.get(this.#cid);
    $("quoting").hidden = !id;
    if (id) $("quoting-text").replaceChildren(...quoteContent(quote(this.#chat, conversation, id)));
  }

  // It may be one that is too old to be listed so far.
  async #learn() {
    const { isListed, connection } = this.#chat;
    const cid = this.#cid;
    if (!cid || cid === this.#unknown || !isListed || connection.state !== "online") return;
    this.#unknown = cid;
    await this.#chat.learn(cid).catch((error) => error.status !== 0 && toast(error.message));
  }

  async #load() {
    const cid = this.#cid;
    if (this.#loading === cid || this.#chat.connection.state !== "online") return;
    this.#loading = cid;
    try {
      await this.#chat.load(cid);
    } catch (error) {
      // Without a connection it is tried when there is one, otherwise when the conversation is opened again.
      if (error.status !== 0) return toast(error.message);
    }
    if (this.#loading === cid) this.#loading = null;
  }

  async #loadOlder() {
    if (this.#chat.connection.state !== "online" || this.#isStuck) return;
    try {
      await this.#chat.loadOlder(this.#cid);
    } catch (error) {
      this.#isStuck = true;
      if (error.status !== 0) toast(error.message);
    }
  }

  #scrolled() {
    const log = $("log");
    const follows = this.#isNearEnd();
    if (follows !== this.#followsEnd) {
      this.#followsEnd = follows;
      this.#chat.store.touch();
    }
    this.#isStuck = false;
    if (log.scrollTop < NEAR_START) this.#loadOlder();
  }

  #isNearEnd() {
    const log = $("log");
    return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
  }

  #toEnd() {
    const log = $("log");
    this.#followsEnd = true;
    log.scrollTop = log.scrollHeight;
    this.#endTop = log.scrollTop;
  }

  // Tells the server what has been seen: only what is in front of a person.
  #see() {
    const isLooking = document.visibilityState === "visible" && document.hasFocus();
    if (this.#cid && isLooking && this.#followsEnd) this.#chat.markRead(this.#cid);
  }

  #actions = {
    reply: (id) => this.#reply(id),
    showQuoted: (id) => this.#showQuoted(id),
    retry: (id) => this.#chat.retry(id),
    discard: (id) => this.#chat.discard(id),
  };

  #reply(id) {
    if (id) this.#replies.set(this.#cid, id);
    else this.#replies.delete(this.#cid);
    this.render();
    $("composer-text").focus();
  }

  #showQuoted(id) {
    const element = $("messages").querySelector(`[data-id="${CSS.escape(id)}"]`);
    if (!element) return toast("That message is further up.");
    element.scrollIntoView({ block: "center" });
    element.focus({ preventScroll: true });
  }

  #send() {
    const text = $("composer-text");
    const body = text.value.trim();
    if (!body) return;
    this.#followsEnd = true;
    this.#chat.send(this.#cid, body, this.#replies.get(this.#cid));
    this.#replies.delete(this.#cid);
    text.value = "";
    this.#fitComposer();
    text.focus();
  }

  #fitComposer() {
    const text = $("composer-text");
    $("composer-send").disabled = !text.value.trim();
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  }

  #composerKey(event) {
    // Enter that only ends a composed character is none.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "Escape" && this.#replies.has(this.#cid)) {
      event.stopPropagation();
      this.#reply(null);
    } else if (event.key === "ArrowUp" && !$("composer-text").value) {
      event.preventDefault();
      this.#focusMessage(-1);
    }
  }

  // The arrows walk through the messages, Enter replies, Escape goes back to writing.
  #logKey(event) {
    if (event.target.closest("button, a")) return;
    const current = event.target.closest(".message");
    const all = [...$("messages").querySelectorAll(".message")];
    const index = all.indexOf(current);
    if (event.key === "Escape") $("composer-text").focus();
    else if (!current && event.key === "ArrowUp") this.#focusMessage(-1);
    else if (current && event.key === "ArrowUp" && index > 0) all[index - 1].focus();
    else if (current && event.key === "ArrowDown") (all[index + 1] ?? $("composer-text")).focus();
    else if (current?.dataset.id && event.key === "Enter") this.#reply(current.dataset.id);
    else return;
    event.preventDefault();
  }

  #focusMessage(position) {
    [...$("messages").querySelectorAll(".message")].at(position)?.focus();
  }
}
