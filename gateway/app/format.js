// Names, initials, colours and times as people read them.

const TONES = 8;
const DAY_MS = 86_400_000;

export function displayName(user) {
  if (!user) return "…";
  return [user.first_name, user.last_name].filter(Boolean).join(" ") || user.login || "Deleted account";
}

export function initials(name) {
  const words = name.split(/[\s._-]+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const picked = words.length > 1 ? [words[0], words.at(-1)] : words;
  return picked.map((word) => [...word][0].toLocaleUpperCase()).join("") || "?";
}

// One of a few colours, always the same one for the same id.
export function tone(id) {
  let sum = 0;
  for (const char of id) sum = (sum * 31 + char.codePointAt(0)) % 9973;
  return sum % TONES;
}

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDate = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const withYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

const startOfDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
// Rounded, because a day with a clock change is an hour longer or shorter.
const daysAgo = (date) => Math.round((startOfDay(new Date()) - startOfDay(date)) / DAY_MS);

export const clock = (date) => time.format(date);
export const fullTime = (date) => full.format(date);
export const dayKey = (date) => String(startOfDay(date));

export function dayName(date) {
  const ago = daysAgo(date);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  return date.getFullYear() === new Date().getFullYear() ? longDate.format(date) : withYear.format(date);
}

// As short as a list wants it.
export function listTime(date) {
  const ago = daysAgo(date);
  if (ago <= 0) return time.format(date);
  if (ago === 1) return "Yesterday";
  return ago < 7 ? weekday.format(date) : shortDate.format(date);
}

export function names(list) {
  return list.length < 2 ? (list[0] ?? "") : `${list.slice(0, -1).join(", ")} and ${list.at(-1)}`;
}
