"""Days in Cockpit alone, in a real Chromium: somebody who may not look, one who may, and an administrator.

    nsenter -t LEADER --net /usr/bin/python3 tests/system/cockpit_day.py NAME FOLDER LEADER PICTURES

The browser has to be in the machine's network, so this is a process of its own there, which `in_cockpit.py`
starts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from browser import DESKTOP, PHONE, Browser
from debian import Failure, Machine
from host import GATEWAY, PEER, Host, must, soon
from in_cockpit import PASSWORD
from selenium.webdriver.common.keys import Keys

VIEWS = ("overview", "live", "threats", "rules", "history", "usage", "audit", f"explain?address={PEER}")
FIRST_NUMBERS_S = 1.0
LONG = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:fff"  # and a digit: 1 is the machine, 2 the neighbour
# How many pixels of the page, or of a card of it, can only be seen after scrolling aside.
_OVERHANG = """return Math.max(...[document.documentElement, ...document.querySelectorAll(".card")]
    .map(each => each.scrollWidth - each.clientWidth))"""


def a_stranger_is_told(page: Browser, _: Host) -> str:
    """who is in no group of trafficmon's is told how to come in"""
    page.log_in("nobody-yet", PASSWORD)
    page.see("#trouble", "may not read trafficmon")
    page.see("#trouble code", "usermod -aG trafficmon nobody-yet")
    return ""


def a_reader_looks(page: Browser, _: Host) -> str:
    """a member of trafficmon sees numbers within a second and every view, and cannot change anything"""
    page.log_in("looker", PASSWORD)
    page.see("#access", "Limited access")
    took = min(page.first_numbers_s() for _ in range(3))
    must(took < FIRST_NUMBERS_S, f"first numbers within {FIRST_NUMBERS_S:.0f} s", f"{took:.2f} s")
    page.go("live")
    page.see("td a", PEER)
    must(not page.see("td button", "Ban").is_enabled(), "a button that cannot be pressed", "one that can")
    must("Limited access" in str(page.see("td button", "Ban").get_attribute("title")), "the reason", "none")
    page.go("rules")
    must(not page.see("button", "Add a rule").is_enabled(), "no rule by a reader", "the button")
    return f"first numbers after {took:.2f} s"


def rests_while_hidden(page: Browser, host: Host) -> str:
    """with another page of Cockpit's in front it has no connection; back in front it goes on"""
    others = host.json("status")["control"]["clients"] - 1
    page.turn_to("/system")
    soon(lambda: host.json("status")["control"]["clients"] == others, "the page's connection closed")
    page.turn_to("/trafficmon")
    page.enter()
    soon(lambda: host.json("status")["control"]["clients"] > others, "a connection again")
    return ""


def every_view_is_fit_to_be_seen(page: Browser, host: Host) -> str:
    """each view, on a desk and on a phone, light and dark, with long names: nothing is wider than screen or card"""
    host.run(f"ip netns exec peer ping -q -i 0.02 -c 100 {LONG}1")
    host.run(
        f"trafficctl ban 203.0.113.99 --reason {'r' * 150} && trafficctl add-cidr 203.0.113.98 --label {'l' * 150}"
    )
    page.go("history")
    page.see("td a", f"{LONG}2")
    for view in VIEWS:
        name = view.split("?")[0]
        page.go(view)
        page.see("#view .card, #view .tile")
        time.sleep(0.5)  # what it asked for is there
        for size, device in ((DESKTOP, "desk"), (PHONE, "phone")):
            for dark in (False, True):
                page.look_like(size, dark=dark)
                page.wait_for_theme(dark=dark)
                page.shoot(f"{name}-{device}-{'dark' if dark else 'light'}")
            wide = page.script(_OVERHANG)
            must(wide == 0, f"{name} no wider than the {device}", f"{wide} pixels more")
    page.look_like(DESKTOP, dark=False)
    host.run("trafficctl unban 203.0.113.99 --all && trafficctl remove-cidr 203.0.113.98")
    return f"{len(VIEWS)} views"


