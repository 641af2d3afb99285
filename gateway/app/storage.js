// What this browser remembers between visits: localStorage, or memory where the browser refuses it.

const memory = new Map();

function remembers() {
  try {
    localStorage.setItem("sama.probe", "1");
    localStorage.removeItem("sama.probe");
    return true;
  } catch {
    return false;
  }
}

const persistent = remembers();

export function get(key) {
  return persistent ? localStorage.getItem(key) : (memory.get(key) ?? null);
}

// False when there is no room for it.
export function set(key, value) {
  if (!persistent) {
    memory.set(key, value);
    return true;
  }
  try {
    localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

export function remove(key) {
  if (persistent) localStorage.removeItem(key);
  else memory.delete(key);
}

export function keys(prefix) {
  return (persistent ? Object.keys(localStorage) : [...memory.keys()]).filter((key) => key.startsWith(prefix));
}

// Calls back when another tab has changed a key that begins so; `null` stands for all keys.
export function onChange(prefix, callback) {
  addEventListener("storage", (event) => {
    if (event.key === null || event.key.startsWith(prefix)) callback(event.key);
  });
}

// A new random id. `crypto.randomUUID` would need HTTPS.
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
