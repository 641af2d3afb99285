// Where the page starts: who is there, then the chat. The open conversation is the address's fragment, so that "back"
// and bookmarks work.

import { Chat } from "./chat.js";
import { USER, resume } from "./session.js";
import * as storage from "./storage.js";
import { ConversationView } from "./view/conversation.js";
import { $, confirm, icon, toast } from "./view/dom.js";
import { ListView } from "./view/list.js";
import { NewChatDialog } from "./view/new_chat.js";
import { askWhoIsThere } from "./view/sign_in.js";

const RETRY_MS = 2_000;
// Why the page was loaded anew, across that.
const NOTICE = "sama.notice";

// The session of an earlier visit, however long the server takes to answer.
async function resumeWithPatience() {
  for (;;) {
    try {
      return await resume();
    } catch (error) {
      toast(error.message);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

// A new start is the simplest way to forget everything about a user.
function startAgain(notice = "") {
  try {
    sessionStorage.setItem(NOTICE, notice);
  } catch {
    // Then without a word.
  }
  const { pathname, search, hash } = location;
  if (hash) location.replace(pathname + search);
  else location.reload();
}

function takeNotice() {
  try {
    const notice = sessionStorage.getItem(NOTICE);
    sessionStorage.removeItem(NOTICE);
    return notice ?? "";
  } catch {
    return "";
  }
}

function run(session) {
  const views = [];
  const openCid = () => location.hash.slice(1) || null;
  const chat = new Chat(session, {
    changed: () => views.forEach((view) => view.render(openCid())),
    failed: toast,
    ended: (message) => {
      // Unless somebody else has logged in meanwhile.
      if (storage.get(USER) === session.user._id) storage.remove(USER);
      startAgain(message);
    },
  });
  const conversation = new ConversationView(chat);
  views.push(new ListView(chat), conversation);
  const dialog = new NewChatDialog(chat, (cid) => (location.hash = cid));

  $("app").hidden = false;
  for (const id of ["new-chat-open", "list-empty-start"]) $(id).onclick = () => dialog.show();
  $("log-out").onclick = () => logOut(chat);
  $("leave").onclick = () => leave(chat, openCid());
  const navigate = () => {
    conversation.open(openCid());
    chat.store.touch();
  };
  addEventListener("hashchange", navigate);
  for (const event of ["online", "pageshow"]) addEventListener(event, () => chat.connection.wake());
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && chat.connection.wake());
  // Another tab has logged out, or somebody else in.
  storage.onChange(USER, () => {
    if (storage.get(USER) !== session.user._id) startAgain();
  });
  navigate();
  chat.start();
}

async function logOut(chat) {
  const unsent = chat.outbox.all().length;
  if (unsent > 0) {
    const what = unsent === 1 ? "A message has" : `${unsent} messages have`;
    if (!(await confirm(`${what} not been sent yet. Log out and discard?`, "Log out"))) return;
  }
  try {
    await chat.logOut();
    startAgain();
  } catch (error) {
    toast(error.message);
  }
}

async function leave(chat, cid) {
  const isPrivate = chat.store.conversations.get(cid)?.type === "u";
  const question = isPrivate ? "Remove this conversation from your list?" : "Leave this conversation?";
  if (!(await confirm(question, isPrivate ? "Remove" : "Leave"))) return;
  try {
    await chat.leave(cid);
    location.hash = "";
  } catch (error) {
    toast(error.message);
  }
}

const ICONS = {
  back: "back",
  leave: "close",
  "log-out": "leave",
  "new-chat-open": "compose",
  "new-chat-close": "close",
  "quoting-cancel": "close",
  "composer-send": "send",
};
for (const [id, name] of Object.entries(ICONS)) $(id).append(icon(name));
run((await resumeWithPatience()) ?? (await askWhoIsThere(takeNotice())));
