// What can go wrong between the page and the server.

// A failure in the server's words, with its status and code. Status 0: there was no answer.
export class ApiError extends Error {
  constructor({ status, code, message }) {
    super(message);
    this.status = status;
    this.code = code;
  }

  // Whether the same thing may work later.
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export const unreachable = () =>
  new ApiError({ status: 0, code: "unreachable", message: "The server cannot be reached." });
