// A history as rows to show: days, notices, and messages with their quotes and states; and these rows as elements.

import * as format from "../format.js";
import { avatar, h, icon } from "./dom.js";
import { summary } from "./list.js";

const SERVICE_TYPES = new Set(["added_participant", "removed_participant", "left_participants", "update_image"]);
// Messages of one author closer than this stand together, in milliseconds.
const TOGETHER_MS = 5 * 60_000;
const LINK = /https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]]/giu;

const STATUS = {
  sending: ["clock", "Sending"],
  sent: ["check", "Sent"],
  read: ["read", "Read"],
  failed: ["failed", "Not sent"],
};

// The rows of a conversation: plain data, each with a key.
export function rows(chat, conversation) {
  const { store } = chat;
  const messages = conversation.thread.sorted();
  const arrived = new Set(messages.map((message) => message.from === store.me._id && message.x?.mid));
  const unsent = chat.outbox.of(conversation._id).filter(({ id }) => !arrived.has(id));
  const result = [];
  const keys = new Set();
  // The day, time and row of the one before.
  let previous = null;
  for (const message of [...messages, ...unsent.map((entry) => asMessage(entry, store.me._id))]) {
    const date = new Date(message.created_at);
    const day = format.dayKey(date);
    if (previous?.day !== day) result.push({ key: `day ${day}`, kind: "day", text: format.dayName(date) });
    if (SERVICE_TYPES.has(message.x?.type)) {
      result.push({ key: message._id, kind: "notice", text: message.body });
      previous = { day };
      continue;
    }
    const isTogether =
      previous?.day === day && previous.row?.from === message.from && date - previous.date < TOGETHER_MS;
    if (isTogether) previous.row.className = previous.row.className.replace(" last", "");
    const row = messageRow(chat, conversation, message, date);
    row.className = `message ${row.isOwn ? "own" : ""} ${row.error ? "failed" : ""} ${isTogether ? "" : "first"} last`;
    // Should the server ever have a message twice, it is shown twice.
    if (keys.has(row.key)) row.key = message._id;
    keys.add(row.key);
    result.push(row);
    previous = { day, date, row };
  }
  return result;
}

// An unsent message in the form of the others.
function asMessage({ id, cid, body, replied_message_id, written_at, error }, from) {
  const status = error ? "failed" : "sending";
  return { _id: null, cid, from, body, replied_message_id, created_at: written_at, x: { mid: id }, status, error };
}

function messageRow(chat, conversation, message, date) {
  const { store } = chat;
  const isOwn = message.from === store.me._id;
  const name = format.displayName(store.users.get(message.from));
  return {
    // An own message keeps its row when it has arrived.
    key: (isOwn && message.x?.mid) || message._id,
    kind: "message",
    id: message._id,
    from: message.from,
    name,
    isOwn,
    showsAuthor: !isOwn && conversation.type !== "u",
    body: message.body ?? "",
    attachments: (message.attachments ?? []).map((attachment) => String(attachment.file_name ?? "a file")),
    quote: message.replied_message_id ? quote(chat, conversation, message.replied_message_id) : null,
    time: format.clock(date),
    fullTime: format.fullTime(date),
    isEdited: message.updated_at !== undefined && message.updated_at !== message.created_at,
    status: isOwn ? message.status : null,
    error: message.error ?? null,
  };
}

export function quote(chat, conversation, id) {
  const message = conversation.thread?.messages.get(id) ?? conversation.quoted?.get(id);
  if (message === undefined) return { id, name: "", text: "…" };
  if (message === null) return { id, name: "", text: "This message is gone" };
  return { id, name: format.displayName(chat.store.users.get(message.from)), text: summary(message).slice(0, 200) };
}

export function quoteContent({ name, text }) {
  return [h("span", { class: "quote-name" }, name), h("span", { class: "quote-text" }, text)];
}

// The element of a row. `act` has what its buttons do: reply, showQuoted, retry, discard.
export function buildRow(row, act) {
  if (row.kind === "day") return h("li", { class: "day" }, h("span", {}, row.text));
  if (row.kind === "notice") return h("li", { class: "notice" }, row.text);
  const authorClass = row.showsAuthor ? `author tone-${format.tone(row.from)}` : "hidden";
  const bubble = h(
    "div",
    { class: "bubble" },
    h("span", { class: authorClass }, row.name, h("span", { class: "hidden" }, ": ")),
    row.quote
      ? h(
          "button",
          { type: "button", class: "quote", tabindex: "-1", onclick: () => act.showQuoted(row.quote.id) },
          ...quoteContent(row.quote),
        )
      : null,
    ...row.attachments.map((name) => h("span", { class: "attachment" }, `Attachment: ${name}`)),
    h("span", { class: "body", dir: "auto" }, ...linked(row.body)),
    h(
      "span",
      { class: "meta", title: row.fullTime },
      row.isEdited ? "edited " : null,
      row.time,
      row.status ? statusIcon(row.status) : null,
    ),
  );
  const reply = h(
    "button",
    {
      type: "button",
      class: "icon-button reply",
      tabindex: "-1",
      "aria-label": "Reply",
      title: "Reply",
      onclick: () => act.reply(row.id),
    },
    icon("reply"),
  );
  return h(
    "li",
    // One's own words need not be read out.
    { "data-status": row.status, "data-id": row.id, tabindex: "-1", "aria-live": row.isOwn ? "off" : null },
    row.showsAuthor ? avatar(row.from, row.name, "small") : null,
    h("div", { class: "stack" }, bubble, row.error ? failure(row, act) : null),
    row.id ? reply : null,
  );
}

function statusIcon(status) {
  const [name, label] = STATUS[status];
  return h("span", { class: `status ${status}`, role: "img", "aria-label": label, title: label }, icon(name));
}

function failure(row, act) {
  return h(
    "p",
    { class: "failure" },
    `Not sent. ${row.error} `,
    h("button", { type: "button", class: "link", onclick: () => act.retry(row.key) }, "Try again"),
    " ",
    h("button", { type: "button", class: "link", onclick: () => act.discard(row.key) }, "Discard"),
  );
}

// Web addresses become links, everything stays text.
function linked(body) {
  const parts = [];
  let end = 0;
  for (const match of body.matchAll(LINK)) {
    if (!URL.canParse(match[0])) continue;
    parts.push(body.slice(end, match.index));
    parts.push(h("a", { href: match[0], target: "_blank", rel: "noopener noreferrer", tabindex: "-1" }, match[0]));
    end = match.index + match[0].length;
  }
  parts.push(body.slice(end));
  return parts;
}
