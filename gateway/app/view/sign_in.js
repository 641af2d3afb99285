// The form for logging in and for creating an account.

import { logIn, signUp } from "../session.js";
import { $ } from "./dom.js";

const TEXTS = {
  logIn: ["Welcome back", "Log in to go on chatting.", "Log in", "New here?", "Create an account"],
  signUp: ["Create your account", "A login and a password are all it takes.", "Sign up", "Been here before?", "Log in"],
};

// Shows the form until somebody is logged in, and returns the session.
export function askWhoIsThere(notice = "") {
  const form = $("sign-in-form");
  let mode = "logIn";

  function show(next) {
    mode = next;
    const ids = ["sign-in-title", "sign-in-hint", "sign-in-submit", "sign-in-question", "sign-in-switch"];
    ids.forEach((id, index) => ($(id).textContent = TEXTS[mode][index]));
    $("name-field").hidden = mode === "logIn";
    form.password.autocomplete = mode === "logIn" ? "current-password" : "new-password";
    $("sign-in-error").textContent = "";
  }

  show("logIn");
  $("sign-in-error").textContent = notice;
  $("app").hidden = true;
  $("sign-in").hidden = false;
  form.login.focus();
  $("sign-in-switch").onclick = () => {
    show(mode === "logIn" ? "signUp" : "logIn");
    form.login.focus();
  };

  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      const submit = $("sign-in-submit");
      if (submit.disabled) return;
      submit.disabled = true;
      $("sign-in-error").textContent = "";
      const [login, password] = [form.login.value, form.password.value];
      try {
        const session =
          mode === "logIn" ? await logIn(login, password) : await signUp(login, password, form.name.value);
        form.reset();
        $("sign-in").hidden = true;
        resolve(session);
      } catch (error) {
        $("sign-in-error").textContent = error.message;
        form.password.select();
      } finally {
        submit.disabled = false;
      }
    };
  });
}
