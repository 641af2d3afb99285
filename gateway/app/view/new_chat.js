// The dialog that finds people and begins a private conversation or a group with them.

import * as format from "../format.js";
import { $, avatar, h, icon, reconcile } from "./dom.js";

// How long a keyword rests before it is searched for, in milliseconds.
const REST = 200;

export class NewChatDialog {
  #chat;
  #opened;
  #chosen = new Map();
  #found = [];
  #timer;
  #search = 0;

  // `opened` gets the id of the conversation.
  constructor(chat, opened) {
    this.#chat = chat;
    this.#opened = opened;
    const form = this.#form;
    $("new-chat-close").onclick = () => $("new-chat").close();
    form.keyword.oninput = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#find(), REST);
    };
    for (const kind of form.kind) kind.onchange = () => this.#render();
    form["group-name"].oninput = () => this.#render();
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#submit();
    };
    // A click beside the dialog closes it.
    $("new-chat").addEventListener("click", (event) => event.target === $("new-chat") && $("new-chat").close());
  }

  get #form() {
    return $("new-chat-form");
  }

  get #isGroup() {
    return this.#form.kind.value === "g";
  }

  show() {
    this.#form.reset();
    this.#chosen.clear();
    this.#found = [];
    this.#search += 1;
    this.#hint("");
    $("new-chat-error").textContent = "";
    this.#render();
    $("new-chat").showModal();
    this.#form.keyword.focus();
  }

  #hint(text) {
    $("found-hint").textContent = text;
  }

  async #find() {
    const search = ++this.#search;
    const keyword = this.#form.keyword.value.trim();
    try {
      const found = keyword ? await this.#chat.searchUsers(keyword) : [];
      // A later search has begun.
      if (search !== this.#search) return;
      this.#found = found;
      this.#hint(keyword && found.length === 0 ? "Nobody by that name." : "");
    } catch (error) {
      if (search === this.#search) this.#hint(error.message);
    }
    this.#render();
  }

  #render() {
    const isGroup = this.#isGroup;
    $("group-name-field").hidden = !isGroup;
    $("group-create").hidden = !isGroup;
    $("group-create").disabled = this.#chosen.size === 0 || !this.#form["group-name"].value.trim();
    $("chosen").hidden = !isGroup || this.#chosen.size === 0;
    const chosen = Array.from(this.#chosen, ([key, user]) => ({ key, name: format.displayName(user) }));
    reconcile($("chosen"), chosen, (item) => this.#buildChip(item));
    const found = this.#found.map((user) => ({
      key: user._id,
      name: format.displayName(user),
      login: user.login,
      isChosen: isGroup && this.#chosen.has(user._id),
      isGroup,
    }));
    reconcile($("found"), found, (item) => this.#buildFound(item));
  }

  #buildChip({ key, name }) {
    const remove = () => this.#toggle(key);
    return h(
      "li",
      {},
      h("button", { type: "button", "aria-label": `Remove ${name}`, onclick: remove }, name, icon("close")),
    );
  }

  #buildFound({ key, name, login, isChosen, isGroup }) {
    const pick = () => (isGroup ? this.#toggle(key) : this.#begin(() => this.#chat.startPrivate(key)));
    const text = h(
      "span",
      { class: "row-text" },
      h("span", { class: "row-title" }, name),
      h("span", { class: "preview" }, login),
    );
    const button = h(
      "button",
      { type: "button", class: "row", "aria-pressed": isGroup ? String(isChosen) : null, onclick: pick },
      avatar(key, name),
      text,
      isChosen ? icon("check") : null,
    );
    return h("li", {}, button);
  }

  #toggle(id) {
    if (!this.#chosen.delete(id)) this.#chosen.set(id, this.#chat.store.users.get(id));
    this.#render();
  }

  #submit() {
    const name = this.#form["group-name"].value.trim();
    if (this.#isGroup && name && this.#chosen.size > 0) {
      this.#begin(() => this.#chat.startGroup(name, [...this.#chosen.keys()]));
    } else if (!this.#isGroup && this.#found.length === 1) {
      this.#begin(() => this.#chat.startPrivate(this.#found[0]._id));
    }
  }

  async #begin(create) {
    try {
      const cid = await create();
      $("new-chat").close();
      this.#opened(cid);
    } catch (error) {
      $("new-chat-error").textContent = error.message;
    }
  }
}
