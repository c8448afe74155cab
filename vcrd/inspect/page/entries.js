// The list's entries: one for every training example, and the filters and orders over them.
const COMPARE = {
  data: (a, b) => a.place - b.place,
  teacher: (a, b) => last(b.gap) - last(a.gap),
  student: (a, b) => last(a.gap, 1) - last(b.gap, 1),
  heaviest: (a, b) => last(b.weight) - last(a.weight),
  lightest: (a, b) => last(a.weight, 1) - last(b.weight, 1),
  domain: (a, b) => (a.domain < b.domain ? -1 : a.domain > b.domain ? 1 : 0),
  outcome: (a, b) => last(b.outcome) - last(a.outcome),
};

/** What is not known comes last, whatever the direction. */
function last(value, sign = -1) {
  return value === null ? sign * Number.MAX_VALUE : value;
}

function entriesOf(page) {
  const entries = [];
  for (const problem of page.problems) {
    for (const rollout of problem.rollouts) {
      for (const prefix of rollout.prefixes) {
        if (prefix.target === null) continue;
        const { domain } = problem;
        const weight = spread(prefix.weights).mean;
        entries.push({ place: entries.length, problem, rollout, prefix, domain, weight, gap: prefix.gap, outcome: rollout.outcome });
      }
    }
  }
  return entries;
}

function searched(entry) {
  if (entry.searched === undefined) {
    const { prefix, problem } = entry;
    const parts = [prefix.id, problem.prompt ?? "", prefix.student?.text ?? "", prefix.teacher?.text ?? ""];
    entry.searched = parts.join("\n").toLowerCase();
  }
  return entry.searched;
}

function within(value, from, to) {
  if (from === null && to === null) return true;
  return value !== null && (from === null || value >= from) && (to === null || value <= to);
}

/** Filter and sort; of each problem only its first entry where problems are listed. */
function select(entries, wanted) {
  const words = wanted.search.toLowerCase();
  const kept = entries.filter(
    (entry) =>
      (wanted.domain === "" || entry.domain === wanted.domain) &&
      (wanted.outcome === "" || String(entry.outcome ?? 0) === wanted.outcome) &&
      (wanted.target === "" || entry.prefix.target === wanted.target) &&
      within(entry.gap, wanted.gapFrom, wanted.gapTo) &&
      within(entry.weight, wanted.weightFrom, wanted.weightTo) &&
      (words === "" || searched(entry).includes(words)),
  );
  kept.sort((a, b) => COMPARE[wanted.order](a, b) || a.place - b.place);
  if (wanted.list === "prefixes") return kept;
  const seen = new Set();
  return kept.filter(({ problem }) => !seen.has(problem.id) && seen.add(problem.id));
}
