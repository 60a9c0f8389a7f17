import { test } from "node:test";

import { MemoryReplica } from "../../../client/web/js/memory.js";
import { contract } from "./replica-contract.mjs";

test("the replica in memory keeps the contract", async () => {
  const replica = new MemoryReplica("alice");
  await contract(async () => replica);
});
