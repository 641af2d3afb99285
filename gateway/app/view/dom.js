// Building and updating elements. Text only ever becomes text nodes: nothing here takes markup.

import { initials, tone } from "../format.js";

export const $ = (id) => document.getElementById(id);

// An element with properties (`class`, `data-*`, `aria-*` and other attributes by name, `on…` as listeners).
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Makes the parent's children show these items, touching only what is different: what is read out loud is read once.
// An item is plain data with a `key`; `build` makes its element from nothing but the item, except for `className`,
// which can change without a new element.
export function reconcile(parent, items, build) {
  const old = new Map(Array.from(parent.children, (element) => [element.dataset.key, element]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const { className, ...content } = item;
    const version = JSON.stringify(content);
    const known = old.get(item.key);
    old.delete(item.key);
    let element = known;
    if (known?.version !== version) {
      element = build(item);
      element.dataset.key = item.key;
      element.version = version;
      if (known) {
        const hadFocus = known.contains(document.activeElement);
        known.replaceWith(element);
        if (known === next) next = element;
        if (hadFocus) (element.querySelector("a, button") ?? element).focus({ preventScroll: true });
      }
    }
    if (className !== undefined && element.className !== className) element.className = className;
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  for (const element of old.values()) element.remove();
}

export function avatar(id, name, size = "") {
  return h("span", { class: `avatar tone-${tone(id)} ${size}`, "aria-hidden": "true" }, initials(name));
}

// Stroked on a grid of 24.
const ICONS = {
  back: "M15 5l-7 7 7 7",
  check: "M4.5 12.5l5 5 10-11",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 1.8",
  close: "M6 6l12 12M18 6L6 18",
  compose: "M12 20h8.5M16.2 4.2a2.1 2.1 0 0 1 3 3L7.5 18.9 3.5 20l1.1-4z",
  down: "M12 5v14M6 13l6 6 6-6",
  failed: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v5M12 16v.2",
  leave: "M14 5h-8v14h8M11 12h10M17.5 8.5L21 12l-3.5 3.5",
  read: "M2 12.5l5 5 9-10M12.5 17l.7.7L22 7.5",
  reply: "M9.5 6L4 11.5 9.5 17M4 11.5h10a6 6 0 0 1 6 6v1",
  send: "M4.5 12L20 4.5 16 20l-4.2-6.2zM11.8 13.8L20 4.5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// A few words that go away by themselves.
export function toast(text) {
  const element = h("p", { class: "toast" }, text);
  $("toasts").append(element);
  setTimeout(() => element.remove(), 6_000);
}

// Asks; resolves to whether the answer was yes.
export function confirm(question, yes) {
  const dialog = $("confirm");
  $("confirm-text").textContent = question;
  $("confirm-yes").textContent = yes;
  $("confirm-yes").onclick = () => dialog.close("yes");
  $("confirm-no").onclick = () => dialog.close("no");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
