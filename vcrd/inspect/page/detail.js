// A problem, one of its rollouts, and at each prefix the two steps side by side.
const STEPS = 40;

function stepCard(name, step, prefix, largest) {
  const target = prefix.target === name;
  const title = el("h4", {}, NAMES.get(name), target ? el("span", { class: "chip target" }, "★ target") : null);
  const card = el("section", { class: `card${target ? " chosen" : ""}` }, title);
  if (step === null) {
    card.append(el("p", { class: "quiet" }, "not at hand"));
    return card;
  }
  card.append(shadedText(step, prefix, target, largest));
  card.append(
    facts([
      ["Local validity", validity(step)],
      ["Rule", verdict(step)],
      ["Reward model", score(step.prm, step.prm_missing)],
      ["Peer review", score(step.peer, step.peer_missing)],
      ["Completions", completions(step)],
    ]),
  );
  return card;
}

function shadedText(step, prefix, target, largest) {
  if (!target) return textBlock(step.text);
  if (prefix.tokens !== null) return tokenBlock(prefix.tokens, prefix.weights, largest);
  const mean = spread(prefix.weights).mean;
  return textBlock(step.text, { class: `w${level(mean, largest)}`, title: `mean weight ${number(mean)}` });
}

function prefixBlock(prefix, total, largest) {
  const steps = total ? ` of ${total}` : "";
  const block = el("article", { class: "prefix", tabindex: "-1", "data-id": prefix.id, "aria-label": `Step ${prefix.index + 1}${steps}` });
  const weights = spread(prefix.weights);
  block.append(el("h3", {}, `Step ${prefix.index + 1}${steps}`));
  if (prefix.note) block.append(el("p", { class: "note" }, short(prefix.note)));
  block.append(
    facts([
      ["Target", prefix.target === null ? "none" : NAMES.get(prefix.target) ?? plain(prefix.target)],
      ["Validity gap", `${signed(prefix.gap)} (teacher − student)`],
      ["Value", prefix.value === null || prefix.value === 1 ? null : number(prefix.value)],
      ["Strength", prefix.target === null ? null : number(prefix.strength)],
      ["Weight", prefix.target === null ? null : weights.said],
      ["Prefix", prefix.broken === null ? null : prefix.broken ? "✗ broken before this step" : "not known to be broken"],
    ]),
  );
  if (prefix.prefix !== null && prefix.index > 0) {
    const before = el("details", {}, el("summary", {}, "Prefix: the problem and the steps before"));
    before.append(textBlock(prefix.prefix));
    block.append(before);
  }
  const cards = el("div", { class: "cards" });
  for (const name of ["student", "teacher"]) cards.append(stepCard(name, prefix[name], prefix, largest));
  block.append(cards);
  return block;
}

function problemHead(problem) {
  const head = el("div", { class: "problem" }, el("h2", { id: "problem-title", tabindex: "-1" }, "Problem"));
  head.append(
    problem.prompt === null
      ? el("p", { class: "quiet" }, "Its text is not at hand: it lies in the run, or in the token ids (--tokenizer).")
      : textBlock(problem.prompt),
  );
  const reference = problem.reference === null ? null : short(problem.reference, CHUNK);
  head.append(
    facts([
      ["Id", el("code", {}, short(problem.id))],
      ["Domain", short(problem.domain)],
      ["Reference", reference],
      ["Source", problem.source ? short(problem.source) : null],
      ["Licence", problem.licence ? short(problem.licence) : null],
    ]),
  );
  return head;
}

class Detail {
  constructor(box, largest, leave) {
    Object.assign(this, { box, largest, leave, problem: null, rollout: null });
    box.addEventListener("keydown", (event) => this.key(event));
  }

  show(entry) {
    if (entry === null) {
      this.problem = this.rollout = null;
      this.box.replaceChildren(el("h2", { id: "problem-title" }, "Problem"), el("p", { class: "quiet" }, "Nothing is chosen."));
      return;
    }
    if (this.rollout !== entry.rollout) this.draw(entry.problem, entry.rollout, entry.prefix);
    this.mark(entry.prefix);
  }

  draw(problem, rollout, prefix) {
    Object.assign(this, { problem, rollout });
    this.box.replaceChildren(problemHead(problem), this.picker(), this.rolloutBlock(prefix));
  }

  picker() {
    const group = el("div", { role: "group", "aria-label": "Rollouts of this problem", class: "picker" });
    this.problem.rollouts.forEach((rollout, index) => {
      const pressed = String(rollout === this.rollout);
      const button = el("button", { type: "button", "aria-pressed": pressed }, `Rollout ${index + 1}: ${outcome(rollout.outcome)}`);
      button.addEventListener("click", () => {
        this.draw(this.problem, rollout, null);
        this.box.querySelectorAll(".picker button")[index].focus();
      });
      group.append(button);
    });
    return group;
  }

  rolloutBlock(wanted) {
    const { prefixes, finish, rest } = this.rollout;
    const block = el("div", { class: "rollout" });
    const known = this.rollout.outcome !== null;
    if (known) block.append(el("p", { class: "quiet" }, "Step k is proposed behind the problem and the student’s steps before it."));
    const total = known ? prefixes.length : 0;
    const box = el("div", { class: "steps" });
    // The first part reaches at least to the prefix that is asked for.
    const reach = Math.max(STEPS, prefixes.indexOf(wanted) + 1);
    if (prefixes.length) {
      more(box, prefixes.length, "steps", (from) => {
        const end = Math.min(from === 0 ? reach : from + STEPS, prefixes.length);
        const nodes = document.createDocumentFragment();
        for (const prefix of prefixes.slice(from, end)) nodes.append(prefixBlock(prefix, total, this.largest));
        return [nodes, end];
      });
    }
    block.append(box);
    if (rest) block.append(el("h3", {}, "Behind the last step, unfinished"), textBlock(rest));
    if (finish) block.append(el("p", { class: "quiet" }, "The rollout ended by: ", short(finish)));
    return block;
  }

  get blocks() {
    return [...this.box.querySelectorAll("article.prefix")];
  }

  mark(prefix) {
    const blocks = this.blocks;
    const at = this.rollout.prefixes.indexOf(prefix);
    blocks.forEach((block, index) => block.classList.toggle("current", index === at));
    this.box.scrollTop = at > 0 && blocks[at] ? blocks[at].offsetTop : 0;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { j: 1, n: 1, k: -1, p: -1 }[event.key];
    if (step) {
      const blocks = this.blocks;
      const from = blocks.findIndex((block) => block.contains(document.activeElement));
      const at = from < 0 ? (step > 0 ? 0 : blocks.length - 1) : from + step;
      blocks[Math.max(0, Math.min(at, blocks.length - 1))]?.focus();
    } else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
  }
}
