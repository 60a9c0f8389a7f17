"""The page in a browser against a real server, as people use it."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.people import PASSWORD, Person, Visitor
from tests.server import Server


@pytest.fixture
def alice(page: Page) -> Visitor:
    """In front of the page, signed in."""
    return Visitor(page).register("alice").is_in()


@pytest.fixture
def newcomer(server: Server) -> Iterator[Callable[[str], Person]]:
    """Makes people at bare sockets."""
    people: list[Person] = []

    def come(user: str) -> Person:
        people.append(Person(server.tcp, user).register())
        return people[-1]

    yield come
    for person in people:
        person.close()


@pytest.fixture
def bob(newcomer: Callable[[str], Person]) -> Person:
    return newcomer("bob")


# -- coming in


def test_a_wrong_password_is_told_and_the_right_one_lets_in(page: Page, bob: Person) -> None:
    visitor = Visitor(page).sign_in("Bob", "wrong")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    visitor.sign_in("Bob").is_in()


def test_a_taken_name_is_told(page: Page, bob: Person) -> None:
    Visitor(page).register("bob")
    expect(page.get_by_role("alert").filter(has_text="taken")).to_be_visible()


def test_a_name_that_cannot_be_is_told_without_asking_the_server(page: Page) -> None:
    Visitor(page).sign_in("no spaces")
    expect(page.get_by_role("alert").filter(has_text="A name has")).to_be_visible()


def test_a_reload_needs_no_password_and_shows_everything_once(alice: Visitor, bob: Person) -> None:
    bob.say("alice", "one")
    alice.open("bob")
    alice.say("two")
    bob.hears("two")
    alice.page.reload()
    alice.is_in().sees("one", "two")
    bob.say("alice", "three")
    alice.sees("one", "two", "three")
    assert PASSWORD not in str(alice.page.evaluate("JSON.stringify([localStorage, sessionStorage])"))


def test_signing_out_forgets_everything_here_and_signing_in_brings_it_back(alice: Visitor, bob: Person) -> None:
    bob.say("alice", "keep this")
    alice.open("bob")
    alice.sees("keep this")
    alice.page.get_by_role("button", name="Sign out").click()
    expect(alice.page.get_by_label("Password")).to_be_visible()
    alice.page.reload()
    alice.sign_in("alice").is_in().open("bob")
    alice.sees("keep this")


# -- talking


def test_two_talk(alice: Visitor, bob: Person) -> None:
    alice.start("bob")
    alice.say("hello bob")
    bob.hears("hello bob")
    bob.say("alice", "hello alice")
    alice.sees("hello bob", "hello alice")
    alice.sees_states("Sent")


def test_what_is_changed_and_answered_shows(alice: Visitor, bob: Person) -> None:
    said = {"from": "bob", "device": "desk", "id": "desk-0"}
    bob.say("alice", "at for")
    alice.open("bob")
    alice.sees("at for")
    bob.does("edit", id="e1", to="alice", of=said, body="at four")
    alice.sees("at four")
    bob.does("send", id="c1", to="alice", body="all right?", reply=said)
    alice.sees("at four", "all right?")
    expect(alice.page.locator(".quote:visible")).to_have_text("at four")
    bob.does("react", id="r1", to="alice", of=said, emoji="+")
    expect(alice.page.locator(".reactions:visible")).to_have_text("+")
    bob.does("delete", id="d1", to="alice", of=said)
    alice.sees("all right?")
    alice.page.reload()
    alice.is_in()
    alice.open("bob")
    alice.sees("all right?")


def test_text_is_only_text(alice: Visitor, bob: Person) -> None:
    nasty = '<img src=x onerror="document.title=1"><script>alert(1)</script> & "\u202e'
    bob.say("alice", nasty)
    alice.open("bob")
    alice.sees(nasty)
    alice.say(nasty)
    bob.hears(nasty)
    assert alice.page.locator(".messages img, .messages script, .sidebar img").count() == 0


def test_unread_messages_are_counted_until_they_are_seen(alice: Visitor, newcomer: Callable[[str], Person]) -> None:
    bob, carol = newcomer("bob"), newcomer("carol")
    bob.say("alice", "1")
    bob.say("alice", "2")
    carol.say("alice", "3")
    expect(alice.unread("bob")).to_have_text("2 unread")
    expect(alice.page).to_have_title("(3) imserver")
    alice.open("bob")
    expect(alice.unread("bob")).to_be_hidden()
    expect(alice.page).to_have_title("(1) bob - imserver")
    alice.page.reload()
    expect(alice.unread("carol")).to_have_text("1 unread")
    expect(alice.unread("bob")).to_be_hidden()


def test_what_has_come_and_was_read_is_shown_also_in_a_new_browser(
    alice: Visitor, bob: Person, chromium: Browser, server: Server
) -> None:
    alice.start("bob")
    alice.say("one", "two", "three")
    bob.hears("one", "two", "three")
    alice.sees_states("Sent", "Sent", "Sent")
    bob.keeps(2)
    alice.sees_states("Delivered", "Delivered", "Sent")
    bob.reads("alice", 1)
    alice.sees_states("Read", "Delivered", "Sent")
    with Person(server.tcp, "carol").register() as carol:
        for text in ("1", "2", "3"):
            carol.say("alice", text)
        expect(alice.unread("carol")).to_have_text("3 unread")
        with Person(server.tcp, "alice", device="phone").log_in() as phone:
            phone.hears("1", "2", "3")
            phone.reads("carol", 2)
        expect(alice.unread("carol")).to_have_text("1 unread")
        context = chromium.new_context(base_url="http://{}:{}/".format(*server.http))
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.goto("/")
        again = Visitor(page).sign_in("alice").is_in()
        expect(again.unread("carol")).to_have_text("1 unread")
        again.open("carol")
        carol.is_told("read", by="alice", **{"with": "carol"})
        again.open("bob")
        again.sees_states("Read", "Delivered", "Sent")
        context.close()
        expect(alice.unread("carol")).to_be_hidden()


def test_what_another_device_of_mine_says_is_shown_as_mine(alice: Visitor, bob: Person, server: Server) -> None:
    alice.start("bob")
    alice.say("from here")
    bob.hears("from here")
    with Person(server.tcp, "alice", device="phone").log_in() as phone:
        phone.say("bob", "from the phone")
    alice.sees("from here", "from the phone")
    alice.sees_states("Sent", "Sent")


def test_a_message_nobody_can_get_says_why_and_can_be_discarded(alice: Visitor) -> None:
    alice.start("nobody")
    alice.say("hello?")
    expect(alice.page.get_by_text("there is no user called nobody (not-found)")).to_be_visible()
    expect(alice.in_list("nobody")).to_contain_text("Not sent: hello?")
    alice.page.get_by_role("button", name="Discard").click()
    alice.sees()


def test_a_message_too_long_for_the_server_is_not_sent(alice: Visitor, bob: Person) -> None:
    alice.start("bob")
    alice.say("x" * 70_000)
    expect(alice.page.get_by_text("the message is too long for this server (too-large)")).to_be_visible()
    alice.say("short")
    bob.hears("short")


def test_the_list_and_the_conversation_share_a_small_screen(alice: Visitor, bob: Person) -> None:
    alice.page.set_viewport_size({"width": 390, "height": 700})
    bob.say("alice", "hi")
    alice.open("bob")
    expect(alice.page.get_by_label("Write to")).to_be_hidden()
    alice.sees("hi")
    alice.page.get_by_role("button", name="Back to the conversations").click()
    expect(alice.in_list("bob")).to_be_visible()
    expect(alice.texts).to_be_hidden()


# -- the past


def scroll_up_to(visitor: Visitor, first: str) -> None:
    """As a person does, until there is nothing more above."""
    visitor.page.locator(".scroll").hover()
    while visitor.page.locator(".start").inner_text() != "This is the beginning.":
        visitor.page.mouse.wheel(0, -2000)
        visitor.page.wait_for_timeout(20)
    expect(visitor.texts.first).to_have_text(first)


def test_scrolling_back_shows_the_whole_past_in_order(alice: Visitor, bob: Person) -> None:
    said = [f"message {number}" for number in range(180)]
    for text in said:
        bob.say("alice", text)
    alice.open("bob")
    expect(alice.texts.last).to_be_in_viewport()
    assert alice.texts.count() < len(said)
    scroll_up_to(alice, said[0])
    alice.sees(*said)


LOSE_MESSAGES = """async () => {
    const opening = indexedDB.open("imserver/alice");
    await new Promise((resolve) => (opening.onsuccess = resolve));
    const write = opening.result.transaction(["messages", "records"], "readwrite");
    write.objectStore("messages").clear();
    write.objectStore("records").clear();
    await new Promise((resolve) => (write.oncomplete = resolve));
}"""


def test_the_past_this_browser_does_not_have_comes_from_the_server(alice: Visitor, bob: Person) -> None:
    said = [f"message {number}" for number in range(120)]
    for text in said:
        bob.say("alice", text)
    expect(alice.in_list("bob")).to_contain_text(said[-1])
    alice.page.evaluate(LOSE_MESSAGES)
    alice.page.reload()
    alice.is_in().start("bob")
    expect(alice.texts.last).to_have_text(said[-1])
    scroll_up_to(alice, said[0])
    alice.sees(*said)


def test_what_is_being_read_stays_in_sight_when_more_arrives(alice: Visitor, bob: Person) -> None:
    said = [f"message {number}" for number in range(60)]
    for text in said:
        bob.say("alice", text)
    alice.open("bob")
    scroll_up_to(alice, said[0])
    middle = alice.texts.filter(has_text="message 30")
    middle.scroll_into_view_if_needed()
    before = middle.bounding_box()
    bob.say("alice", "and one more")
    expect(alice.page.get_by_role("button", name="1 new")).to_be_visible()
    assert middle.bounding_box() == before
    alice.page.get_by_role("button", name="1 new").click()
    expect(alice.texts.last).to_be_in_viewport()


# -- losing the server


def test_killed_workers_lose_nothing(alice: Visitor, bob: Person, server: Server) -> None:
    alice.start("bob")
    alice.say("before")
    bob.hears("before")
    server.kill_workers()
    alice.say("after 1", "after 2")
    bob.come_back()
    bob.hears("after 1", "after 2")
    bob.say("alice", "all well")
    alice.sees("before", "after 1", "after 2", "all well")
    alice.sees_states("Sent", "Sent", "Sent")
    bob.hears_no_more()


def test_the_server_goes_and_comes_back(alice: Visitor, bob: Person, server: Server) -> None:
    alice.start("bob")
    alice.say("before")
    bob.hears("before")
    bob.say("alice", "I know")
    alice.sees("before", "I know")
    server.stop()
    expect(alice.banner).to_contain_text("No connection to the server.")
    alice.say("written 1", "written 2", "written 3")
    alice.sees("before", "I know", "written 1", "written 2", "written 3")
    alice.sees_states("Sent", "Sending", "Sending", "Sending")
    server.start()
    alice.is_in().sees("before", "I know", "written 1", "written 2", "written 3")
    alice.sees_states("Sent", "Sent", "Sent", "Sent")
    bob.come_back()
    bob.hears("written 1", "written 2", "written 3")
    bob.say("alice", "got all")
    alice.sees("before", "I know", "written 1", "written 2", "written 3", "got all")
    bob.hears_no_more()


def test_the_whole_server_is_killed_in_the_middle_of_it(alice: Visitor, bob: Person, server: Server) -> None:
    alice.start("bob")
    said = [f"message {number}" for number in range(30)]
    alice.say(*said[:20])
    server.kill()
    alice.say(*said[20:])
    server.start()
    alice.is_in().sees(*said)
    alice.sees_states(*["Sent"] * len(said))
    bob.come_back()
    bob.hears(*said)
    bob.hears_no_more()


def test_what_waits_to_be_sent_survives_the_tab(alice: Visitor, bob: Person, server: Server) -> None:
    alice.start("bob")
    alice.say("before")
    bob.hears("before")
    server.stop()
    expect(alice.banner).to_be_visible()
    alice.say("written while away")
    alice.sees("before", "written while away")
    alice.page.wait_for_timeout(300)  # the tab is not closed in the very moment of the last key
    context = alice.page.context
    alice.page.close()
    server.start()
    again = Visitor(context.new_page())
    again.page.goto("/#/bob")
    again.is_in().sees("before", "written while away")
    bob.come_back()
    bob.hears("written while away")
    again.sees_states("Sent", "Sent")


# -- several tabs


def test_a_second_tab_asks_and_can_take_over_and_the_first_can_take_it_back(
    alice: Visitor, bob: Person, browser: BrowserContext
) -> None:
    bob.say("alice", "one")
    expect(alice.in_list("bob")).to_be_visible()
    second = Visitor(browser.new_page())
    second.page.goto("/")
    expect(second.page.get_by_text("imserver is open as alice in another tab")).to_be_visible()
    second.page.get_by_role("button", name="Use it here instead").click()
    second.is_in().open("bob")
    second.sees("one")
    expect(alice.page.get_by_role("dialog")).to_contain_text("You are using imserver in another tab or window now.")
    alice.page.get_by_role("button", name="Use it here").click()
    alice.is_in().open("bob")
    alice.sees("one")
    expect(second.page.get_by_role("dialog")).to_be_visible()


def test_two_tabs_with_the_password_are_two_devices(alice: Visitor, bob: Person, browser: BrowserContext) -> None:
    second = Visitor(browser.new_page())
    second.page.goto("/")
    second.sign_in("alice").is_in()
    alice.start("bob")
    alice.say("from the first tab")
    second.open("bob")
    second.say("from the second tab")
    bob.hears("from the first tab", "from the second tab")
    bob.say("alice", "hello both")
    for tab in (alice, second):
        tab.sees("from the first tab", "from the second tab", "hello both")


def test_signing_out_in_one_tab_is_signing_out_in_all(alice: Visitor, browser: BrowserContext) -> None:
    second = Visitor(browser.new_page())
    second.page.goto("/")
    second.sign_in("alice").is_in()
    second.page.get_by_role("button", name="Sign out").click()
    expect(alice.page.get_by_label("Password")).to_be_visible()


# -- groups


def test_an_invitation_shows_and_opening_it_joins_the_group(alice: Visitor, bob: Person, page: Page) -> None:
    bob.found("#tea", invite="alice")
    alice.open("#tea")
    bob.is_told_of("alice joined")
    bob.say("#tea", "one")
    alice.sees("one")
    alice.say("two")
    bob.hears("two")
    page.reload()
    alice.is_in()
    bob.say("#tea", "three")
    alice.sees("one", "two", "three")


# -- contacts


def contacts(alice: Visitor) -> Locator:
    return alice.page.get_by_role("region", name="Contacts")


def test_a_request_is_accepted_and_presence_shows(alice: Visitor, bob: Person) -> None:
    bob.does("contact.add", user="alice", note="It's me.")
    expect(contacts(alice)).to_contain_text("bob asks to be your contact")
    expect(contacts(alice)).to_contain_text("It's me.")
    contacts(alice).get_by_role("button", name="Accept").click()
    bob.is_told("contact", user="alice", state="mutual")
    bob.is_told("presence", user="alice", show="online")
    row = contacts(alice).get_by_role("button").filter(has_text="bob")
    expect(row.locator(".avatar")).to_have_attribute("data-show", "online")
    bob.does("presence", show="away", status="lunch")
    expect(row).to_contain_text("away: lunch")
    alice.page.reload()
    expect(row).to_contain_text("away: lunch")
    row.click()
    expect(alice.page.locator(".standing")).to_have_text("away: lunch")
    bob.does("logout")
    expect(row).to_contain_text("offline")


def test_somebody_is_asked_from_the_conversation_and_typing_goes_both_ways(alice: Visitor, bob: Person) -> None:
    alice.start("bob")
    alice.page.get_by_role("button", name="Add to contacts").click()
    expect(alice.page.locator(".standing")).to_have_text("asked to be your contact")
    expect(alice.page.get_by_role("button", name="Add to contacts")).to_be_hidden()
    bob.is_told("contact", user="alice", state="asking")
    bob.does("contact.accept", user="alice")
    expect(alice.page.locator(".standing")).to_have_text("online")
    alice.page.get_by_label("Message", exact=True).press_sequentially("he")
    bob.is_told("typing", to="bob", on=True)
    bob.does("typing", to="alice", on=True)
    expect(alice.page.locator(".thread .typing")).to_have_text("bob is typing…")


def test_what_one_shows_outlives_a_reload(alice: Visitor, bob: Person) -> None:
    bob.does("contact.add", user="alice")
    contacts(alice).get_by_role("button", name="Accept").click()
    bob.is_told("presence", user="alice", show="online")
    alice.page.get_by_label("Show me as").select_option("invisible")
    bob.is_told("presence", user="alice", show="offline")
    alice.page.reload()
    alice.is_in()
    expect(alice.page.get_by_label("Show me as")).to_have_value("invisible")
    bob.does("typing", to="alice", on=False)
    alice.page.get_by_label("Show me as").select_option("busy")
    bob.is_told("presence", user="alice", show="busy")


def test_a_request_is_declined(alice: Visitor, bob: Person) -> None:
    bob.does("contact.add", user="alice")
    contacts(alice).get_by_role("button", name="Decline").click()
    expect(contacts(alice)).to_be_hidden()
    bob.is_told("contact", user="alice", state="none")
