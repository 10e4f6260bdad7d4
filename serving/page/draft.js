// What is being typed outlives a reload, a crash and a service that is away, and so does what was
// dropped: text in the browser's storage, files in its database.

const STORED = "kinetograph.draft";
const EMPTY = { mode: "one", prompt: "", fields: {}, shots: [] };

export function read() {
  try {
    return { ...EMPTY, ...JSON.parse(localStorage.getItem(STORED)) };
  } catch {
    return { ...EMPTY };
  }
}

export function write(draft) {
  try {
    localStorage.setItem(STORED, JSON.stringify(draft));
  } catch {
    // Storage is full or switched off: the page still works, without memory.
  }
}

const DROPPED = "dropped";
let database = null;

/** What was dropped, as it was given to `writeDropped`; null if there is nothing. */
export async function readDropped() {
  try {
    return (await answer((await store("readonly")).get(DROPPED))) ?? null;
  } catch {
    return null;
  }
}

export async function writeDropped(dropped) {
  try {
    await answer((await store("readwrite")).put(dropped, DROPPED));
  } catch {
    // As above.
  }
}

async function store(mode) {
  database ??= open();
  return (await database).transaction(DROPPED, mode).objectStore(DROPPED);
}

function open() {
  const request = indexedDB.open("kinetograph", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(DROPPED);
  return answer(request);
}

function answer(request) {
  return new Promise((done, fail) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => fail(request.error);
  });
}
