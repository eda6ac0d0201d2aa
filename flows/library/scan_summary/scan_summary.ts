// SARIF nests: runs have tools, tools have rules, results refer to rules and to places. Here each finding is one flat
// object, without those that are suppressed, passed, or reported twice.

type Severity = "critical" | "high" | "medium" | "low" | "info";
type Level = "error" | "warning" | "note" | "none";

interface Rule {
  id: string;
  shortDescription?: { text: string };
  helpUri?: string;
  defaultConfiguration?: { level?: Level };
  properties?: { "security-severity"?: string };
}
interface Result {
  ruleId?: string;
  ruleIndex?: number;
  kind?: string;
  level?: Level;
  message: { text?: string };
  locations?: { physicalLocation?: { artifactLocation?: { uri?: string }; region?: { startLine?: number } } }[];
  suppressions?: unknown[];
  partialFingerprints?: Record<string, string>;
}
interface Run {
  tool: { driver: { name: string; rules?: Rule[] } };
  results?: Result[];
}
interface Finding {
  severity: Severity;
  tool: string;
  rule: string;
  title: string;
  message: string;
  file: string;
  line: number | null;
  help: string | null;
}

const RANKS: Severity[] = ["critical", "high", "medium", "low", "info"];

// The scale of CVSS 3.1. A rule without a score is ranked by its level.
function severity(rule: Rule | undefined, level: Level): Severity {
  const score = Number(rule?.properties?.["security-severity"]);
  if (score > 0) return score >= 9 ? "critical" : score >= 7 ? "high" : score >= 4 ? "medium" : "low";
  return level === "error" ? "medium" : level === "warning" ? "low" : "info";
}

function flatten(run: Run): Finding[] {
  const rules = run.tool.driver.rules ?? [];
  const seen = new Set<string>();
  const findings: Finding[] = [];
  for (const result of run.results ?? []) {
    if ((result.kind ?? "fail") !== "fail" || (result.suppressions ?? []).length > 0) continue;
    const rule = rules[result.ruleIndex ?? -1] ?? rules.find((each) => each.id === result.ruleId);
    const place = result.locations?.[0]?.physicalLocation;
    const finding: Finding = {
      severity: severity(rule, result.level ?? rule?.defaultConfiguration?.level ?? "warning"),
      tool: run.tool.driver.name,
      rule: result.ruleId ?? rule?.id ?? "?",
      title: rule?.shortDescription?.text ?? result.message.text ?? "",
      message: result.message.text ?? "",
      file: place?.artifactLocation?.uri ?? "",
      line: place?.region?.startLine ?? null,
      help: rule?.helpUri ?? null,
    };
    const print = JSON.stringify([finding.rule, finding.file, result.partialFingerprints ?? finding.line]);
    if (!seen.has(print)) findings.push(finding);
    seen.add(print);
  }
  return findings;
}

async function main({ file }: { file: string }) {
  const opened = await tools.open_resource({ sourceKind: "file", sourceId: file });
  let scan: { version?: string; runs?: Run[] };
  try {
    scan = JSON.parse(opened.content);
  } catch (problem) {
    throw `${opened.name} is not JSON: ${problem.message}`;
  }
  if (!Array.isArray(scan?.runs)) throw `${opened.name} is no SARIF file: it has no runs`;

  const place = (one: Finding) => (one.line === null ? one.file : `${one.file}:${one.line}`);
  const rank = (one: Finding) => RANKS.indexOf(one.severity);
  const inOrder = (a: Finding, b: Finding) =>
    rank(a) - rank(b) || place(a).localeCompare(place(b), "en", { numeric: true });
  const findings = scan.runs.flatMap(flatten).sort(inOrder);
  const count = (rank: Severity) => findings.filter((one) => one.severity === rank).length;
  const counts = Object.fromEntries(RANKS.map((each) => [each, count(each)]));

  const width = Math.max(5, ...findings.map((one) => place(one).length));
  const lines = findings.map((one) => `| ${one.severity.padEnd(8)} | ${place(one).padEnd(width)} | ${one.title} |`);
  const head = [`| severity | ${"place".padEnd(width)} | finding |`, `| -------- | ${"-".repeat(width)} | --- |`];
  const table = [...head, ...lines];
  const summary = RANKS.filter((each) => counts[each] > 0).map((each) => `${counts[each]} ${each}`).join(", ");
  console.log(`${scan.runs.map((run) => run.tool.driver.name).join(", ")}: ${summary || "nothing found"}`);
  console.log(table.join("\n"));
  return {
    counts,
    findings: JSON.stringify(findings, null, 2) + "\n",
    report: `## Scan: ${summary || "nothing found"}\n\n${findings.length > 0 ? table.join("\n") : ""}\n`,
  };
}
