"""The pages over real HTTP: what they say of the data, who may see them, and which forms are taken."""

from __future__ import annotations

import http.client
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.pages.pages import Pages
from integrations_pipeline.spec.editing import data_of
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home, checkout
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline_tests.gateway.conftest import serving
from integrations_pipeline_tests.gateway.shop import Shop, shop

__all__ = ["shop"]
TOKEN = "a-token-for-tests-0123456789"


@dataclass
class Shown:
    """A page as it came back; ``text`` is what a person reads."""

    status: int
    html: str
    headers: dict[str, str]
    cookies: str

    @property
    def text(self) -> str:
        bare = re.sub(r"<(script|style).*?</\1>", " ", self.html, flags=re.S)
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", bare)).split())

    @property
    def form_token(self) -> str:
        found = re.search(r'name="form_token" value="([^"]+)"', self.html)
        assert found, self.text
        return found[1]


@dataclass
class Visit:
    """A browser without a screen: it keeps cookies, and sends forms as they are on the page before."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    last: Shown | None = None

    def get(self, path: str, **headers: str) -> Shown:
        return self._send("GET", path, None, headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Shown:
        """With the form token of the page before, unless one is given."""
        known = {"form_token": self.last.form_token} if self.last and "form_token" in self.last.html else {}
        body = urlencode({**known, **fields})
        return self._send("POST", path, body, {"content_type": "application/x-www-form-urlencoded", **headers})

    def follow(self) -> Shown:
        assert self.last is not None and self.last.status == 303, self.last
        return self.get(self.last.headers["location"])

    def _send(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Shown:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.request(method, path, body, sent)
            found = link.getresponse()
            html = found.read().decode()
            set_cookie = found.headers.get("set-cookie", "")
            if match := re.match(r"([^=]+)=([^;]*)", set_cookie):
                self.cookies[match[1]] = match[2]
            self.last = Shown(found.status, html, {k.lower(): v for k, v in found.getheaders()}, set_cookie)
            return self.last
        finally:
            link.close()


@dataclass
class Site:
    shop: Shop
    port: int

    def visit(self) -> Visit:
        return Visit(self.port)


@pytest.fixture
def site(shop: Shop) -> Iterator[Site]:
    """The shop's gateway again, with pages and without a token."""
    with opened(shop, "") as found:
        yield found


class opened:  # noqa: N801 - used as `with opened(…)`
    """Pages before the shop's home and database."""

    def __init__(self, shop: Shop, token: str, public_url: str | None = None):
        doors = Doors(Home(shop.door.home), public_url)
        pages = Pages(doors, shop.store, Access(public_url, token))
        self.site = Site(shop, 0)
        self.serving = serving(self.site, Gateway(doors, shop.store.connect, pages=pages))  # type: ignore[arg-type]

    def __enter__(self) -> Site:
        self.serving.__enter__()
        return self.site

    def __exit__(self, *error: object) -> None:
        self.serving.__exit__(*error)


def contact(key: str, **more: str) -> dict[str, str]:
    return {"id": key, "email": f"{key}@example.com", "name": key.title(), "updated": "2026-01-01T00:00:00Z", **more}


def fill(shop: Shop) -> None:
    """Two contacts that are fine, and one whose time can't be read."""
    rows = (contact("ann"), contact("bob"), contact("cat", updated="soon"))
    shop.tables["contacts"] = {row["id"]: row for row in rows}
    shop.poll("contacts")


def test_the_status_page_says_how_everything_stands(site: Site) -> None:
    before = site.visit().get("/")
    assert (before.status, "not read yet" in before.text) == (200, True)
    fill(site.shop)
    site.shop.fails["orders"] = 500
    site.shop.poll("orders")
    site.shop.door.write("broken", "connection: broken\napi: 3\n")
    found = site.visit().get("/")
    assert "1 row in quarantine" in found.text
    assert "acme: 3 records in 24 hours, at most 3 in one hour, 3 in the last" in found.text
    assert "orders mapping ! deferred never ! out of date" in found.text
    assert "<script" not in found.html and " style=" not in found.html


def test_a_broken_file_is_named_beside_the_others(shop: Shop) -> None:
    shop.door.write("broken", "connection: broken\napi: 3\n")
    with opened(shop, "") as site:
        found = site.visit().get("/")
    assert "connections/broken.yaml" in found.text
    assert "acme" in found.text


