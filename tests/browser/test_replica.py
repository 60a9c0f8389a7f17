"""The replica in a real browser's IndexedDB keeps the same contract as the one in memory."""

from pathlib import Path

from playwright.sync_api import Page

CONTRACT = Path(__file__).parent / "js" / "replica-contract.mjs"
RUN = """async () => {
    %s
    const { openReplica } = await import("/js/replica.js");
    await contract(() => openReplica("alice"));
    return "kept";
}"""


def test_the_replica_in_the_browser_keeps_the_contract(page: Page) -> None:
    text = CONTRACT.read_text().replace("export async function", "async function")
    assert page.evaluate(RUN % text) == "kept"
