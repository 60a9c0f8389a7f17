/**
 * Who has signed in with this browser, under which device names, and which of those a tab may use now.
 *
 * The server knows one session per device: a second login of a device replaces the first. So each tab needs a device name of its own, and
 * three ways to give it one were weighed:
 *
 * - a new name per tab (sessionStorage): every tab ever opened would leave a device, with a cursor and an outbox, that never comes back,
 *   and a duplicated tab has its original's sessionStorage, so two tabs would share a name after all;
 * - one name per browser: a second tab silently ends the first;
 * - **a small pool of names per user in localStorage, each held by at most one tab through a Web Lock.** The lock goes with the tab,
 *   however it ends. A tab takes the name it had before a reload, else one whose outbox still has something to send, else any free one.
 *
 * The token belongs to user and device, so a tab that finds every name held cannot sign in by itself. It offers both ways out: to move the
 * session here (the other tab says so, and can take it back), or to sign in with the password under one more name and use both.
 *
 * Web Locks need a secure page (https, or localhost). Without them every name counts as free, and the server's `replaced` decides: one tab
 * at a time, and the other one shows the same notice.
 */

/** A page that is loaded again may find its lock not yet given back by its former self. */
const CLAIM_MS = 300;

const KEY = "imserver.accounts";
const TAB_KEY = "imserver.tab";

/** @typedef {{device: string, token: string}} Device a device without a token was signed out and can be used again with the password */

export class Accounts {
  #storage;
  #tab;

  /** @param {Storage} storage shared by all tabs @param {Storage} tab this tab's own */
  constructor(storage, tab) {
    this.#storage = storage;
    this.#tab = tab;
  }

  /** The user of this tab before it was loaded again, else the last one who signed in; null where there is none. */
  get user() {
    return this.#ofTab().user ?? this.#read().last ?? null;
  }

  /** @returns {Device[]} the names this user has had in this browser */
  devices(user) {
    return this.#read().users.get(user) ?? [];
  }

  /** @param {Map<string, object[]>} outboxes what each device has still to send @returns {Device[]} the best one to use first */
  preferred(user, outboxes) {
    const own = this.#ofTab().device;
    const rank = ({ device }) => (device === own ? 0 : outboxes.get(device)?.length ? 1 : 2);
    return [...this.devices(user)].sort((a, b) => rank(a) - rank(b));
  }

  /** Remembers the name for the user, and for this tab. An empty token: the next login needs the password. */
  remember(user, device, token) {
    this.#change((kept) => {
      const others = (kept.users.get(user) ?? []).filter((each) => each.device !== device);
      kept.users.set(user, [...others, { device, token }]);
      kept.last = user;
    });
    this.#tab.setItem(TAB_KEY, JSON.stringify({ user, device }));
  }

  /** Signs the user out of this browser, in all tabs; the names are kept. */
  signOut(user) {
    this.#change((kept) => {
      kept.users.set(user, (kept.users.get(user) ?? []).map(({ device }) => ({ device, token: "" })));
      kept.last = null;
    });
    this.#tab.removeItem(TAB_KEY);
  }

  #ofTab() {
    return parsed(this.#tab.getItem(TAB_KEY)) ?? {};
  }

  #read() {
    const kept = parsed(this.#storage.getItem(KEY)) ?? {};
    return { last: kept.last ?? null, users: new Map(Object.entries(kept.users ?? {})) };
  }

  #change(change) {
    const kept = this.#read();
    change(kept);
    this.#storage.setItem(KEY, JSON.stringify({ ...kept, users: Object.fromEntries(kept.users) }));
  }
}

/** @returns {string} a device name nobody has used */
export function newDevice() {
  return `web-${randomText(8)}`;
}

/** Text of so many of a-z and 0-9. (`crypto.randomUUID` exists on secure pages only.) */
export function randomText(length) {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => (byte % 36).toString(36)).join("");
}

/**
 * Holds a device name for this tab, until `release` or the end of the tab.
 *
 * @param {string} user @param {string} device
 * @param {{steal?: boolean, onStolen?: () => void}} options `steal`: take it from the tab that holds it, whose `onStolen` is called
 * @returns {Promise<(() => void) | null>} `release`; null where another tab holds the name
 */
export async function claim(user, device, { steal = false, onStolen = () => {} } = {}) {
  if (!navigator.locks) return () => {};
  return new Promise((resolve) => {
    let granted = false;
    const hold = () => {
      granted = true;
      return new Promise((release) => resolve(release));
    };
    const options = steal ? { steal } : { signal: AbortSignal.timeout(CLAIM_MS) };
    const request = navigator.locks.request(`imserver/${user}/${device}`, options, hold);
    request.catch(() => (granted ? onStolen() : resolve(null)));
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    // Somebody else's text under our key is as good as none.
    return null;
  }
}