def test_an_alert_of_the_whole_home_is_among_the_open_ones(shop: Shop) -> None:
    shop.door.rows(
        "INSERT INTO integrations.alert (connection, stream, condition, severity, what, who, next, since)"
        " VALUES ('', '', 'dead_letter', 'error', 'a change reached nobody', 'you', 'look', now()) RETURNING 1"
    )
    with opened(shop, "") as site:
        found = site.visit().get("/")
    assert "the whole home" in found.text and "a change reached nobody" in found.text


def test_pages_tell_browsers_to_run_and_frame_nothing(site: Site) -> None:
    found = site.visit().get("/")
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert (found.headers["x-content-type-options"], found.headers["cache-control"]) == ("nosniff", "no-store")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in found.cookies.split(";")}
    style = re.search(r'href="(/style-[0-9a-f]+\.css)"', found.html)
    assert style
    css = site.visit().get(style[1])
    assert (css.status, css.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in css.headers["cache-control"]


def test_without_a_token_only_this_machine_sees_pages(site: Site, shop: Shop) -> None:
    assert site.visit().get("/", host="attacker.example").status == 403
    assert site.visit().get("/", x_forwarded_for="203.0.113.9").status == 403
    with opened(shop, "", "https://hooks.example.com") as outside:
        assert outside.visit().get("/").status == 403


def test_with_a_token_people_log_in_and_out(shop: Shop) -> None:
    with opened(shop, TOKEN) as site:
        visit = site.visit()
        stranger = visit.get("/?x=1")
        assert stranger.status == 401
        assert "acme" not in stranger.html and TOKEN not in stranger.html
        guest = dict(visit.cookies)
        assert visit.post("/login", {"token": "wrong", "to": "/"}).status == 403
        visit.post("/login", {"token": TOKEN, "to": "/?x=1"})
        assert "acme" in visit.follow().text
        assert TOKEN not in str(visit.cookies), "the cookie isn't the token"
        assert visit.cookies != guest, "whoever planted a cookie before isn't logged in by it"
        assert visit.post("/logout", {}).status == 303
        assert visit.get("/").status == 401
        assert site.visit().get("/", authorization=f"Bearer {TOKEN}").status == 200


def test_a_session_ends_with_the_logout_whoever_has_a_copy_of_its_cookie(shop: Shop) -> None:
    with opened(shop, TOKEN) as site:
        one, other = logged_in(site), logged_in(site)
        copy = dict(one.cookies)
        one.get("/")
        assert one.post("/logout", {}).status == 303
        assert Visit(site.port, copy).get("/").status == 401
        assert other.get("/").status == 200, "other sessions go on"


def logged_in(site: Site) -> Visit:
    visit = site.visit()
    visit.get("/login")
    assert visit.post("/login", {"token": TOKEN}).status == 303
    return visit


def test_no_cookie_tells_a_stranger_anything_of_the_token(shop: Shop) -> None:
    """Two gateways with one token sign differently: nobody can try tokens against a signature at leisure."""
    with opened(shop, TOKEN) as site, opened(shop, TOKEN) as again:
        visit = logged_in(site)
        assert visit.get("/").status == 200
        assert Visit(again.port, visit.cookies).get("/").status == 401


@pytest.mark.parametrize("token", ["x", "fifteen-letters"])
def test_a_token_that_could_be_guessed_is_refused_at_the_start(token: str) -> None:
    with pytest.raises(ConfigError, match=r"INTEGRATIONS_TOKEN holds .* at least 16 were expected") as refused:
        Access(None, token)
    assert "openssl rand" in refused.value.next and token not in str(refused.value).split()


@pytest.mark.parametrize("public", ["https://hooks.example.com", "https://Hooks.example.com:443/in/"])
def test_people_log_in_behind_a_proxy_that_keeps_the_host_for_itself(shop: Shop, public: str) -> None:
    with opened(shop, TOKEN, public) as site:
        visit = site.visit()
        visit.get("/login")
        assert visit.post("/login", {"token": TOKEN}, origin="https://evil.example").status == 403
        assert visit.post("/login", {"token": TOKEN}, origin="http://hooks.example.com").status == 403
        assert visit.post("/login", {"token": TOKEN}, origin="https://hooks.example.com").status == 303
        assert visit.get("/").status == 200


def test_people_log_in_behind_a_proxy_that_passes_the_host_on(shop: Shop) -> None:
    with opened(shop, TOKEN) as site:
        visit = site.visit()
        visit.get("/login")
        named = {"host": "team.example.com:8443", "origin": "https://team.example.com:8443"}
        assert visit.post("/login", {"token": TOKEN}, **named).status == 303


def test_addresses_that_are_none_are_refused(site: Site) -> None:
    assert site.visit().get("/", host="[::1").status == 403
    visit = site.visit()
    visit.get("/")
    assert visit.post("/login", {"token": TOKEN}, origin="http://[::1").status == 403


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x"])
def test_a_login_leads_to_pages_of_ours_only(shop: Shop, to: str) -> None:
    with opened(shop, TOKEN) as site:
        visit = site.visit()
        visit.get("/login")
        assert visit.post("/login", {"token": TOKEN, "to": to}).headers["location"] == "/"


def test_a_cookie_that_was_altered_or_is_of_another_token_is_none(shop: Shop) -> None:
    with opened(shop, TOKEN) as site:
        visit = site.visit()
        visit.get("/login")
        visit.post("/login", {"token": TOKEN})
        ((name, value),) = visit.cookies.items()
        member, rest = value.split(".", 1)
        assert member == "member"
        guest = site.visit()
        guest.get("/login")
        forged = guest.cookies[name].replace("guest", "member", 1)
        for wrong in (forged, value[:-1] + ("0" if value[-1] != "0" else "1"), "", "a.b.c", f"member.{rest}x"):
            assert Visit(site.port, {name: wrong}).get("/").status == 401
        assert Visit(site.port, {name: value}).get("/").status == 200
    with opened(shop, TOKEN + "2") as other:
        assert Visit(other.port, {name: value}).get("/").status == 401


def test_a_row_of_quarantine_is_tried_again_and_discarded(site: Site) -> None:
    fill(site.shop)
    visit = site.visit()
    listed = visit.get("/quarantine")
    assert "updated : " in listed.text and "cat" in listed.text
    assert "cat@example.com" not in listed.html, "samples are masked"
    row = re.search(r'name="id" value="(\d+)"', listed.html)
    assert row
    visit.post("/quarantine/retry", {"id": row[1]})
    assert "0 came in, 1 still in quarantine" in visit.follow().text
    assert visit.post("/quarantine/discard", {"id": row[1], "reason": " "}).status == 409
    visit.get("/quarantine")
    visit.post("/quarantine/discard", {"id": row[1], "reason": "a test row"})
    assert "Nothing is in quarantine" in visit.follow().text
    decided = site.shop.door.rows("SELECT reason FROM integrations.decision WHERE decision = 'discarded'")
    assert decided == [{"reason": "a test row"}]


def test_a_mended_file_lets_the_whole_stream_in(site: Site) -> None:
    fill(site.shop)
    text = (site.shop.door.home / "connections" / "acme.yaml").read_text()
    site.shop.door.write("acme", text.replace('{"type": "timestamp", "required": true}', '{"type": "string"}'))
    visit = site.visit()
    visit.get("/quarantine")
    visit.post("/quarantine/retry", {"connection": "acme", "stream": "contacts"})
    assert "1 came in, 0 still in quarantine" in visit.follow().text
    assert "cat" in site.shop.held("contacts")


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"origin": "https://evil.example"}, None),
        ({"sec_fetch_site": "cross-site"}, None),
        ({}, "0" * 64),
        ({}, ""),
    ],
)
def test_a_form_of_somebody_else_does_nothing(site: Site, headers: dict[str, str], token: str | None) -> None:
    fill(site.shop)
    visit = site.visit()
    visit.get("/quarantine")
    fields = {"id": "1", "reason": "x"} if token is None else {"id": "1", "reason": "x", "form_token": token}
    assert visit.post("/quarantine/discard", fields, **headers).status == 403
    other = site.visit()
    other.get("/quarantine")
    stolen = other.last.form_token if other.last else ""
    assert visit.post("/quarantine/discard", {"id": "1", "reason": "x", "form_token": stolen}).status == 403
    assert site.shop.door.rows("SELECT status FROM integrations.quarantine") == [{"status": "open"}]


