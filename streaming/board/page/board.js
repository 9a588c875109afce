"use strict";
// Everything that came over the wire is shown as text, never as markup.
const RANK = { none: 0, watch: 1, warning: 2, critical: 3 };
const STALE_MS = 6000; // the server sends at least every five seconds
const REFRESH_MS = 5000;
const OLD_MS = 15 * 60_000; // a ward without any new score for so long is marked
const SHOWN = 200;
const KEPT_ALERTS = 50;
const rows = new Map(); // patient -> { data, decided (ms), element }
const byId = (id) => document.getElementById(id);
let heard = Date.now();
let newest = 0; // when the ward's newest score was made, ms; 0 = there is none

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (className) made.className = className;
  return made;
}

function percent(value) { return value === null ? "–" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`; }

function age(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function ago(ms, now, more = 0) { return age(more + Math.max(0, now - ms) / 1000); }

// A time of day, with the date unless it is today's.
function moment(ms, now) {
  const then = new Date(ms);
  const today = then.toDateString() === new Date(now).toDateString();
  return today ? then.toLocaleTimeString() : then.toLocaleString();
}

// An element whose text depends on the time; `refresh` keeps it true.
function telling(tag, say, className) {
  const made = element(tag, say(Date.now()), className);
  made.say = say;
  made.classList.add("telling");
  return made;
}

function refresh() {
  const now = Date.now();
  for (const told of document.querySelectorAll(".telling")) {
    const text = told.say(now);
    if (told.textContent !== text) told.textContent = text;
  }
  byId("newest").textContent = newest === 0 ? "" : `newest score ${ago(newest, now)} ago`;
  byId("newest").classList.toggle("old", newest !== 0 && now - newest > OLD_MS);
}

function levelMark(level) { return element("span", level === "none" ? "–" : level, `level ${level}`); }

function scoreLine(score, level) {
  const line = element("div", null, "score");
  line.append(element("span", score.condition.replaceAll("-", " ")));
  const meter = element("meter");
  meter.min = 0; meter.max = 1; meter.value = score.probability;
  meter.setAttribute("aria-label", `${score.condition} ${percent(score.probability)}`);
  line.append(meter);
  const said = element("span", `${percent(score.probability)} `);
  said.append(element("span", `(${percent(score.low)} to ${percent(score.high)})`, "soft"));
  if (score.abstains) said.append(element("span", "  cannot tell", "soft"));
  if (level) said.append(element("span", `  ${level}`, "soft"));
  line.append(said);
  return line;
}

function fill(row) {
  const { data, decided, element: tr } = row;
  const risk = data.risk;
  const level = element("td");
  level.append(levelMark(data.level));
  if (data.silent) level.append(element("div", "data silent", "soft"));
  const patient = element("td", data.patient);
  if (risk && risk.encounter) patient.append(element("div", risk.encounter, "soft"));
  if (risk && risk.merged_into) patient.append(element("div", `merged into ${risk.merged_into}`, "soft"));
  if (risk && risk.merged_from && risk.merged_from.length) {
    patient.append(element("div", `with ${risk.merged_from.join(", ")}`, "soft"));
  }
  const scores = element("td");
  const rests = element("td");
  if (risk) {
    for (const score of risk.scores) scores.append(scoreLine(score, data.levels[score.condition]));
    for (const [name, use] of risk.merged_into ? [] : Object.entries(risk.modalities)) {
      // The age was reckoned when the score was made; since then it has grown.
      rests.append(use.present
        ? telling("div", (now) => `${name} ${use.items}, ${ago(decided, now, use.age_s)} old`)
        : element("div", `no ${name}`, "soft"));
    }
  }
  const news2 = element("td", risk && risk.news2 !== null ? risk.news2 : "–");
  const updated = element("td", risk ? null : "–", "soft");
  if (risk) {
    updated.append(telling("div", (now) => `${ago(decided, now)} ago`), telling("div", (now) => moment(decided, now)));
  }
  tr.replaceChildren(level, patient, scores, news2, rests, updated);
}

function highest(data) { return data.risk ? Math.max(0, ...data.risk.scores.map((s) => s.probability)) : 0; }

function order(a, b) {
  return RANK[b.data.level] - RANK[a.data.level] || b.data.silent - a.data.silent ||
    highest(b.data) - highest(a.data) || (a.data.patient < b.data.patient ? -1 : 1);
}

function draw() {
  const onlyStanding = byId("filter").value === "standing";
  const all = [...rows.values()].sort(order);
  const chosen = all.filter((row) => !onlyStanding || row.data.level !== "none" || row.data.silent);
  const shown = chosen.slice(0, SHOWN);
  byId("rows").replaceChildren(...shown.map((row) => row.element));
  newest = all.reduce((last, row) => Math.max(last, row.decided), 0);
  refresh();
  byId("empty").hidden = shown.length > 0;
  byId("empty").textContent = rows.size ? "No alert stands." : "No score has come yet.";
  const count = (level) => all.filter((row) => row.data.level === level).length;
  const more = chosen.length > SHOWN ? `, the first ${SHOWN} shown` : "";
  byId("counts").textContent = `${rows.size} patients${more}: ${count("critical")} critical, ` +
    `${count("warning")} warning, ${count("watch")} watch`;
}

function addAlert(alert) {
  const item = element("li");
  const head = element("div");
  head.append(levelMark(alert.level), element("strong", ` ${alert.patient} `),
    telling("span", (now) => `${alert.action} · ${moment(Date.parse(alert.decision), now)}`, "soft"));
  item.append(head);
  const chance = alert.probability === null ? "" : ` ${percent(alert.probability)}`;
  item.append(element("div", `${alert.condition.replaceAll("-", " ")}${chance}`), element("p", alert.reason));
  if (alert.missing.length) item.append(element("p", `without ${alert.missing.join(", ")}`));
  item.dataset.at = alert.at;
  const list = byId("alerts");
  // While the board catches up, one partition brings older alerts than another already has.
  list.insertBefore(item, [...list.children].find((shown) => Number(shown.dataset.at) <= alert.at) || null);
  while (list.children.length > KEPT_ALERTS) list.lastElementChild.remove();
}

function take(event) {
  heard = Date.now();
  const body = JSON.parse(event.data);
  if (event.type === "snapshot") { rows.clear(); byId("alerts").replaceChildren(); }
  for (const patient of body.gone) rows.delete(patient);
  for (const data of body.rows) {
    const row = rows.get(data.patient) || { element: element("tr") };
    row.data = data;
    row.decided = data.risk && Date.parse(data.risk.decision);
    rows.set(data.patient, row);
    fill(row);
  }
  body.alerts.forEach(addAlert);
  byId("state").dataset.state = body.state;
  byId("state").textContent = { live: "live", away: "Kafka does not answer" }[body.state] || "catching up";
  draw();
}

const source = new EventSource("events");
source.addEventListener("snapshot", take);
source.addEventListener("changes", take);
byId("filter").addEventListener("change", draw);
setInterval(refresh, REFRESH_MS);
setInterval(() => {
  const quiet = Date.now() - heard > STALE_MS;
  byId("stale").hidden = !quiet;
  if (quiet) byId("stale").textContent = `Not current: nothing heard from the board since ${moment(heard, Date.now())}.`;
}, 1000);
