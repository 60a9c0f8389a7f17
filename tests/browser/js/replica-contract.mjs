/**
 * What both replicas promise. It says so by throwing, and needs nothing but its arguments: it runs here on the one in memory, and in a
 * browser, where the test sends its text, on the one in IndexedDB.
 *
 * @param {() => Promise<object>} open a replica of the user alice; opened again, the same one
 */
export async function contract(open) {
  const same = (actual, expected, what) => {
    const [is, ought] = [JSON.stringify(actual), JSON.stringify(expected)];
    if (is !== ought) throw new Error(`${what}: ${is}, not ${ought}`);
  };
  const message = (at, from = "bob") => ({ log: "", at, from, device: "d", to: "alice", id: at, body: at, with: "bob" });
  const record = (more) => ({ with: "bob", readUpto: null, deliveredUpto: null, seenUpto: null, floor: null, complete: false, ...more });
  const batch = (more) => ({ messages: [], records: new Map(), cursors: new Map(), outbox: new Map(), device: "web", ...more });
  const page = async (replica, range) => (await replica.page("bob", { from: null, before: null, limit: 9, ...range })).map(({ at }) => at);

  let replica = await open();
  const empty = await replica.load();
  same([empty.cursors.size, empty.conversations, empty.outboxes.size], [0, [], 0], "empty at first");

  const ats = ["999-5", "1000-2", "1000-10", "1000-18446744073709551615", "1001-0"];
  const messages = [3, 0, 4, 2, 1, 2].map((index) => message(ats[index], index === 4 ? "alice" : "bob"));
  await replica.write(batch({ messages, records: new Map([["bob", record({ readUpto: ats[1] })]]), cursors: new Map([["", ats[4]]]) }));
  same(await page(replica), ats, "in the server's order, each once");
  same(await page(replica, { limit: 2 }), ats.slice(3), "the newest ones");
  same(await page(replica, { before: ats[3], limit: 2 }), ats.slice(1, 3), "before a position");
  same(await page(replica, { from: ats[1], before: ats[4] }), ats.slice(1, 4), "from a position on");
  same(await page(replica, { from: ats[1], before: ats[1] }), [], "between a position and itself");
  same(await page(replica, { from: "1000-3", before: "1000-11" }), [ats[2]], "positions need not be of messages");
  same((await replica.page("bo", { from: null, before: null, limit: 9 })).length, 0, "of one conversation only");

  await replica.write(batch({ messages: [message("1002-0")], gone: [{ with: "bob", at: ats[4] }] }));
  same(await page(replica), [...ats.slice(0, 4), "1002-0"], "what has moved is in its new place only");
  await replica.write(batch({ messages: [message(ats[4], "alice")], gone: [{ with: "bob", at: "1002-0" }] }));

  const marks = record({ readUpto: ats[0], seenUpto: ats[2], floor: ats[1] });
  await replica.write(batch({ records: new Map([["bob", marks]]), cursors: new Map([["", ats[0]], ["#g", "7-0"]]) }));
  replica = await open();
  const { cursors, conversations } = await replica.load();
  same([...cursors].sort(), [["#g", "7-0"], ["", ats[4]]], "cursors go forward only");
  const [{ last, unread, ...kept }] = conversations;
  same([kept.readUpto, kept.seenUpto, kept.floor], [ats[1], ats[2], ats[1]], "marks go forward only, the floor is as last said");
  same([last.at, unread], [ats[4], 2], "the last message, and how many of others are unread");

  same([await replica.unread("bob", ats[1]), await replica.unread("bob", null)], [2, 4], "unread behind a position, or all");
  await replica.write(batch({ messages: [{ ...message(ats[2]), deleted: true }] }));
  same([await replica.unread("bob", ats[1]), await replica.unread("bob", null)], [1, 3], "what is deleted is not unread");
  const found = await replica.find("bob", (each) => each.at === ats[2]);
  same([found?.at, await replica.find("bob", () => false)], [ats[2], null], "a message by what it is");

  const item = (seq, id) => ({ seq, id, to: "bob", body: "x", time: 0, state: "waiting" });
  await replica.write(batch({ outbox: new Map([["a", item(1, "a")], ["b", item(2, "b")]]) }));
  await replica.write(batch({ outbox: new Map([["a", item(3, "a")]]), device: "other" }));
  await replica.write(batch({ outbox: new Map([["a", null]]) }));
  const { outboxes } = await replica.load();
  same([outboxes.get("web"), outboxes.get("other")], [[item(2, "b")], [item(3, "a")]], "each device's outbox");

  const vanishing = [{ ...message("2000-0"), expires: 50 }, { ...message("2001-0"), expires: 51 }, { ...message("2002-0"), expires: 150 }];
  await replica.write(batch({ messages: vanishing }));
  same([...(await replica.expire(49_999))], [], "nothing vanishes before its time");
  same([...(await replica.expire(51_999)), ...(await replica.expire(51_999))], ["bob"], "what vanishes does so once");
  same((await page(replica)).slice(-2), [ats[4], "2002-0"], "the rest stays");
  same([...(await replica.expire(150_000)), ...(await page(replica))], ["bob", ...ats], "all has vanished that does");

  await replica.erase();
  const erased = await (await open()).load();
  same([erased.cursors.size, erased.conversations, await page(replica)], [0, [], []], "erased");
}