def an_administrator_steps_in(page: Browser, _: Host) -> str:
    """who may use sudo and is in no group of ours: nothing at first, all with administrative access"""
    page.log_in("boss", PASSWORD)
    page.see("#trouble", "Turn on administrative access")
    page.become_administrator(PASSWORD)
    page.see(".tile", "live flows")
    page.miss("#access")
    return ""


def bans_the_top_talker_and_lifts(page: Browser, host: Host) -> str:
    """ten minutes of a stranger's: finds the top talker, bans it, sees it in the audit, lifts it"""
    page.go("live")
    page.see("tr", "own address")  # this host is among them, and has no button
    page.see("tbody tr", PEER)
    page.click(f"[data-key='ban {PEER}']")
    page.write("dialog [name=reason]", "talks too much")
    page.shoot("ban-dialog")
    page.click("dialog button", "Ban")
    page.see("#result", f"{PEER} is banned until")
    must(host.ping() == 0, "no ping of the banned answered", "some")
    page.go("audit")
    page.see("tr", "boss as root")
    page.see("tr", "talks too much")
    page.shoot("audit-of-the-ban")
    page.go("rules")
    page.click(f"[data-key^='lift {PEER}']")
    page.click("dialog button", "Lift the ban")
    page.see("#result", "lifted")
    must(host.ping() == 3, "pings answered again", "not all")
    entry = host.json("audit")[0]
    must((entry["user"], entry["login"], entry["change"]) == ("root", "boss", "unban"), "boss behind root", entry)
    return host.run("trafficctl audit --limit 2").stdout


def a_question_that_is_none_is_said(page: Browser, _: Host) -> str:
    """an address that is none is told as that, for as long as it is asked about; the next view is as ever"""
    page.write("#explain input", "no address\n")
    page.see("#trouble", "no address")
    time.sleep(3)
    page.see("#trouble", "no address")
    page.go("rules")
    page.miss("#trouble")
    page.see("button", "Add a rule")
    return ""


def is_kept_from_harm(page: Browser, host: Host) -> str:
    """a ban of the gateway is refused in words, and can be insisted on; a mistake is said in the dialog"""
    page.click("button", "Ban an address")
    page.write("dialog [name=cidr]", "300.1.1.1")
    page.click("dialog .danger", "Ban")
    page.see("dialog .trouble", "300.1.1.1")
    page.write("dialog [name=cidr]", GATEWAY)
    page.click("dialog .danger", "Ban")
    page.see("dialog .trouble", "default gateway of this host")
    page.see("dialog .danger", "Do it anyway")
    page.shoot("refused")
    page.click("dialog button", "Cancel")
    page.miss("dialog")
    bans = [ban["cidr"] for ban in host.json("bans")]
    must(f"{GATEWAY}/32" not in bans, "the gateway not banned", bans)
    return ""


def adds_and_removes_rules(page: Browser, host: Host) -> str:
    """a mistake is in sight on a phone; a rule is added by the keyboard and removed; one of a file cannot be here"""
    page.look_like(PHONE, dark=False)
    page.click("button", "Add a rule")
    page.write("dialog [name=cidr]", "300.1.1.1")
    page.click("dialog .primary", "Add")
    page.see("dialog .trouble", "Address or prefix: '300.1.1.1'")
    below = page.script("return document.querySelector('dialog .buttons').getBoundingClientRect().bottom - innerHeight")
    must(float(str(below)) <= 0, "the mistake and the buttons below it in sight", f"{below} pixels below")
    page.write("dialog [name=cidr]", "198.51.100.0/24")
    page.choose("dialog [name=action]", "Limit the rate")
    page.click("dialog .primary", "Add")
    page.see("dialog .trouble", "Packets a second: is missing")
    page.click("dialog button", "Cancel")
    page.look_like(DESKTOP, dark=False)
    page.tab_to("Add a rule")
    page.type(Keys.ENTER, "198.51.100.0/24", *[Keys.TAB] * 4, "tcp/25, 465", Keys.TAB, "no mail", Keys.ENTER)
    page.see("tr", "no mail")
    rule = next(row for row in host.json("rules") if row["cidr"] == "198.51.100.0/24")
    must((rule["source"], rule["ports"]) == ("runtime", ["tcp/25", "465"]), "a rule for two services", rule)
    page.see("tr", "edit its file")
    page.click("[data-key^='remove 198.51.100.0/24']")
    page.click("dialog .danger", "Remove")
    page.see("#result", "was removed")
    page.miss("tr", "no mail")
    return ""


