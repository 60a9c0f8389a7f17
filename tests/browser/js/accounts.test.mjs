import assert from "node:assert/strict";
import { test } from "node:test";

import { Accounts, newDevice, randomText } from "../../../client/web/js/accounts.js";

class Storage {
  #kept = new Map();

  getItem(key) {
    return this.#kept.get(key) ?? null;
  }

  setItem(key, value) {
    this.#kept.set(key, String(value));
  }

  removeItem(key) {
    this.#kept.delete(key);
  }
}

const names = (devices) => devices.map(({ device }) => device);

test("a tab goes on as before, another one as the last who signed in", () => {
  const shared = new Storage();
  const [first, second] = [new Accounts(shared, new Storage()), new Accounts(shared, new Storage())];
  assert.equal(first.user, null);
  first.remember("alice", "web-1", "T");
  second.remember("bob", "web-2", "U");
  assert.deepEqual([first.user, second.user, new Accounts(shared, new Storage()).user], ["alice", "bob", "bob"]);
});

test("first the name this tab had, then one with something to send, then any", () => {
  const accounts = new Accounts(new Storage(), new Storage());
  for (const device of ["a", "b", "c"]) accounts.remember("alice", device, device);
  accounts.remember("alice", "a", "a2");
  assert.deepEqual(names(accounts.preferred("alice", new Map([["c", [{}]], ["b", []]]))), ["a", "c", "b"]);
  assert.deepEqual(accounts.devices("alice").find(({ device }) => device === "a").token, "a2");
});

test("signed out, the names stay and the tokens go", () => {
  const shared = new Storage();
  const accounts = new Accounts(shared, new Storage());
  accounts.remember("alice", "a", "T");
  accounts.signOut("alice");
  assert.deepEqual([accounts.user, accounts.devices("alice")], [null, [{ device: "a", token: "" }]]);
});

test("any user's name is only a name, and somebody else's text is none", () => {
  const shared = new Storage();
  const accounts = new Accounts(shared, new Storage());
  assert.deepEqual(accounts.devices("constructor"), []);
  accounts.remember("constructor", "a", "T");
  assert.deepEqual(names(accounts.devices("constructor")), ["a"]);
  for (const text of ["", "{", "null", "7"]) {
    shared.setItem("imserver.accounts", text);
    assert.deepEqual(accounts.devices("alice"), []);
  }
});

test("a new device has a name the protocol allows", () => {
  assert.match(newDevice(), /^web-[a-z0-9]{8}$/);
  assert.notEqual(randomText(16), randomText(16));
});