CONFLICT = """
INSERT INTO integrations.conflict
    (connection, stream, external_id, kind, canonical_id, field, base, ours, theirs, reason)
SELECT 'acme', 'contacts', external_id, 'customer', canonical_id, %s, '"then"', '"<b>ours</b>"', '"theirs"', 'both'
FROM integrations.link WHERE external_id = %s
"""


@pytest.mark.parametrize(
    ("side", "value", "name"), [("ours", "", "Ann"), ("theirs", "", "theirs"), ("value", "mine", "mine")]
)
def test_a_conflict_is_decided_side_by_side(site: Site, side: str, value: str, name: str) -> None:
    fill(site.shop)
    with site.shop.store.borrow() as session:
        session.execute(CONFLICT, ("name", "ann"))
    visit = site.visit()
    assert "1" in visit.get("/").text
    listed = visit.get("/conflicts")
    assert "as last agreed ours theirs then <b>ours</b> theirs" in listed.text
    assert "<b>ours</b>" not in listed.html, "values are text, never markup"
    row = re.search(r'name="id" value="(\d+)"', listed.html)
    assert row
    visit.post("/conflicts/decide", {"id": row[1], "side": side, "value": value})
    assert "No conflict is open" in visit.follow().text
    assert site.shop.door.rows("SELECT name FROM canonical.customer WHERE email = 'ann@example.com'") == [
        {"name": name}
    ]
    again = visit.post("/conflicts/decide", {"id": row[1], "side": side, "form_token": listed.form_token})
    assert (again.status, "isn't open" in again.text) == (409, True)


