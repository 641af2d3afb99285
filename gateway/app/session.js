// Who is logged in on this browser: signing up, logging in, renewing by the cookie that scripts cannot see, logging
// out.

import * as storage from "./storage.js";
import { ApiError, unreachable } from "./errors.js";
import { Connection } from "./socket.js";

const DEVICE = "sama.device";
export const USER = "sama.user";
// A token that ends sooner than this is renewed before it is used, in milliseconds.
const MARGIN = 30_000;

function deviceId() {
  let id = storage.get(DEVICE);
  if (!id) {
    id = storage.newId();
    storage.set(DEVICE, id);
  }
  return id;
}

// The organization of new users and password logins: `?organization=ID` in the address, else the server's default.
function organization() {
  const id = new URLSearchParams(location.search).get("organization");
  return id ? { organization_id: id } : {};
}

async function post(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(15_000),
    });
  } catch {
    throw unreachable();
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  throw new ApiError(content.error ?? { status: response.status, message: "The server did not understand." });
}

export class Session {
  #token;
  #expiresAt;

  constructor({ user, access_token, expired_at }) {
    this.user = user;
    this.#token = access_token;
    this.#expiresAt = expired_at;
    storage.set(USER, user._id);
  }

  // What binds a socket: a token that still holds.
  async credentials() {
    if (Date.now() > this.#expiresAt - MARGIN) await this.renew();
    return { token: this.#token, device_id: deviceId() };
  }

  async renew() {
    const { user, access_token, expired_at } = await post("/login", { device_id: deviceId() });
    if (user._id !== this.user._id) {
      // Somebody else logged in with this browser meanwhile.
      throw new ApiError({ status: 422, code: "session_token_expired", message: "You have been logged out." });
    }
    this.#token = access_token;
    this.#expiresAt = expired_at;
  }

  async logOut() {
    await post("/logout", {});
    storage.remove(USER);
  }
}

// The session that this browser's cookie stands for, or none.
export async function resume() {
  if (!storage.get(USER)) return null;
  try {
    return new Session(await post("/login", { device_id: deviceId() }));
  } catch (error) {
    if (error.isPassing) throw error;
    storage.remove(USER);
    return null;
  }
}

export async function logIn(login, password) {
  return new Session(await post("/login", { login, password, device_id: deviceId(), ...organization() }));
}

// Creates the account, and logs in.
export async function signUp(login, password, name) {
  const words = name.trim().split(/\s+/u).filter(Boolean);
  const [first_name, last_name] = [words.shift(), words.join(" ")].map((part) => part?.slice(0, 20) || undefined);
  await Connection.once("user_create", { login, password, first_name, last_name, ...organization() });
  return logIn(login, password);
}
