// Server-sent events: bytes in, parsed "data:" payloads out, however the network cut them. Comment lines (pings) are dropped.
// SPDX-License-Identifier: Apache-2.0

// A push parser: feed(text) returns the payloads that are complete now. A payload is the joined data lines of one event.
export function eventParser() {
  let rest = '', data = [];
  return function feed(text) {
    const done = [];
    rest += text;
    let end;
    while ((end = rest.search(/\r\n|\n|\r(?=[^\n])/)) >= 0) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + (rest.startsWith('\r\n', end) ? 2 : 1));
      if (line === '') {
        if (data.length) done.push(data.join('\n'));
        data = [];
      } else if (line.startsWith('data:')) {
        data.push(line.slice(line[5] === ' ' ? 6 : 5));
      }
    }
    return done;
  };
}

// Yields each payload of a fetch response as text, and '[DONE]' like any other.
export async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const feed = eventParser();
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      yield* feed(decoder.decode(value, {stream: true}));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