def test_a_dead_event_is_tried_again_or_given_up(site: Site) -> None:
    died = """
    WITH dead AS (INSERT INTO integrations.inbox (connection, event_id, hash, payload, headers, status)
        VALUES ('acme', 'e1', '\\x01', '{}', '{}', 'dead'), ('acme', 'e2', '\\x02', '{}', '{}', 'dead')
        RETURNING id, connection)
    INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
    SELECT 'inbox', id, connection, '{"message": "it never fits", "who": "somebody", "next": "mend it"}', 5 FROM dead
    """
    with site.shop.store.borrow() as session:
        session.execute(died)
    visit = site.visit()
    listed = visit.get("/dead-letters?connection=acme")
    assert listed.text.count("it never fits") == 2
    first, second = sorted(set(re.findall(r'name="id" value="(\d+)"', listed.html)))
    visit.post("/dead-letters/retry", {"id": first})
    visit.follow()
    visit.post("/dead-letters/discard", {"id": second, "reason": "old"})
    assert "No dead letter is open" in visit.follow().text
    rows = site.shop.door.rows("SELECT status FROM integrations.inbox ORDER BY id")
    assert [row["status"] for row in rows] == ["received", "discarded"]


def area_of(shown: Shown) -> str:
    found = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", shown.html, re.S)
    assert found, shown.text
    return unescape(found[1])


YAML = """# our shop
connection: acme
every: 15m      # often enough
api: {url: URL, pagination: {type: cursor, read: next, send: after}}
streams:
  contacts:
    request: GET /contacts
    records: items
    primary_key: id
    map:
      to: customer
      fields:
        email: email
        name: name   # as they sign
# the end
"""


def written(shop: Shop) -> Path:
    """The connection's file as a person writes it, synced once."""
    file = shop.door.home / "connections" / "acme.yaml"
    file.write_text(YAML.replace("URL", shop.source.url))
    shop.tables["contacts"] = {key: contact(key) for key in ("ann", "bob")}
    shop.tables["contacts"]["cat"] = {**contact("cat"), "nick": "kitty"}
    shop.poll("contacts")
    return file


def test_a_mapping_is_previewed_and_saved_with_all_comments(shop: Shop) -> None:
    file = written(shop)
    before = file.read_text()
    with opened(shop, "") as site:
        visit = site.visit()
        block = area_of(visit.get("/mapping/acme/contacts"))
        assert block == "to: customer\nfields:\n  email: email\n  name: name   # as they sign\n"
        new = block.replace("name: name ", "name: {first: [nick, name]} ")
        shown = visit.post("/mapping/acme/contacts", {"block": new, "do": "preview", "known": known_in(visit)})
        assert "Of 3 stored records: ! 1 would change ✓ 0 would fail name in 1" in shown.text
        assert file.read_text() == before, "a preview writes nothing"
        known = known_in(visit)
        visit.post("/mapping/acme/contacts", {"block": new, "do": "save", "known": known})
        assert "Saved" in visit.follow().text
        assert file.read_text() == before.replace("name: name ", "name: {first: [nick, name]} ")
        late = visit.post("/mapping/acme/contacts", {"block": block, "do": "save", "known": known})
        assert (late.status, "changed meanwhile" in late.text) == (409, True)
    shop.poll("contacts")
    assert [row["name"] for row in shop.door.rows("SELECT name FROM canonical.customer ORDER BY email")] == [
        "Ann", "Bob", "kitty"
    ]  # fmt: skip