def tries_out_a_rule(page: Browser, host: Host) -> str:
    """a rule on probation is told with the time it has, and is kept or taken back by a button"""
    for answer, stays in (("Take it back", False), ("Keep it", True)):
        page.click("button", "Add a rule")
        page.write("dialog [name=cidr]", "198.51.100.7")
        page.click("dialog [name=trial]")
        page.click("dialog button", "Add")
        page.see("#probation", "198.51.100.7")
        page.see("#probation", "unless somebody confirms it")
        page.shoot("probation")
        page.click("#probation button", answer)
        page.miss("#probation")
        there = any(row["cidr"] == "198.51.100.7" for row in host.json("rules"))
        must(there is stays, f"the rule {'there' if stays else 'gone'} after “{answer}”", there)
    host.run("trafficctl remove-cidr 198.51.100.7")
    return ""


def outlives_the_daemon(page: Browser, host: Host) -> str:
    """the daemon is stopped, started from the page, and restarted under it: the page says so and goes on"""
    page.go("overview")
    page.see(".tile", "live flows")
    host.run("systemctl stop trafficmond")
    page.see("#trouble", "trafficmond is not running")
    page.shoot("stopped")
    page.click("#trouble button", "Start trafficmond")
    page.miss("#trouble")
    host.run("systemctl restart trafficmond")
    page.go("live")
    page.see("td a", PEER, within=15)
    page.miss("#trouble")
    return ""


def names_a_keeper(page: Browser, host: Host) -> str:
    """a member of trafficmon-admin changes with limited access, under the own name"""
    page.log_in("keeper", PASSWORD)
    page.go("explain?address=203.0.113.77")
    page.click("#view button", "Ban")
    page.click("dialog .danger", "Ban")
    page.see("#result", "203.0.113.77 is banned")
    entry = host.json("audit")[0]
    must((entry["user"], entry["login"]) == ("keeper", "keeper"), "the keeper's own name", entry)
    host.run("trafficctl unban 203.0.113.77 --all")
    return ""


DAY: tuple[Callable[[Browser, Host], str], ...] = (
    a_stranger_is_told,
    a_reader_looks,
    rests_while_hidden,
    every_view_is_fit_to_be_seen,
    an_administrator_steps_in,
    bans_the_top_talker_and_lifts,
    a_question_that_is_none_is_said,
    is_kept_from_harm,
    adds_and_removes_rules,
    tries_out_a_rule,
    outlives_the_daemon,
    names_a_keeper,
)


def main(name: str, folder: str, leader: str, pictures: str) -> int:
    """Goes through the day; what fails is said with what the page shows."""
    machine = Machine(name, Path(folder))
    machine.leader = int(leader)
    host = Host(machine)
    page = Browser(Path(pictures))
    add = f"address add dev {{}} nodad {LONG}{{}}/112"
    host.run(f"ip {add.format('uplink', 1)}; ip -n peer {add.format('eth0', 2)}")
    talker = host.popen(f"exec ip netns exec peer ping -q -I {PEER} -s 1000 -i 0.02 192.0.2.1")
    try:
        for step in DAY:
            began = time.monotonic()
            said = step(page, host)
            must(not (complaints := page.complaints()), "nothing in the browser's console", "\n".join(complaints))
            print(f"{time.monotonic() - began:5.1f} s  {(step.__doc__ or '').strip()}")
            print("".join(f"{'':9}{line}\n" for line in said.strip().splitlines()), end="")
    except Failure as failure:
        page.shoot("failed")
        print(f"FAILED  {(step.__doc__ or '').strip()}\n{failure}\n(the window: {pictures}/failed.png)")
        print(*page.complaints(), sep="\n")
        return 1
    finally:
        page.close()
        host.run("pkill -x ping", check=False)
        talker.wait(10)
        host.run(f"ip address del dev uplink {LONG}1/112")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
