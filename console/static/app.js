// The little that a page does by itself: the state of its stream, keys, the palette, copying, colours. It decides nothing.
"use strict";
(() => {
  const $ = (selector, root) => (root || document).querySelector(selector);
  const $$ = (selector, root) => Array.from((root || document).querySelectorAll(selector));
  const store = { get: (name) => { try { return localStorage.getItem(name); } catch { return null; } }, set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* private window */ } } };

  // ── commands carry the token of this session ──
  document.addEventListener("htmx:config:request", (event) => {
    const request = event.detail.ctx.request;
    if (request.method !== "GET") request.headers["X-QD-Form"] = document.body.dataset.formToken;
    const form = event.detail.ctx.sourceElement.closest("form");
    if (form && begun.has(form) && request.body.has("target_revision")) request.body.set("target_revision", begun.get(form));
  });
  // a form stands for the revision that was shown when its user began to change it, also when patches bring a newer one: what somebody else
  // changed since is a conflict that is told, and not written over
  const begun = new WeakMap();
  document.addEventListener("input", (event) => {
    const form = event.target.form, revision = form && form.elements.namedItem("target_revision");
    if (revision && event.target === revision) begun.delete(form);
    else if (revision && !begun.has(form)) begun.set(form, revision.value);
  });
  document.addEventListener("htmx:before:request", (event) => {
    const form = event.detail.ctx.sourceElement.closest("form");
    if (form) $$("button", form).forEach((button) => { if (button.type === "submit") button.setAttribute("aria-busy", "true"); });
  });
  // a key that was decided on is used up: the next thing that this form asks is another request. While it is not known whether it was
  // decided (503, 504, no answer) the key stays, so that sending it again takes effect once.
  document.addEventListener("htmx:after:request", (event) => {
    const { sourceElement, response, request } = event.detail.ctx;
    const form = sourceElement.closest("form");
    const key = form && form.querySelector('input[name="key"]');
    if (key && request.method === "POST" && response && response.status < 500) key.value = crypto.randomUUID();
    if (form && response && response.status === 200 && form.closest("#bulk-dialog")) unpick();
    if (form && response && (response.status === 409 || (response.status === 200 && !event.detail.ctx.sourceElement.getAttribute("hx-vals")))) begun.delete(form);
  });
  // the key of a form is this browser's own: patches, which many get, bring none, and leave the one that is there (morphSkip)
  document.addEventListener("htmx:sse:after:message", () => {
    $$('input[name="key"]').forEach((key) => { if (!key.value || key.value.startsWith("-")) key.value = crypto.randomUUID(); });
  });
  document.addEventListener("htmx:finally:request", (event) => {
    const form = event.detail.ctx.sourceElement.closest("form");
    if (form) $$("button[aria-busy]", form).forEach((button) => button.removeAttribute("aria-busy"));
    if (form && form.dataset.opensDialog && event.detail.ctx.response) open(form.dataset.opensDialog);
    // what was focused may be gone with the answer: the keyboard goes on inside the dialog
    const several = $("#bulk-dialog[open]"), close = several && $("[data-closes]", several);
    if (close && (!several.contains(document.activeElement) || document.activeElement === several)) close.focus();
    const made = form && form.id === "policy-form" && $("#policy-outcome .receipt.good[data-revision]");
    if (made) { $("#target-revision").value = made.dataset.revision; $("#seen-revision").textContent = made.dataset.revision; }
  });
  document.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx && event.detail.ctx.request.method !== "GET") say("The console did not answer. Your input is kept; send it again: with the same key it takes effect once.", "bad");
  });
  function say(text, tone) {
    const box = document.createElement("div");
    box.className = `receipt ${tone}`;
    box.setAttribute("role", tone === "bad" ? "alert" : "status");
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button"; close.className = "quiet"; close.dataset.dismiss = ""; close.setAttribute("aria-label", "Close"); close.textContent = "✕";
    box.append(words, close);
    $("#outcome").append(box);
  }

  // ── live: what the stream says of itself; it never changes what the page says of the work ──
  const live = $("#live");
  let heard = 0, lost = 0;
  function show(state, seq) {
    if (!live) return;
    if (live.dataset.state !== state) { live.dataset.state = state; $(".word", live).textContent = state; }
    if (seq) $(".seq", live).textContent = seq;
    const banner = $("#behind");
    const since = lost ? Math.round((Date.now() - lost) / 1000) : 0;
    const late = (state === "reconnecting" || state === "behind") && since >= 5;
    banner.hidden = !late;
    if (late) banner.textContent = state === "reconnecting"
      ? `The console has not answered for ${since} s. What you see is as of ${new Date(lost).toLocaleTimeString()}; the work itself goes on.`
      : `The console has lost the bus. What you see is as of ${new Date(lost).toLocaleTimeString()}; the work itself goes on.`;
  }
  function fail(state) { if (!lost) lost = Date.now(); show(state); }
  document.addEventListener("htmx:sse:error", () => fail("reconnecting"));
  document.addEventListener("htmx:sse:before:connection", (event) => { if (event.detail.connection.attempt > 0) fail("reconnecting"); });
  document.addEventListener("htmx:sse:after:connection", (event) => { if (event.detail.connection.status === 200) heard = Date.now(); });
  document.addEventListener("htmx:sse:after:message", (event) => {
    heard = Date.now();
    const id = event.detail.message.id;
    if (!event.detail.message.event) { lost = 0; show("live", id); }
  });
  document.addEventListener("qd-beat", (event) => {
    const [state, seq] = event.detail.data.split(" ");
    heard = Date.now();
    if (state === "live") { lost = 0; show("live", seq); } else fail("behind");
  });
  if ($("#stream")) setInterval(() => {
    if (heard && Date.now() - heard > 12000) fail("reconnecting"); else if (lost) show(live.dataset.state);
  }, 1000);

  // ── times that go on ──
  function words(s) {
    if (s < 10) return `${Math.max(0, s).toFixed(1)}s`;
    if (s < 60) return `${Math.round(s)}s`;
    if (s < 3600) return `${Math.floor(s / 60)}m ${String(Math.floor(s % 60)).padStart(2, "0")}s`;
    if (s < 86400) return `${Math.floor(s / 3600)}h ${String(Math.floor(s % 3600 / 60)).padStart(2, "0")}m`;
    return `${Math.floor(s / 86400)}d ${Math.floor(s % 86400 / 3600)}h`;
  }
  setInterval(() => {
    if (document.hidden) return;
    const now = Date.now() / 1000;
    $$("[data-running]").forEach((place) => { place.textContent = words(now - Number(place.dataset.running)); });
    $$("[data-since]").forEach((place) => { const s = now - Number(place.dataset.since); place.textContent = s < 1 ? "now" : `${words(s)} ago`; });
  }, 1000);

  // ── clicks ──
  document.addEventListener("click", async (event) => {
    const target = event.target.closest("[data-copy], [data-dismiss], [data-opens], [data-closes], [data-theme-toggle]");
    if (!target) return;
    if (target.dataset.copy !== undefined) {
      try { await navigator.clipboard.writeText(target.dataset.copy); target.textContent = "copied"; } catch { target.textContent = "not copied"; }
      setTimeout(() => { target.textContent = "copy"; }, 1500);
    } else if (target.dataset.dismiss !== undefined) {
      target.closest(".receipt").remove();
    } else if (target.dataset.opens) {
      open(target.dataset.opens);
    } else if (target.dataset.closes !== undefined) {
      target.closest("dialog").close();
    } else {
      const order = ["", "light", "dark"];
      theme(order[(order.indexOf(store.get("theme") || "") + 1) % 3]);
    }
  });
  function theme(name) {
    store.set("theme", name);
    if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
  }
  theme(store.get("theme") || "");
  function open(name) {
    const dialog = document.getElementById(name);
    if (!dialog || dialog.open) return;
    dialog.showModal();
    if (name === "palette") { $("#palette-input").value = ""; fill(); $("#palette-input").focus(); }
  }

  // ── the launch form: presets fill the same fields that can be edited; what differs is marked ──
  document.addEventListener("change", (event) => {
    if (event.target.dataset.submits !== undefined) event.target.form.requestSubmit();
    if (event.target.dataset.preset) preset(event.target.dataset.preset);
    if (event.target.dataset.setsModels !== undefined && event.target.value) {
      $$('[data-field^="model."][data-kind="text"] input').forEach((input) => { input.value = event.target.value; });
      filled();
    }
    if (event.target.closest("#policy, #policy-form")) marks();
  });
  function inputs(field) { return $$("input:not([type=hidden]), select", field); }
  function value(field) {
    const found = inputs(field);
    if (field.dataset.kind === "gates") return JSON.stringify(found.filter((box) => box.checked).map((box) => box.value));
    if (field.dataset.kind === "switch") return JSON.stringify(found[0].checked);
    return found[0].value.replace(/\s/g, "");
  }
  function asText(kind, json) {
    const wanted = JSON.parse(json);
    if (kind === "gates" || kind === "switch") return JSON.stringify(wanted);
    return wanted === null ? "" : Array.isArray(wanted) ? wanted.join(",") : String(wanted);
  }
  function preset(name) {
    $$("[data-field]").forEach((field) => put(field, JSON.parse(field.dataset[name])));
    filled();
  }
  function put(field, wanted) {
    inputs(field).forEach((input) => {
      if (field.dataset.kind === "gates") input.checked = wanted.includes(input.value);
      else if (field.dataset.kind === "switch") input.checked = wanted;
      else input.value = wanted === null ? "" : Array.isArray(wanted) ? wanted.join(", ") : wanted;
    });
  }
  function filled() { marks(); const form = $("#launch"); if (form) form.dispatchEvent(new Event("policy-filled", { bubbles: true })); }
  function marks() {
    const chosen = $("[data-preset]:checked");
    $$("[data-field]").forEach((field) => {
      const before = chosen ? field.dataset[chosen.dataset.preset] : field.dataset.shown;
      field.classList.toggle("changed", value(field) !== asText(field.dataset.kind, before));
    });
  }
  marks();

  // a conflict is taken over field by field: what they changed and you did not comes in, what you changed stays yours
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-takes-revision]");
    if (!button) return;
    const theirs = JSON.parse(button.dataset.theirs);
    $$("[data-field]").forEach((field) => { if (field.dataset.field in theirs) put(field, theirs[field.dataset.field]); });
    $("#target-revision").value = button.dataset.takesRevision;
    $("#seen-revision").textContent = button.dataset.takesRevision;
    $("#policy-form").requestSubmit();
  });

  // ── several runs at once: what is ticked stays ticked while the rows are patched ──
  const bulk = $("#bulk");
  function picks() { return $$('input[name="ids"][form="bulk"]').filter((box) => !box.disabled); }
  function picked() {
    const boxes = picks(), ticked = boxes.filter((box) => box.checked).length, all = $("#bulk-all").checked;
    const said = all ? "all of them, also those on other pages" : ticked ? `${ticked} selected` : "none selected";
    if ($("#bulk-count").textContent !== said) $("#bulk-count").textContent = said;
    $$("[data-needs-selection]", bulk).forEach((button) => {
      if (button.dataset.locked !== undefined) return;
      const why = all || ticked ? "" : bulk.dataset.nothingSelected;
      button.disabled = why !== "";
      button.title = why;
      if (why) button.setAttribute("aria-description", why); else button.removeAttribute("aria-description");
    });
    const page = $("#pick-page");
    if (page) { page.checked = boxes.length > 0 && ticked === boxes.length; page.indeterminate = ticked > 0 && ticked < boxes.length; }
  }
  function unpick() { picks().forEach((box) => { box.checked = false; }); $("#bulk-all").checked = false; picked(); }
  if (bulk) {
    document.addEventListener("change", (event) => {
      if (event.target.dataset.picksAll !== undefined) picks().forEach((box) => { box.checked = event.target.checked; });
      picked();
    });
    new MutationObserver(picked).observe($("#runs"), { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled"] });
    picked();
  }

  // ── palette ──
  const pages = [["Runs", "/"], ["Launch", "/launch"], ["Inbox", "/inbox"], ["Nodes", "/nodes"], ["Audit", "/audit"], ["Metrics", "/metrics"], ["Catalogue", "/catalogue"], ["Flags", "/flags"]];
  let chosen = 0;
  function offers() {
    const text = $("#palette-input").value.trim().toLowerCase();
    const found = pages.filter(([word]) => word.toLowerCase().includes(text));
    if (/^[a-z][a-z0-9-]*-o\d+$/.test(text)) found.unshift([`Open ${text}`, `/orchestrations/${text}`]);
    if (/^[a-z][a-z0-9-]*-a\d+$/.test(text)) found.unshift([`Action ${text}`, `/audit?action=${text}`]);
    if (/^[a-z][a-z0-9-]*-d\d+$/.test(text)) found.unshift([`Design ${text}`, `/designs/${text}`]);
    $$("[data-command]").forEach((control) => { if (!control.disabled && text && control.dataset.command.toLowerCase().includes(text)) found.push([control.dataset.command, control]); });
    return found.slice(0, 12);
  }
  function fill() {
    const list = $("#palette-list");
    list.replaceChildren(...offers().map(([word], index) => {
      const row = document.createElement("li");
      row.setAttribute("role", "option"); row.setAttribute("aria-selected", String(index === chosen)); row.textContent = word; row.dataset.index = index;
      return row;
    }));
  }
  function go(index) {
    const found = offers()[index];
    if (!found) return;
    $("#palette").close();
    if (typeof found[1] === "string") location.assign(found[1]); else { found[1].focus(); found[1].click(); }
  }
  $("#palette-input").addEventListener("input", () => { chosen = 0; fill(); });
  $("#palette-list").addEventListener("click", (event) => { const row = event.target.closest("li"); if (row) go(Number(row.dataset.index)); });
  $("#palette-input").addEventListener("keydown", (event) => {
    const count = offers().length;
    if (event.key === "ArrowDown") { chosen = (chosen + 1) % Math.max(1, count); fill(); event.preventDefault(); }
    if (event.key === "ArrowUp") { chosen = (chosen + count - 1) % Math.max(1, count); fill(); event.preventDefault(); }
    if (event.key === "Enter") { go(chosen); event.preventDefault(); }
  });

  // ── keys: never in an input, never with a modifier, and they can be switched off ──
  const switchOff = $("#keys-off");
  switchOff.checked = store.get("keys") === "off";
  switchOff.addEventListener("change", () => store.set("keys", switchOff.checked ? "off" : "on"));
  const places = { r: "/", l: "/launch", i: "/inbox", n: "/nodes", a: "/audit", m: "/metrics", c: "/catalogue", f: "/flags" };
  let going = 0;
  function rows() { return $$("main tbody tr").filter((row) => $("a", row) && !row.closest("dialog")); }
  function step(by) {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.contains(document.activeElement));
    $("a", all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))]).focus();
  }
  function tick() {
    const row = document.activeElement.closest("tbody tr"), box = row && $('input[name="ids"]', row);
    if (box) box.click();
  }
  function turn(by) {
    const tabs = $$(".tabs a");
    const at = tabs.findIndex((tab) => tab.getAttribute("aria-current"));
    if (tabs.length) tabs[(at + by + tabs.length) % tabs.length].click();
  }
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { open("palette"); event.preventDefault(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || switchOff.checked || event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog[open]")) return;
    const key = event.key;
    if (going && Date.now() - going < 1200 && places[key]) { going = 0; location.assign(places[key]); return; }
    going = 0;
    if (key === "g") going = Date.now();
    else if (key === "?") open("keys");
    else if (key === "/") { const field = $("main [type=search]") || $("main .filters select"); if (field) { field.focus(); event.preventDefault(); } }
    else if (key === "j") step(1);
    else if (key === "k") step(-1);
    else if (key === "x") tick();
    else if (key === "o" && document.activeElement.matches("main tbody a")) document.activeElement.click();
    else if (key === "[") turn(-1);
    else if (key === "]") turn(1);
  });
})();