def test_a_mapping_that_would_fail_or_is_wrong_is_told(shop: Shop) -> None:
    file = written(shop)
    before = file.read_text()
    with opened(shop, "") as site:
        visit = site.visit()
        block = area_of(visit.get("/mapping/acme/contacts"))
        failing = block.replace("name: name ", "name: {from: nick, required: true} ")
        shown = visit.post("/mapping/acme/contacts", {"block": failing, "do": "preview", "known": known_in(visit)})
        assert "2 would fail" in shown.text
        for wrong, why in (("name: [", "bracket"), (block.replace("email: email", "emial: email"), "did you mean")):
            shown = visit.post("/mapping/acme/contacts", {"block": wrong, "do": "save", "known": known_in(visit)})
            assert (shown.status, why in shown.text) == (409, True), shown.text
            assert area_of(shown) == wrong, "what was typed isn't lost"
    assert file.read_text() == before


def known_in(visit: Visit) -> str:
    found = re.search(r'name="known" value="([0-9a-f]+)"', visit.last.html if visit.last else "")
    assert found
    return found[1]


def test_a_connectors_mapping_is_changed_in_the_connections_file_only(shop: Shop) -> None:
    connectors = shop.door.home / "connectors"
    connectors.mkdir()
    head, streams = YAML.replace("URL", shop.source.url).replace("# our shop\nconnection: acme\n", "").split("streams:")
    (connectors / "shopper.yaml").write_text(f"connector: shopper\nstreams:{streams}")
    file = shop.door.home / "connections" / "acme.yaml"
    file.write_text(f"# ours\nconnection: acme\nuses: shopper\n{head}")
    with opened(shop, "") as site:
        visit = site.visit()
        block = area_of(visit.get("/mapping/acme/contacts"))
        assert block.startswith("to: customer\n") and "# as they sign" in block
        new = block.replace("email: email", "email: mail").replace("  name: name   # as they sign\n", "")
        visit.post("/mapping/acme/contacts", {"block": new, "do": "save", "known": known_in(visit)})
        assert "Saved" in visit.follow().text
    mapped = shop.connection().streams["contacts"].map
    assert mapped is not None and list(mapped.fields) == ["email"] and str(mapped.fields["email"].from_) == "mail"
    assert file.read_text().startswith(f"# ours\nconnection: acme\nuses: shopper\n{head}")


def of_connector(shop: Shop, name: str) -> Path:
    """The connection's file, whose stream is the connector's; the field name as given."""
    connectors = shop.door.home / "connectors"
    connectors.mkdir()
    head, streams = YAML.replace("URL", shop.source.url).replace("# our shop\nconnection: acme\n", "").split("streams:")
    streams = streams.replace("name: name   # as they sign", f"name: {name}")
    (connectors / "shopper.yaml").write_text(f"connector: shopper\nstreams:{streams}")
    file = shop.door.home / "connections" / "acme.yaml"
    file.write_text(f"connection: acme\nuses: shopper\n{head}")
    return file


CODED = "{from: name, values: {a: b}, else: unknown}"


@pytest.mark.parametrize("do", ["preview", "save"])
def test_what_cannot_be_said_over_the_connectors_mapping_is_refused(shop: Shop, do: str) -> None:
    file = of_connector(shop, CODED)
    before = file.read_text()
    with opened(shop, "") as site:
        visit = site.visit()
        new = area_of(visit.get("/mapping/acme/contacts")).replace("else: unknown", "else: null")
        shown = visit.post("/mapping/acme/contacts", {"block": new, "do": do, "known": known_in(visit)})
    assert (shown.status, file.read_text()) == (409, before)
    assert "`fields.name.else` can't be said over the connector's: there null takes a key away" in shown.text


def test_a_null_that_the_connector_does_not_give_is_said_over_its_mapping(shop: Shop) -> None:
    of_connector(shop, "{from: name, values: {a: b}}")
    with opened(shop, "") as site:
        visit = site.visit()
        new = area_of(visit.get("/mapping/acme/contacts")).replace("{a: b}}", "{a: b}, else: null}")
        visit.post("/mapping/acme/contacts", {"block": new, "do": "save", "known": known_in(visit)})
        assert "else: null" in area_of(visit.follow())
    shop.tables["contacts"] = {"ann": contact("ann")}
    assert shop.poll("contacts").status == "succeeded"
    assert shop.door.rows("SELECT name FROM canonical.customer") == [{"name": None}]


