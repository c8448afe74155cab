// The page's parts put together: the data is read, the filters are wired, the first entry is shown.
function start() {
  const page = JSON.parse(document.getElementById("data").textContent);
  const entries = entriesOf(page);
  const byId = (id) => document.getElementById(id);
  const form = byId("filters");

  for (const domain of [...new Set(page.problems.map((problem) => problem.domain))].sort()) {
    form.elements.domain.append(el("option", { value: domain }, plain(domain)));
  }
  for (let index = 0; index <= LEVELS; index += 1) {
    byId("legend").append(el("span", { class: `t w${index}` }, number((page.max_weight * index) / LEVELS)));
  }

  const detail = new Detail(byId("detail"), page.max_weight, () => byId("list").focus());
  const list = new EntryList(byId("list"), {
    describe: (entry) => describe(entry, wanted().list),
    chosen: open,
    picked: () => matchMedia("(max-width: 50rem)").matches && byId("detail").scrollIntoView(),
    enter: () => byId("problem-title").focus(),
    search: () => form.elements.search.focus(),
  });
  let current = null;

  function open(entry) {
    current = entry;
    detail.show(entry);
    // An address is worth its length only while somebody can paste it.
    if (entry && entry.prefix.id.length <= 500) history.replaceState(null, "", `#${encodeURIComponent(entry.prefix.id)}`);
  }

  function wanted() {
    const value = (name) => form.elements[name].value;
    const limit = (name) => (form.elements[name].value === "" ? null : form.elements[name].valueAsNumber);
    return {
      list: value("listed"),
      search: value("search"),
      domain: value("domain"),
      outcome: value("outcome"),
      target: value("target"),
      order: value("order"),
      gapFrom: limit("gap-from"),
      gapTo: limit("gap-to"),
      weightFrom: limit("weight-from"),
      weightTo: limit("weight-to"),
    };
  }

  function update() {
    const filters = wanted();
    const found = select(entries, filters);
    const listed = filters.list === "problems";
    const same = listed ? (entry) => entry.problem === current?.problem : (entry) => entry === current;
    list.show(found, same);
    const of = listed ? page.problems.length : entries.length;
    byId("status").textContent = `${found.length.toLocaleString("en")} of ${listed ? count(of, "problem") : count(of, "prefix", "prefixes")}`;
    if (list.at < 0) {
      if (found.length) list.choose(0);
      else open(null);
    }
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") byId("list").focus();
  });

  const linked = entries.find((entry) => `#${encodeURIComponent(entry.prefix.id)}` === location.hash) ?? null;
  if (linked) open(linked);
  update();
  document.documentElement.dataset.ready = "yes";
  requestAnimationFrame(() => setTimeout(() => performance.mark("ready")));
}

/** An entry of the list in two lines. */
function describe(entry, listed) {
  const { problem, rollout, prefix } = entry;
  const text = (problem.prompt ?? prefix.student?.text ?? prefix.id).slice(0, 200).replaceAll(/\s+/g, " ");
  const step = `step ${prefix.index + 1}`;
  const where = listed === "problems" ? `${count(problem.rollouts.length, "rollout")}, ${step}` : step;
  const figures = [`gap ${signed(entry.gap)}`, `weight ${number(entry.weight)}`];
  const meta = [...figures, outcome(rollout.outcome), plain(problem.domain), where];
  return [el("bdi", { class: "line" }, visible(text)), el("span", { class: "line meta" }, meta.join(" · "))];
}

start();
