// What the page keeps in the browser's own storage: nothing leaves the browser.
const NAME = "spfde-digits";
const STORE = "learned";

/** Returns what was kept for a file, or undefined. */
export async function load(file) {
  return request((await store("readonly")).get(file));
}

/** Keeps a value for a file; undefined forgets it. */
export async function keep(file, value) {
  const kept = await store("readwrite");
  return request(value === undefined ? kept.delete(file) : kept.put(value, file));
}

async function store(mode) {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  return (await request(opening)).transaction(STORE, mode).objectStore(STORE);
}

function request(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}