def test_a_mapping_over_the_connectors_is_edited_whole_again(shop: Shop) -> None:
    """Not only the part of it that the file says; and back to what the connector says."""
    file = of_connector(shop, "name")
    with opened(shop, "") as site:
        visit = site.visit()
        first = area_of(visit.get("/mapping/acme/contacts"))
        for new in (first.replace("email: email", "email: mail"), first):
            visit.post("/mapping/acme/contacts", {"block": new, "do": "save", "known": known_in(visit)})
            shown = area_of(visit.follow())
            assert data_of(shown) == data_of(new)
    mapped = shop.connection().streams["contacts"].map
    assert mapped is not None and [str(one.from_) for one in mapped.fields.values()] == ["email", "name"]
    assert "email" not in file.read_text()


def test_comments_over_the_connectors_mapping_are_kept(shop: Shop) -> None:
    file = of_connector(shop, "name")
    over = "streams:\n  contacts:\n    map:\n      fields:\n        email: mail   # since May\n"
    file.write_text(file.read_text() + over)
    with opened(shop, "") as site:
        visit = site.visit()
        page = visit.get("/mapping/acme/contacts")
        assert area_of(page) == "fields:\n  email: mail   # since May\n"
        assert "With the connector's to: customer fields: {email: mail, name: name}" in page.text
        new = area_of(page).replace("mail ", "mail2 ")
        visit.post("/mapping/acme/contacts", {"block": new, "do": "save", "known": known_in(visit)})
    assert file.read_text().endswith(over.replace("mail ", "mail2 "))


def test_a_file_of_windows_keeps_its_line_ends(shop: Shop) -> None:
    file = written(shop)
    before = file.read_bytes().replace(b"\n", b"\r\n")
    file.write_bytes(before)
    with opened(shop, "") as site:
        visit = site.visit()
        new = area_of(visit.get("/mapping/acme/contacts")).replace("email: email", "email: mail")
        visit.post("/mapping/acme/contacts", {"block": new, "do": "save", "known": known_in(visit)})
        assert "Saved" in visit.follow().text
    assert file.read_bytes() == before.replace(b"email: email", b"email: mail")


def test_a_connection_is_made_from_the_catalogue(site: Site) -> None:
    home = site.shop.door.home
    shutil.copytree(checkout() / "models", home / "models", dirs_exist_ok=True)
    visit = site.visit()
    assert "stripe" in visit.get("/connections/new").text
    visit.get("/connections/new?uses=shopify")
    fields = {"uses": "shopify", "name": "berlin", "every": "30m", "setting.shop": "acme"}
    fields["secret.token"] = "BERLIN_TOKEN"
    typed_secret = visit.post("/connections/new", {**fields, "secret.token": "shpat_0123456789abcdef"})
    assert (typed_secret.status, "never the secret itself" in typed_secret.text) == (409, True)
    for wrong in ({"name": "acme"}, {"name": "../x"}, {"every": "never"}, {"setting.shop": ""}):
        assert visit.post("/connections/new", {**fields, **wrong}).status == 409
    visit.post("/connections/new", fields)
    assert "connections/berlin.yaml is written" in visit.follow().text
    made = load_connection("berlin", Home(home))
    assert (made.api.url, str(made.secrets["token"].env)) == (
        "https://acme.myshopify.com/admin/api/2026-10",
        "BERLIN_TOKEN",
    )
    assert "berlin" in visit.get("/").text, "it is live without a restart"
    visit.get("/connections/new?uses=shopify")
    assert visit.post("/connections/new", fields).status == 409


def test_a_records_life_is_a_page(site: Site) -> None:
    fill(site.shop)
    visit = site.visit()
    visit.get("/why?stream=acme/contacts&id=ann")
    found = visit.follow()
    assert "stored it is here" in found.text and "What happened" in found.text
    assert '"ann@example.com"' in found.text, "each field on its way, and the record"
    assert "in quarantine" in visit.get("/why/acme/contacts/cat").text
    assert "nothing was ever seen of it" in visit.get("/why/acme/contacts/no%2Fsuch%3Cb%3E").text
    assert visit.get("/why/acme/nothing/x").status == 409
