/** What happens to packets of one address, why, what it did, and what can be done about it. */

import { address, badge, button, go, link } from "../cells.js";
import { addRule, ban } from "../changes.js";
import { ask } from "../daemon.js";
import { values } from "../dialog.js";
import { card, empty, facts, fill, h, select, table } from "../dom.js";
import { exact, octets, until, when } from "../words.js";
import { flowTable } from "./history.js";
import { threatTable } from "./threats.js";

const WAYS = [["ingress", "what comes from it"], ["egress", "what goes to it"]];

export default function explain({ address: asked = "", direction = "ingress", service = "" }) {
    const body = h("div", { class: "stack" });
    const form = h("form", { class: "filter", onchange: apply, onsubmit: apply },
        h("label", {}, "Address", h("input", { name: "address", value: asked, required: true, spellcheck: "false" })),
        h("label", {}, select("direction", "Direction", WAYS, direction)),
        h("label", {}, "for", h("input", { name: "service", value: service, placeholder: "any service, or tcp/443", spellcheck: "false" })));

    function apply(event) {
        event.preventDefault();
        go("explain", values(form));
    }

    return {
        element: h("div", { class: "stack" }, form, body),
        every: 10,
        async refresh() {
            if (!asked)
                return fill(body, empty("Which address?", "Write one above, or follow any address on these pages."));
            const found = await ask("Explain", { address: asked, direction, ...(service && { service }) });
            fill(body, verdict(found), card("What has a say, strongest first", decisions(found.decisions)),
                found.threats.length > 0 && card("Threats", threatTable(found.threats)),
                card("Flows", found.flows.length ? flowTable(found.flows)
                    : empty("None is stored.", "It has not been seen, or longer ago than the history goes back.")));
        },
    };
}

function verdict(found) {
    const way = found.direction === "ingress" ? "What comes from" : "What goes to";
    const seen = found.last_seen && `${when(found.first_seen)} to ${when(found.last_seen)}`;
    const tools = [
        button("Ban", () => ban(found.address), { changes: true, kind: "danger" }),
        button("Allow", () => addRule(found.address, "allow"), { changes: true }),
        button("Add a rule", () => addRule(found.address), { changes: true }),
    ];
    return card(h("span", {}, `${way} ${found.address}${found.service ? ` for ${found.service}` : ""}: `, badge(found.action)), facts([
        ["Because of", found.reason === "default" ? "the default: nothing else has a say" : `a ${found.reason}`.replace("a allow", "the allow").replace("a guard", "the guard")],
        ["It sent", found.packets ? `${exact(found.packets)} packets, ${octets(found.bytes)}, of which ${exact(found.dropped_packets)} packets were dropped` : "nothing that is stored"],
        seen && ["Seen", seen],
        ["See also", h("span", {}, h("a", { href: link("live", { match: found.address }), "data-key": "live" }, "what it does now"), ", ",
            h("a", { href: link("history", { host: found.address, since: 86400 }), "data-key": "history" }, "its last day"))],
    ]), tools);
}

function decisions(rows) {
    return table([
        ["", row => row.wins ? "decides" : ""],
        ["Kind", row => row.kind],
        ["Prefix", row => address(row.prefix)],
        ["Action", row => badge(row.action)],
        ["Services", row => (row.ports || ["all"]).join(", ")],
        ["Label", row => row.label ?? ""],
        ["Until", row => row.expires ? until(row.expires) : ""],
        ["Where", row => row.source ?? "", "where wide"],
        ["Why not", row => row.wins ? "" : row.why ?? ""],
    ], rows);
}
